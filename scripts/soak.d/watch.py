"""What the process holds: memory, open files, threads, sampled while it runs, and whether that stays as it is."""

import asyncio
import statistics
import time
from dataclasses import dataclass, fields

EVERY_MAX_S = 5
# What the end may have more than the time after the warm-up. Memory: the allocator's own back and forth. Files and
# threads: those of the connections and reloads that happen to be there.
# Once it forgets as much as comes in, the inbox takes as much as in the middle.
INBOX_MARGIN = (0.25, 4 << 10)  # KiB
# At rest: what is there at the start, and the connections to apps that it keeps (64 each).
KEPT_MAX, REST_MARGIN = 64, 16
RSS_MARGIN = (0.10, 24 << 10)  # KiB
OPEN_MARGIN = (0.25, 64)
THREADS_MARGIN = (0.0, 8)
# Longer than this nothing that is due may wait, else what depends on time tells nothing of the gateway.
STALL_S = 0.4
# Of each remembered id, in bytes: README, "under load the process grew by 115 MB" with a million.
ID_BYTES = 128


@dataclass
class Sample:
    at: float
    calm: bool  # the app was well, and had been for a while
    rss: int  # KiB
    anon: int  # KiB of it that are no file's
    open: int
    threads: int
    ids: int
    inbox: int  # KiB
    waiting: int


class Watch:
    def __init__(self, gateway, app, every_s, cycle_s, table, plant):
        self.table = table
        print(*(field.name for field in fields(Sample)), sep="\t", file=table)
        self.gateway, self.app, self.plant = gateway, app, plant
        self.every_s, self.cycle_s = every_s, cycle_s
        self.samples, self.stalls = [], []
        self.began = time.monotonic()

    async def sample(self):
        rss, anon, open, threads = self.gateway.resources()
        metrics = await self.gateway.metrics()
        if self.plant == "leak":
            rss += 4096 * len(self.samples)
        waiting = metrics.sum("inbox_events", state="ready") + metrics.sum("inbox_events", state="retrying")
        sample = Sample(
            time.monotonic() - self.began, self.app.well() is not None, rss, anon, open, threads,
            metrics.sum("dedup_entries"), metrics.sum("inbox_bytes") >> 10, waiting,
        )  # fmt: skip
        self.samples.append(sample)
        print(*vars(sample).values(), sep="\t", file=self.table, flush=True)

    async def look(self):
        """Samples, until cancelled."""
        while True:
            await self.sample()
            await asyncio.sleep(self.every_s)

    async def stall(self):
        """Notices when this script itself is held up, which may look like a fault of the gateway's."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.1)
            late = time.monotonic() - before - 0.1
            if late > STALL_S:
                self.stalls.append((before, before + 0.1 + late))

    def judge(self, warm_s, end_s, forgets_s, upstreams, violate):
        """Compares the time after the warm-up with the end, each a whole cycle of the app's days or a tenth of all: by the
        median while the app is well, since more is under way when it is not; memory by its least, since what is given
        back comes and goes in bursts. The table of both."""
        span = min((end_s - warm_s) / 2, max((end_s - warm_s) / 10, self.cycle_s))
        loaded = [sample for sample in self.samples if sample.at <= end_s]
        within = lambda begin, end: [sample for sample in loaded if begin <= sample.at <= end]
        calm = lambda found: [sample for sample in found if sample.calm] or found
        middle_s = (warm_s + end_s) / 2
        columns = {
            "start": loaded[:1],
            "warm": within(warm_s, warm_s + span),
            "middle": within(middle_s - span / 2, middle_s + span / 2),
            "end": within(end_s - span, end_s),
        }
        quiet = self.samples[-1]
        rows, growth = [], {}
        for name in ("rss", "anon", "open", "threads", "ids", "inbox", "waiting"):
            typical = min if name in ("rss", "anon") else statistics.median_low
            considered = (lambda found: found) if typical is min else calm
            row = {
                column: typical([getattr(sample, name) for sample in considered(found)])
                for column, found in columns.items()
            }
            row["max"] = max(getattr(sample, name) for sample in loaded)
            row["quiet"] = getattr(quiet, name)
            growth[name] = row
            rows.append((name, row))
        rest = growth["open"]["start"] + upstreams * KEPT_MAX + REST_MARGIN
        if quiet.open > rest:
            violate("at rest it holds nothing", f"open files: {quiet.open}, at most {rest}")
        if middle_s - span / 2 > forgets_s:
            (share, fixed), row = INBOX_MARGIN, growth["inbox"]
            row["bound"] = int(row["middle"] * (1 + share) + fixed)
            if row["end"] > row["bound"]:
                violate("it stays as it is", f"inbox: {row}")
        ids = max(0, growth["ids"]["end"] - growth["ids"]["warm"]) * ID_BYTES >> 10
        bounds = {"rss": (RSS_MARGIN, ids), "open": (OPEN_MARGIN, 0), "threads": (THREADS_MARGIN, 0)}
        for name, ((share, fixed), allowed) in bounds.items():
            warm, end = growth[name]["warm"], growth[name]["end"]
            bound = int(warm * (1 + share) + fixed + allowed)
            growth[name]["bound"] = bound
            if end > bound:
                violate("it stays as it is", f"{name}: {warm} after the warm-up, {end} at the end, at most {bound}")
        return rows
