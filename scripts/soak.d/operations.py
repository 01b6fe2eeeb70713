"""What operators do while it runs: reloads that change nothing, broken files, rotations of all secrets, SIGHUP."""

import asyncio
import itertools
import signal

from gateway import PATIENCE_S, TIMEOUT_S, config, replace

EVERY_S = 10
# Until nothing signed by the old secret is under way any more.
OVERLAP_S = TIMEOUT_S + 1
BROKEN = (
    ("not TOML", lambda text: text + "[sources.broken\n"),
    ("an unknown key", lambda text: text + "[sources.broken]\nvendr = 'sendauth'\n"),
    ("a secret that is not there", lambda text: text.replace("-g", "-missing", 1)),
    ("empty", lambda text: ""),
)


class Operator:
    """Knows how many reloads there must have been."""

    def __init__(self, gateway, folder, app, served, secrets, entries_max, violate):
        self.gateway, self.folder, self.app, self.secrets, self.violate = gateway, folder, app, secrets, violate
        self.made = lambda: config(folder, app.port, served, secrets, entries_max, self.variant)
        self.variant = 0
        self.doing = None
        self.done = {"success": 0, "failure": 0}

    async def work(self):
        """Does one thing after another, until cancelled between two of them."""
        for step in itertools.cycle((self.change, self.breaks, self.hang_up, self.rotate, self.call)):
            await asyncio.sleep(EVERY_S)
            self.doing = asyncio.create_task(step())
            await asyncio.shield(self.doing)

    async def settle(self):
        """Waits for what was under way when the work was cancelled."""
        if self.doing:
            await self.doing

    async def reloaded(self, result):
        """Waits for the reload that was brought about."""
        self.done[result] += 1
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            metrics = await self.gateway.metrics()
            found = {name: metrics.sum("config_reloads_total", result=name) for name in self.done}
            if found == self.done:
                break
            if any(found[name] > self.done[name] for name in found) or asyncio.get_running_loop().time() > deadline:
                self.violate("a reload for each change, and as it should end", f"{found}, due: {self.done}")
                self.done = found
                break
            await asyncio.sleep(0.05)
        if metrics.sum("config_last_reload_successful") != (result == "success"):
            self.violate("the last reload shows", result)

    async def write(self, text, result="success"):
        replace(self.gateway.config, text)
        await self.reloaded(result)

    async def change(self):
        self.variant += 1
        await self.write(self.made())

    async def breaks(self):
        """A broken file changes nothing; what it was before is a change again."""
        _, broken = BROKEN[self.variant % len(BROKEN)]
        await self.write(broken(self.made()), "failure")
        await asyncio.sleep(1)
        await self.write(self.made())

    async def hang_up(self):
        self.gateway.signal(signal.SIGHUP)
        await self.reloaded("success")
        await self.change()

    async def call(self):
        answer = await self.gateway.ask("/api/v1/reload", "POST")
        if answer is None or answer.status != 200:
            self.violate("the API reloads", str(answer and answer.status))
        await self.reloaded("success")

    async def rotate(self):
        """Old and new are both taken; senders and the app change over; the old one goes."""
        secrets, app = self.secrets, self.app
        old = secrets.used
        secrets.renew()
        new = secrets.newest
        app.accepted = [secrets.of("app", new), secrets.of("app", old)]
        secrets.accepted = [new, old]
        self.variant += 1
        await self.write(self.made())
        # Every request to the app has both signatures from here on, but for those that had begun.
        await asyncio.sleep(OVERLAP_S)
        app.accepted = [secrets.of("app", new)]
        secrets.used = new
        await asyncio.sleep(OVERLAP_S)
        secrets.accepted = [new]
        await self.write(self.made())
        secrets.retired = old
