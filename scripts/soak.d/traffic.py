"""What vendors, strangers and broken clients send, and what they must be answered."""

import asyncio
import collections
import hashlib
import json
import random
import time
import traceback

import gateway as limits
import http2
import vendors
import wire
from ledger import Event

# By how often: the name of the method, and how many requests it makes.
KINDS = {
    "good": (50, 1),
    "copies": (4, 3),
    "repeat": (10, 1),
    "forged": (8, 1),
    "not_json": (4, 1),
    "bad_http": (3, 1),
    "oversized": (2, 1),
    "drip": (2, 1),
    "dawdle": (1, 1),
    "silent": (0.3, 1),
    "hang_up": (5, 1),
    "misdirected": (4, 1),
    "http2": (1, 3),
}
# From the first sending of an event to its last retry: below every vendor's and the inbox's own horizon.
RETRY_S = (0.5, 6)
RETRIES_MAX = 4
TICK_S = 0.02
RUNNING_MAX = 3000
FLOOD_EVERY_S = 15
FLOOD = 200
LINGER_S = 0.03
# Times that keep a caller well within, or well past, `header_timeout` and `body_timeout`, in so many pieces.
PIECES = 4
IN_TIME_S = 0.3
TOO_LATE_S = 1.5

REFUSALS = {"502", "503", "504"}


