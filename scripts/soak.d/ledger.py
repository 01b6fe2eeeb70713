"""What was sent, what was answered and what arrived: one number an event, a column a fact, so that an hour of traffic
fits into memory. Rules that can be judged at once are judged here; `account` judges the rest at the end."""

import time
from collections import Counter, defaultdict

NAMED_MAX = 20  # ids a broken rule shows
# Of all requests, those that may end otherwise than they should while the machine holds everything up.
EXCUSED_SHARE_MAX = 0.005


class Violations:
    """Rules that were broken, and by which events."""

    def __init__(self):
        self.counts = Counter()
        self.named = defaultdict(list)
        self.timed = []
        self.excused = Counter()
        self.began = time.monotonic()

    def __call__(self, rule, what, now=None):
        self.counts[rule] += 1
        if len(self.named[rule]) < NAMED_MAX:
            self.named[rule].append(f"{(now or time.monotonic()) - self.began:8.2f}s {what}")

    def in_time(self, rule, what, began):
        """Breaks a rule that holds only where programs run when they should: unless this script was held up meanwhile."""
        self.timed.append((rule, what, began, time.monotonic()))

    def settle(self, stalls, requests):
        """What broke a rule in time, and what was excused: `stalls` are from when to when."""
        for rule, what, began, ended in self.timed:
            if any(begin <= ended and began <= end for begin, end in stalls):
                self.excused[rule] += 1
            else:
                self(rule, what, ended)
        if self.excused.total() > requests * EXCUSED_SHARE_MAX:
            self("the machine lets programs run", f"{self.excused.total()} requests of {requests} were held up")

    def report(self):
        for rule, count in self.counts.items():
            yield f"VIOLATION {rule}: {count}"
            yield from (f"    {what}" for what in self.named[rule])
            if count > NAMED_MAX:
                yield f"    and {count - NAMED_MAX} more"


class Event:
    """An event that may be sent again."""

    __slots__ = ("number", "source", "body", "tries")

    def __init__(self, number, source, body):
        self.number, self.source, self.body, self.tries = number, source, body, 0


class Ledger:
    def __init__(self, sources, violate, journal):
        self.violate, self.journal = violate, journal
        self.sources = [source.name for source in sources]
        self.by_name = {source.name: source for source in sources}
        self.began = time.monotonic()
        # === by event ===
        self.source = bytearray()
        self.may_arrive = bytearray()
        self.cut = bytearray()  # requests whose callers did not wait for the answer
        self.new = bytearray()  # answers 200 that were no duplicates
        self.copies = bytearray()  # answers 200 that were
        self.arrivals = bytearray()
        self.failed = bytearray()  # arrivals that the app did not take, or too late
        self.taken = bytearray()  # arrivals that the app answered 2xx in time
        self.gone = bytearray()  # arrivals answered 410
        self.id = []
        # === by request ===
        self.outcomes = Counter()  # by kind and what came of it
        self.answers = Counter()  # that the gateway counts, by source, method and status
        self.unseen = Counter()  # that it counts, but whose answer nobody saw, by source
        self.unclear = Counter()  # that it may count, by source
        self.signed = Counter()  # that were verified as far as their answers tell, by source and secret
        self.signed_unseen = Counter()  # that may have been
        self.not_json = Counter()  # signed, by source
        self.arrived = Counter()  # at the app, by upstream and how it answered

    def event(self, source, may_arrive=True):
        """The number of a new event."""
        self.source.append(self.sources.index(source.name))
        for column in (self.cut, self.new, self.copies, self.arrivals, self.failed, self.taken, self.gone):
            column.append(0)
        self.may_arrive.append(may_arrive)
        self.id.append(None)
        return len(self.id) - 1

    def __len__(self):
        return len(self.id)

    def source_of(self, number):
        return self.by_name[self.sources[self.source[number]]]

    def name(self, number):
        """An event as a violation shows it."""
        id = f"hw1_{self.id[number].hex()}" if self.id[number] else "id unknown"
        columns = ("cut", "new", "copies", "arrivals", "failed", "taken", "gone")
        facts = ", ".join(f"{column} {getattr(self, column)[number]}" for column in columns)
        return f"event {number} ({self.sources[self.source[number]]}, {id}): {facts}"

    def note(self, *facts):
        print(f"{time.monotonic() - self.began:.3f}", *facts, file=self.journal)

    def known_as(self, number, id):
        """All that name an event's id say the same."""
        raw = bytes.fromhex(id.removeprefix("hw1_"))
        if self.id[number] is None:
            self.id[number] = raw
        elif self.id[number] != raw:
            self.violate("an event has one id", f"{self.name(number)}, also {id}")

    # === requests ===

    def outcome(self, kind, number, what):
        self.outcomes[kind, what] += 1
        self.note("sent", kind, number, what)

    def answered(self, kind, number, source, answer, method="POST"):
        """An answer came. `source`: of the path that was asked, none if it is no source's."""
        what = str(answer.status)
        if answer.counted:
            self.answers[source.name if source else "", method, answer.status] += 1
            if answer.status == 200:
                what += " duplicate" if answer.duplicate else " new"
        self.outcome(kind, number, what)

    def unanswered(self, kind, number, source, what, counted):
        """No answer came, or nobody waited for it. `counted`, `not counted`, `unclear`: whether the gateway saw a request
        at all."""
        column = {"counted": self.unseen, "unclear": self.unclear, "not counted": Counter()}[counted]
        column[source.name if source else ""] += 1
        self.outcome(kind, number, what)

    def acknowledged(self, number, answer):
        """The gateway says that it has the event."""
        if answer.duplicate:
            self.copies[number] = min(self.copies[number] + 1, 255)
        else:
            self.new[number] += 1
        if not self.may_arrive[number]:
            self.violate("what must not arrive is never acknowledged", self.name(number))
        if answer.id is None:
            self.violate("an acknowledgement names the event", self.name(number))
        else:
            self.known_as(number, answer.id)
        if self.new[number] > 1:
            self.violate("an event is new once", self.name(number))
        if self.source_of(number).direct and not self.taken[number]:
            self.violate("direct: acknowledged only what the app has taken", self.name(number))

    # === arrivals ===

    def arrives(self, number, id, upstream, source):
        """An event reached the app."""
        self.known_as(number, id)
        self.arrivals[number] = min(self.arrivals[number] + 1, 255)
        if not self.may_arrive[number]:
            self.violate("nothing forged, malformed or cut arrives", self.name(number))
        if self.arrivals[number] > 1 + self.failed[number]:
            self.violate("what the app has taken, or is taking, does not come again", self.name(number))
        if (expected := self.source_of(number)).name != source or expected.upstream != upstream:
            self.violate("an event goes to the upstream of its source", f"{self.name(number)}: {upstream}, {source}")

    def settles(self, number, upstream, how):
        """The app's answer: a status, or in a word why there is none."""
        self.arrived[upstream, how] += 1
        self.note("arrived", upstream, number, how)
        if how == 200:
            self.taken[number] = min(self.taken[number] + 1, 255)
        else:
            self.failed[number] = min(self.failed[number] + 1, 255)
            self.gone[number] += how == 410
