"""The accounting at the end: what was sent, answered, delivered and counted must fit together, exactly."""

import sqlite3
from collections import Counter

RESULTS = {200: "success", 500: "refused", 404: "refused", 410: "refused", 429: "busy", 503: "busy"}

# Answers, of the gateway's and of the app's, and other ends that there are in every run of a cycle and more.
EXERCISED = {200, 400, 401, 404, 405, 408, 413, 415, 429, 431, 500, 503, "broken", "slow"}


class Account:
    def __init__(self, ledger, metrics, gateway, app, violate):
        self.ledger, self.metrics, self.gateway, self.app, self.violate = ledger, metrics, gateway, app, violate
        self.checks = 0
        self.left = (0, 0)

    def equal(self, rule, what, ours, theirs, spare=0):
        """What the gateway counts is ours, or, where something is not to be known, up to `spare` more."""
        self.checks += 1
        if not ours <= theirs <= ours + spare:
            expected = f"{ours}" if not spare else f"{ours} to {ours + spare}"
            self.violate(rule, f"{what}: the gateway says {theirs}, here it is {expected}")

    def all(self):
        for rule in (self.events, self.requests, self.verifications, self.results, self.deliveries, self.log):
            rule()

    def events(self):
        """Each event by what it came to."""
        ledger = self.ledger
        for number in range(len(ledger)):
            acknowledged = ledger.new[number] + ledger.copies[number]
            direct = ledger.source_of(number).direct
            if acknowledged and not ledger.taken[number]:
                self.violate("what was acknowledged has arrived", ledger.name(number))
            if ledger.taken[number] > 1:
                self.violate("the app takes each event once", ledger.name(number))
            if ledger.copies[number] and not ledger.new[number] and not ledger.cut[number]:
                self.violate("a duplicate is one of something new", ledger.name(number))
            if ledger.arrivals[number] and not acknowledged and not ledger.cut[number]:
                # Directly, the app may have failed each time; in the inbox is only what was acknowledged.
                if not direct or ledger.taken[number]:
                    self.violate("what has arrived was acknowledged", ledger.name(number))
        ids = [id for id in ledger.id if id]
        self.equal("ids are of one event each", "ids", len(ids), len(set(ids)))

    def requests(self):
        """Requests by source, method and status. Whose answer nobody saw was counted with some status."""
        counted = self.metrics.by("http_requests_total", "source", "method", "code")
        counted = Counter({(source, method, int(code)): value for (source, method, code), value in counted.items()})
        seen, more = self.ledger.answers, Counter()
        for key in seen | counted:
            if counted[key] < seen[key]:
                self.violate("requests are counted by their status", f"{key}: {counted[key]}, seen: {seen[key]}")
            more[key[0]] += counted[key] - seen[key]
        unclear = self.ledger.unclear.total()
        self.left = (more.total() - self.ledger.unseen.total(), unclear)
        for source in set(more) | set(self.ledger.unseen):
            unseen, unclear = self.ledger.unseen[source], self.ledger.unclear[source]
            self.equal("every request is counted once", f"requests of {source!r}", unseen, more[source], unclear)
        limited = sum(count for (_, _, status), count in seen.items() if status == 429)
        self.equal(
            "what is past a rate is counted", "429", limited, self.metrics.sum("rate_limited_total", policy="per_ip")
        )

    def verifications(self):
        counted = self.metrics.by("verifications_total", "source", "result", "key")
        ledger = self.ledger
        for source in ledger.by_name:
            keys = {key for name, result, key in counted if name == source and result == "ok"}
            for key in keys:
                generation = int(key[1:])
                ours, unseen = ledger.signed[source, generation], ledger.signed_unseen[source, generation]
                self.equal(
                    "verified requests are counted by their secret",
                    f"{source} {key}",
                    ours,
                    counted[source, "ok", key],
                    unseen,
                )
            refused = sum(count for (name, result, _), count in counted.items() if name == source and result != "ok")
            due = ledger.answers[source, "POST", 401]
            if ledger.by_name[source].vendor == "sendauth":
                # What is signed and no JSON is refused by the scheme itself.
                due += ledger.not_json[source]
            self.equal("forgeries are counted", source, due, refused)

    def results(self):
        """Events by what became of them."""
        ledger, taken = self.ledger, Counter()
        new, copies, cut, gone, acknowledged = (Counter() for _ in range(5))
        for number in range(len(ledger)):
            source = ledger.sources[ledger.source[number]]
            taken[source] += ledger.taken[number] > 0
            new[source] += ledger.new[number]
            copies[source] += ledger.copies[number]
            gone[source] += ledger.gone[number]
            cut[source] += ledger.cut[number] if ledger.may_arrive[number] else 0
        for source in ledger.by_name.values():
            name = source.name
            count = lambda result: self.metrics.sum("events_total", source=name, result=result)
            self.equal("accepted is what the app got", name, taken[name], count("accepted"))
            self.equal("accepted is what was answered as new", name, new[name], count("accepted"), cut[name])
            self.equal("duplicates are what was answered so", name, copies[name], count("duplicate"), cut[name])
            dead = 0 if source.direct else gone[name]
            self.equal("dead letters are what the app wanted no more", name, dead, count("dead_letter"))
            self.equal("nothing is filtered", name, 0, count("filtered"))
        for name in ("store_errors_total", "inbox_damaged_total"):
            self.equal("the store does not fail", name, 0, self.metrics.sum(name))
        for state in ("ready", "retrying", "dead"):
            self.equal("the inbox is drained", state, 0, self.metrics.sum("inbox_events", state=state))
        self.equal("nothing is left in flight", "requests", 0, self.metrics.sum("http_requests_in_flight"))

    def deliveries(self):
        """What the app answered, and what the gateway made of it."""
        counted = self.metrics.by("deliveries_total", "upstream", "result", "code")
        arrived = self.ledger.arrived
        for upstream in {upstream for upstream, _, _ in counted}:
            of = lambda result, code: counted[upstream, result, code]
            rule = "deliveries are what the app answered"
            for status in (200, 500, 404, 410, 429):
                self.equal(rule, f"{upstream} {status}", arrived[upstream, status], of(RESULTS[status], str(status)))
            self.equal(rule, f"{upstream} slow", arrived[upstream, "slow"], of("timeout", ""))
            if upstream != "live":
                self.equal(rule, f"{upstream} 503", arrived[upstream, 503], of("busy", "503"))
            else:
                # One that is tried again counts by its end alone.
                self.equal(
                    rule, f"{upstream} 503, at most", of("busy", "503"), arrived[upstream, 503], arrived[upstream, 503]
                )
            # A connection that the app closes as it is used breaks a request, too, that the app has not seen.
            self.equal(rule, f"{upstream} broken", arrived[upstream, "broken"], of("broken", ""), self.app.closed)

    def log(self):
        """The access log tells the same as the metrics, and of no defect."""
        counted = self.metrics.by("http_requests_total", "source", "code")
        counted = Counter({(source, int(code)): value for (source, code), value in counted.items() if value})
        for key in counted | self.gateway.requests:
            self.equal("every request has its line in the log", str(key), counted[key], self.gateway.requests[key])
        for (level, message), count in self.gateway.messages.items():
            known = message.startswith("the new configuration is not used")
            telling = any(word in message for word in ("panic", "defect", "dropped"))
            if telling or level == "ERROR" and not known:
                self.violate("the log tells of no defect", f"{message} ({count})")

    def exercised(self):
        """What was not there was not looked at."""
        had = {how for _, how in self.ledger.arrived} | {
            int(what[:3]) for _, what in self.ledger.outcomes if what[0] in "245"
        }
        for missing in EXERCISED - had:
            self.violate("everything is exercised", str(missing))

    def inbox(self, path):
        """The file, once the gateway has closed it."""
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as file:
            faults = [fault for (fault,) in file.execute("PRAGMA integrity_check") if fault != "ok"]
            self.equal("the inbox is sound", str(faults), 0, len(faults))
            left = file.execute("SELECT count(*) FROM deliveries WHERE state <> 'delivered'").fetchone()[0]
            self.equal("the inbox is drained", "deliveries in the file", 0, left)