class Traffic:
    def __init__(self, port, sources, secrets, app, ledger, violate, rng: random.Random, rate, entries_max, plant):
        self.port, self.sources, self.secrets, self.app = port, sources, secrets, app
        self.ledger, self.violate, self.rng, self.rate, self.plant = ledger, violate, rng, rate, plant
        self.client = wire.Client(port, limits.PATIENCE_S)
        # Acknowledged events that may be repeated: recent enough for the gateway to remember.
        self.recent = collections.deque(maxlen=max(100, entries_max // 4))
        self.running = set()
        self.skipped = 0
        self.stopping = False

    async def run(self, until):
        """Sends until then, and hears all answers out."""
        ordered = [self.spawn(self.in_order(source)) for source in self.sources if source.upstream == "lanes"]
        flood = self.spawn(self.flood())
        names, weights = list(KINDS), [weight for weight, _ in KINDS.values()]
        last, owed = time.monotonic(), 0.0
        while (now := time.monotonic()) < until:
            # After a pause what is missed is not made up for all at once.
            owed, last = min(owed + (now - last) * self.rate, self.rate / 4), now
            while owed > 0:
                kind = self.rng.choices(names, weights)[0]
                owed -= KINDS[kind][1]
                if len(self.running) < RUNNING_MAX:
                    self.spawn(getattr(self, kind)())
                else:
                    self.skipped += 1
            await asyncio.sleep(TICK_S)
        self.stopping = True
        flood.cancel()
        await asyncio.gather(*ordered)
        while self.running:
            await asyncio.wait(self.running)
        self.client.close()

    def spawn(self, work):
        task = asyncio.create_task(work)
        self.running.add(task)
        task.add_done_callback(self.done)
        return task

    def done(self, task):
        self.running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.violate("this script makes no mistakes", "".join(traceback.format_exception(error)))

    # === events and requests ===

    def new(self, may_arrive=True, source=None, user=None):
        source = source or self.rng.choice(self.sources)
        padding = self.rng.choices((0, 500, 4000, 30000), (60, 30, 8, 2))[0]
        number = self.ledger.event(source, may_arrive)
        body = vendors.body(source.vendor, number, user or f"user-{self.rng.randrange(200)}", padding)
        if may_arrive and source.upstream == "stored":
            self.app.digests[number] = hashlib.sha256(body).digest()
        return Event(number, source, body)

    def headers(self, source, body, secret=None, generation=None):
        secret = secret or self.secrets.of(source.name, generation)
        proof = vendors.signature(source.vendor, secret, source.path, body)
        return [
            ("content-type", "application/json"),
            ("x-forwarded-for", wire.address(self.rng)),
            (vendors.HEADERS[source.vendor], proof),
        ]

    def request(self, event, method="POST", **signing):
        head = wire.head(event.source.path, self.headers(event.source, event.body, **signing), len(event.body), method)
        return head + event.body

    # === good ones ===

    async def good(self):
        event = self.new()
        if self.rng.random() < 0.1:
            headers = self.headers(event.source, event.body)
            await self.deliver("good, chunked", event, wire.head(event.source.path, headers) + wire.chunked(event.body))
        else:
            await self.deliver("good", event)

    async def drip(self):
        """Slow, but in time: in the head, or in the body."""
        event = self.new()
        await self.deliver("good, slow", event, *self.pieces(event, self.rng.random() < 0.5), pause_s=IN_TIME_S)

    def pieces(self, event, in_head):
        data = self.request(event)
        cut = data.index(b"\r\n\r\n") + 4
        first, last = (20, cut - 1) if in_head else (cut + 1, len(data) - 1)
        at = [0] + [first + (last - first) * n // (PIECES - 1) for n in range(PIECES)] + [len(data)]
        return [data[begin:end] for begin, end in zip(at, at[1:])]

    async def copies(self):
        """The same bytes several times at once."""
        event = self.new()
        await asyncio.gather(*(self.deliver("copy at once", event) for _ in range(KINDS["copies"][1])))

    async def repeat(self):
        """The same bytes again, after they were acknowledged."""
        if not self.recent:
            return await self.good()
        event = self.rng.choice(self.recent)
        answer = await self.deliver("repeat", event)
        if answer and answer.status == 200 and not answer.duplicate:
            self.violate("a repetition of what was acknowledged is a duplicate", self.ledger.name(event.number))

    async def in_order(self, source):
        """One event after the other, each when the one before was acknowledged."""
        while not self.stopping:
            event = self.new(source=source, user=f"ordered-{source.name}")
            await self.deliver("good, in order", event)
            await asyncio.sleep(self.rng.uniform(0.1, 0.5))

    async def http2(self):
        events = [self.new() for _ in range(KINDS["http2"][1])]
        requests = [(e.source.path, self.headers(e.source, e.body), e.body) for e in events]
        begun = self.begin()
        for event, (status, body) in zip(events, await http2.post(self.port, requests, limits.PATIENCE_S)):
            answer = None
            if status:
                headers = {}
                answered = json.loads(body)
                # Of headers, only the status is read: an id in the body stands for the one there.
                headers["hookwarden-event-id" if status == 200 else "hookwarden-error"] = answered.get("id", "some")
                answer = wire.Answer(status, headers, body)
            await self.judge("good, HTTP/2", event, answer, begun)

    def begin(self):
        """What an answer is judged by: the secret that was used, whether the app was well, and when."""
        return self.secrets.used, self.app.well(), time.monotonic()

    async def deliver(self, kind, event, *pieces, **how):
        """Sends what should be taken, as it is unless pieces are given, and again if it was not."""
        begun = self.begin()
        pieces = pieces or (self.request(event),)
        answer = await self.client.exchange(*pieces, fresh=self.rng.random() < 0.3, **how)
        if self.plant == "miscount" and kind == "good" and answer and answer.status == 200:
            self.plant = None
            return answer
        return await self.judge(kind, event, answer, begun)

    async def judge(self, kind, event, answer, begun):
        number, source, ledger = event.number, event.source, self.ledger
        generation, well, began = begun
        if answer is None:
            ledger.unanswered(kind, number, source, "closed", "unclear")
            self.violate.in_time("what is good and whole is answered", ledger.name(number), began)
            return None
        ledger.answered(kind, number, source, answer)
        status = str(answer.status)
        if status == "200":
            ledger.acknowledged(number, answer)
            if ledger.new[number] + ledger.copies[number] == 1:
                self.recent.append(event)
        elif not source.direct or status not in REFUSALS:
            self.violate.in_time("good events are taken, or the app did not", f"{ledger.name(number)}: {status}", began)
        elif well is not None and self.app.well() == well:
            what = f"{ledger.name(number)}: {status}"
            self.violate.in_time("good events are taken as long as the app is well", what, began)
        # Whose body was too slow was not verified.
        ledger.signed[source.name, generation] += status != "408"
        if status != "200":
            self.again(event, 0.6)
        return answer

    def again(self, event, chance):
        """The vendor's own retry."""
        if not self.stopping and event.tries < RETRIES_MAX and self.rng.random() < chance:
            event.tries += 1
            self.spawn(self.retry(event))

    async def retry(self, event):
        await asyncio.sleep(self.rng.uniform(*RETRY_S))
        await self.deliver("retry", event)

    # === what must not pass ===

    async def refused(self, kind, event, data, statuses, source="its own", method="POST", closes=False, fresh=True):
        """Sends what must be answered so, or, where that is as good, with the end of the connection: `closes` says whether
        the gateway then counted a request. On a connection of its own if its body may be left unread."""
        source, began = event.source if source == "its own" else source, time.monotonic()
        answer = await self.client.exchange(data, fresh=fresh)
        if answer is None:
            self.ledger.unanswered(kind, event.number, source, "closed", closes or "unclear")
            if not closes:
                what = f"{kind}: {self.ledger.name(event.number)}"
                self.violate.in_time("a refusal is an answer", what, began)
            return
        self.ledger.answered(kind, event.number, source, answer, method)
        if answer.status not in statuses:
            what, rule = f"{kind} {answer.status}: {self.ledger.name(event.number)}", "each refusal has its own status"
            self.violate.in_time(rule, what, began) if answer.status == 408 else self.violate(rule, what)

    async def forged(self):
        event = self.new(may_arrive=False)
        name, right = vendors.HEADERS[event.source.vendor], dict(self.headers(event.source, event.body))
        good = right[name]
        retired = self.secrets.retired and self.secrets.of(event.source.name, self.secrets.retired)
        how = self.rng.choice(("guess", "other", "none", "half", "empty", "twice", "retired"))
        if self.plant == "forge":
            self.plant, how = None, "right"
        lines = [(header, value) for header, value in right.items() if header != name]
        values = {
            "right": [good],
            "guess": [vendors.signature(event.source.vendor, "a guess", event.source.path, event.body)],
            "other": [hashlib.sha256(event.body).hexdigest()],
            "none": [],
            "half": [good[: len(good) // 2]],
            "empty": [""],
            "twice": [good, good],
            "retired": [vendors.signature(event.source.vendor, retired or "a guess", event.source.path, event.body)],
        }  # fmt: skip
        lines += [(name, value) for value in values[how]]
        data = wire.head(event.source.path, lines, len(event.body)) + event.body
        await self.refused("forged", event, data, {401}, fresh=self.rng.random() < 0.3)

    async def not_json(self):
        """Signed as it should be, and not one JSON document."""
        event = self.new(may_arrive=False)
        body = event.body
        event.body = self.rng.choice((
            body[:-1],
            body + b"\n" + body,
            body + b"x",
            body.replace(b'"', b"'"),
            body.replace(b"soak-", b"\xffsoak-", 1),
            b"mark=" + vendors.mark(event.number).encode(),
            b'{"a":' * 200 + body + b"}" * 200,
        ))  # fmt: skip
        generation = self.secrets.used
        await self.refused("not JSON", event, self.request(event), {400}, fresh=self.rng.random() < 0.3)
        # SendAuth's scheme itself asks for JSON: that counts as not verified.
        if event.source.vendor == "sendauth":
            self.ledger.not_json[event.source.name] += 1
        else:
            self.ledger.signed[event.source.name, generation] += 1

    async def bad_http(self):
        """What two programs could read differently, with a whole good request behind it."""
        event, behind = self.new(may_arrive=False), self.new(may_arrive=False)
        proof = "\r\n".join(f"{name}: {value}" for name, value in self.headers(event.source, event.body))
        length, chunk = len(event.body), wire.chunked(event.body)
        lines, body = self.rng.choice((
            (f"content-length: {length}", event.body),
            (f"host: a\r\nhost: b\r\ncontent-length: {length}", event.body),
            ("host: a\r\ntransfer-encoding: gzip, chunked", chunk),
            ("host: a\r\ntransfer-encoding: chunked, chunked", chunk),
            (f"host: a\r\ncontent-length: {length}\r\ncontent-length: 1", event.body),
            (f"host: a\r\ncontent-length: +{length}", event.body),
            (f"host: a\r\ncontent-length : {length}", event.body),
            (f"host: a\r\nx: y\r\n folded\r\ncontent-length: {length}", event.body),
            (f"host: a\r\nno colon\r\ncontent-length: {length}", event.body),
            (f"host: a\r\nupgrade: h2c\r\nconnection: upgrade\r\ncontent-length: {length}", event.body),
            ("host: a\r\ntransfer-encoding: chunked", b"0x" + chunk),
            ("host: a\r\ntransfer-encoding: chunked", b"-1\r\n" + chunk),
        ))  # fmt: skip
        head = f"POST {event.source.path} HTTP/1.1\r\n{proof}\r\n{lines}\r\n\r\n".encode()
        data = head + body + self.request(behind)
        # Who is refused in the middle of what it sends may see the end of the connection before the answer.
        await self.refused("bad HTTP", event, data, {400, 501}, closes="unclear")

    async def oversized(self):
        event, how = self.new(may_arrive=False), self.rng.choice(("declared", "counted", "head"))
        path, proof = event.source.path, self.headers(event.source, event.body)
        if how == "head":
            data = wire.head(path, [("x", "y" * 100_000), *proof], len(event.body)) + event.body
            return await self.refused("oversized head", event, data, {400, 431}, closes="not counted")
        event.body += b" " * limits.BODY_BYTES_MAX
        if how == "declared":
            data = self.request(event)
        else:
            data = wire.head(path, proof) + wire.chunked(event.body)
        await self.refused("oversized", event, data, {413}, closes="counted")

    async def dawdle(self):
        """Too slow: the head never comes to its end, or the body does not."""
        event, in_head = self.new(may_arrive=False), self.rng.random() < 0.5
        pieces = self.pieces(event, in_head)
        answer = await self.client.exchange(*pieces, fresh=True, pause_s=TOO_LATE_S)
        kind = "too slow, in its head" if in_head else "too slow, in its body"
        if answer is None:
            self.ledger.unanswered(kind, event.number, event.source, "closed", "not counted" if in_head else "counted")
        else:
            self.ledger.answered(kind, event.number, event.source, answer)
        if (answer and answer.status) != (None if in_head else 408):
            self.violate("who is too slow is cut off", f"{kind}: {self.ledger.name(event.number)}")

    async def silent(self):
        """Connects and says nothing."""
        event = self.new(may_arrive=False)
        answer = await self.client.exchange(fresh=True)
        self.ledger.unanswered("silent", event.number, event.source, "closed", "not counted")
        if answer:
            self.violate("who says nothing hears nothing", str(answer.status))

    async def hang_up(self):
        how = self.rng.choice(("in the head", "in the body", "reset", "at once", "whole", "whole"))
        event, kind = self.new(may_arrive=how == "whole"), f"hangs up, {how}"
        data, source = self.request(event), event.source
        body = data.index(b"\r\n\r\n") + 4
        # Whose whole request comes together with its end may be gone before work on it begins: then it is not counted.
        counted = "unclear" if how == "whole" else "counted"
        if how == "whole":
            self.ledger.signed_unseen[source.name, self.secrets.used] += 1
            await self.client.hang_up(data, pause_s=self.rng.uniform(0, LINGER_S))
        elif how in ("in the body", "reset"):
            headers = [("expect", "100-continue"), *self.headers(source, event.body)]
            head, part = wire.head(source.path, headers, len(event.body)), event.body[: len(event.body) // 2]
            if not await self.client.ask_and_leave(head, part, abruptly=how == "reset"):
                self.violate("who asks is told to go on", self.ledger.name(event.number))
        else:
            first, last = (20, body - 1) if how == "in the head" else (body, len(data) - 1)
            await self.client.hang_up(data[: self.rng.randrange(first, last)])
            counted = "not counted" if how == "in the head" else "counted"
        self.ledger.cut[event.number] += 1
        self.ledger.unanswered(kind, event.number, source, "cut", counted)
        if how == "whole":
            self.again(event, 0.5)

    async def misdirected(self):
        event = self.new(may_arrive=False)
        path, proof, length = event.source.path, self.headers(event.source, event.body), len(event.body)
        how = self.rng.choice(("path", "method", "type", "encoding"))
        method, source, status = "POST", event.source, 415
        if how == "path":
            path = self.rng.choice(
                (f"{path}/", path.upper(), f"/{path}", "/", "/metrics", path.replace("in", "%69n", 1))
            )
            source, status = None, 404
        elif how == "method":
            method, status = self.rng.choice(("GET", "PUT", "DELETE", "PATCH")), 405
        elif how == "type":
            proof[0] = ("content-type", "text/plain")
        else:
            proof.append(("content-encoding", "gzip"))
        data = wire.head(path, proof, length, method) + event.body
        await self.refused(f"wrong {how}", event, data, {status}, source=source, method=method)

    async def flood(self):
        """One address sends forgeries faster than it may."""
        while True:
            await asyncio.sleep(FLOOD_EVERY_S)
            for _ in range(FLOOD):
                event = self.new(may_arrive=False)
                lines = [("content-type", "application/json"), ("x-forwarded-for", "203.0.113.66")]
                data = wire.head(event.source.path, lines, len(event.body)) + event.body
                self.spawn(self.refused("flood", event, data, {401, 429}))
                await asyncio.sleep(0.002)
