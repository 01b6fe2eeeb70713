"""The app behind the gateway: it verifies, counts, and has its bad days."""

import asyncio
import base64
import hashlib
import hmac
import itertools
import random
import time

import vendors
import wire
from gateway import TIMEOUT_S

SKEW_MAX_S = 300
# How long after a bad phase what went wrong in it may still be heard of: attempts that began in it, and their copies.
AFTERMATH_S = TIMEOUT_S + 1
# A good day is so many times as long as a bad one.
WELL_FACTOR = 2
PHASES = ("well", "errors", "well", "busy", "well", "resets", "well", "slow", "well", "down")


class App:
    def __init__(self, secrets, ledger, violate, rng: random.Random, plant):
        self.secrets, self.ledger, self.violate, self.rng, self.plant = secrets, ledger, violate, rng, plant
        self.accepted = [secrets.of("app")]
        self.phase, self.since, self.turns = "well", time.monotonic() - AFTERMATH_S, 0
        self.server, self.port = None, 0
        self.writers, self.closed = set(), 0
        self.last_of_lane = {}
        self.digests = {}  # of bodies that must arrive byte for byte
        self.planted = False

    async def open(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port, limit=256 << 10, backlog=1024)
        self.port = self.server.sockets[0].getsockname()[1]

    async def turn(self, phase):
        if self.phase == "down":
            await self.open()
        self.phase, self.since, self.turns = phase, time.monotonic(), self.turns + 1
        if phase == "down":
            self.close()

    async def live(self, phase_s):
        """Has good and bad days, until cancelled."""
        for phase in itertools.cycle(PHASES):
            await self.turn(phase)
            await asyncio.sleep(phase_s * (WELL_FACTOR if phase == "well" else 1))

    def well(self):
        """A token that is the same as long as the app is well and has been for a while; none if it is not."""
        calm = self.phase == "well" and time.monotonic() - self.since > AFTERMATH_S
        return self.turns if calm else None

    def close(self):
        self.server.close()
        self.closed += len(self.writers)
        for writer in list(self.writers):
            writer.close()

    # === a connection ===

    async def serve(self, reader, writer):
        self.writers.add(writer)
        try:
            while not writer.is_closing():
                found = await wire.read_head(reader)
                if found is None:
                    return
                line, headers = found
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                await self.receive(line.split(" ")[1].removeprefix("/"), headers, body, writer)
        except wire.BROKEN:
            pass  # a part of a request is none
        finally:
            self.writers.discard(writer)
            writer.close()

    async def receive(self, upstream, headers, body, writer):
        id, number = headers.get("webhook-id", ""), self.number_of(headers, body)
        if number is None:
            return self.answer(writer, 400)
        if upstream != "stored" and self.plant == "drop" and not self.planted:
            self.planted = True
            return self.answer(writer, 200)
        self.ledger.arrives(number, id, upstream, headers.get("hookwarden-source"))
        if self.plant == "twice" and not self.planted:
            self.planted = True
            self.ledger.arrives(number, id, upstream, headers.get("hookwarden-source"))
        if (digest := self.digests.get(number)) and hashlib.sha256(body).digest() != digest:
            self.violate("raw bodies arrive byte for byte", self.ledger.name(number))
        how = self.mood()
        if how == "slow":
            # Whatever is answered then, nobody hears it.
            self.ledger.settles(number, upstream, "slow")
            await asyncio.sleep(TIMEOUT_S + 1)
            return self.answer(writer, 200)
        if how == "tardy":
            await asyncio.sleep(self.rng.uniform(0.05, 0.3))
            how = 200
        if how == "broken" or writer.is_closing():
            self.ledger.settles(number, upstream, "broken")
            if self.rng.random() < 0.5:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
            return wire.reset(writer)
        self.ledger.settles(number, upstream, how)
        if how == 200:
            self.digests.pop(number, None)
            self.in_order(upstream, headers, number)
        self.answer(writer, how)

    def mood(self):
        """How this request is answered."""
        match self.phase:
            case "errors":
                return self.rng.choices((500, 404, 410, 429), (80, 10, 3, 7))[0]
            case "busy":
                return 503
            case "resets":
                return "broken"
            case "slow":
                return "slow" if self.rng.random() < 0.7 else "tardy"
            case "down":
                return "broken"
        return 200

    def answer(self, writer, status):
        retry = "retry-after: 1\r\n" if status in (429, 503) else ""
        writer.write(f"HTTP/1.1 {status} X\r\n{retry}content-length: 0\r\n\r\n".encode())

    # === what is looked at ===

    def number_of(self, headers, body):
        """Which event it is, if it is one and signed as it should be."""
        if not self.signed(headers, body):
            self.violate("every request to the app is signed", str(headers.get("webhook-id")))
            return None
        found = vendors.MARK.search(body)
        if found is None or int(found[1]) >= len(self.ledger):
            self.violate("only what was sent arrives", f"{headers.get('webhook-id')}: {body[:200]!r}")
            return None
        return int(found[1])

    def signed(self, headers, body):
        id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > SKEW_MAX_S:
            return False
        given = headers.get("webhook-signature", "").split(" ")
        for secret in self.accepted:
            key = base64.b64decode(secret.removeprefix("whsec_"))
            digest = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
            if f"v1,{base64.b64encode(digest).decode()}" in given:
                return True
        return False

    def in_order(self, upstream, headers, number):
        """The events of a caller who sends one after the other are taken in that order; a replay goes behind them."""
        lane = headers.get("ce-partitionkey", "")
        if upstream == "lanes" and lane.startswith("ordered-") and "ce-hwreplay" not in headers:
            if self.plant == "disorder":
                self.last_of_lane.setdefault(lane, number + 1)
            if number < self.last_of_lane.get(lane, -1):
                self.violate(
                    "a partition keeps its order", f"{self.ledger.name(number)} after {self.last_of_lane[lane]}"
                )
            self.last_of_lane[lane] = max(number, self.last_of_lane.get(lane, -1))
