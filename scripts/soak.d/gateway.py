"""The gateway under test: its configuration, its process, its log, its metrics."""

import asyncio
import base64
import json
import os
import re
import secrets
import signal
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import vendors
import wire

PATIENCE_S = 60  # longest wait for what must happen
TIMEOUT_S = 3  # one attempt to deliver
HEADER_TIMEOUT_S = 3
BODY_TIMEOUT_S = 3
REQUEST_TIMEOUT_S = 10
BODY_BYTES_MAX = 64 << 10
# Requests of one address: the usual ones stay far below, the flood goes past it.
PER_IP = (60, 120)
# Longer than every vendor's own retries; what is older is no repetition that this script sends.
WINDOW_S = 360

ADMIN_TOKEN = "soak-admin-token-00000001"
LINE_BYTES_MAX = 1 << 20

SAMPLE = re.compile(r"^hookwarden_(\w+?)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Source:
    """One source. Direct ones go to the upstream `live`, those of the inbox to `stored`, or in order to `lanes`."""

    name: str
    vendor: str
    upstream: str

    @property
    def direct(self):
        return self.upstream == "live"

    @property
    def path(self):
        return f"/in/{self.name}"


def sources(delivery):
    """All five vendors in each kind of delivery asked for."""
    found = []
    for vendor in vendors.NAMES:
        if delivery in ("direct", "both"):
            found.append(Source(f"{vendor}-direct", vendor, "live"))
        if delivery in ("inbox", "both"):
            found.append(Source(f"{vendor}-inbox", vendor, "lanes" if vendor == "loginradius" else "stored"))
    return found


class Secrets:
    """Generations of secrets: of each source, and of the app. A generation is a file each and an id."""

    def __init__(self, folder, names):
        self.folder, self.names = folder, names
        self.values = {}
        self.newest = 0
        self.renew()
        # What the gateway is told of: the newest first. What senders sign with is the first of theirs.
        self.accepted = [self.newest]
        self.used = self.newest
        self.retired = None  # one that is surely not taken any more

    def renew(self):
        self.newest += 1
        for name in self.names:
            value = secrets.token_hex(16)
            if name == "app":
                value = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
            self.values[name, self.newest] = value
            path = self.file(name, self.newest)
            path.write_text(value)
            path.chmod(0o600)

    def file(self, name, generation):
        return self.folder / f"{name}-g{generation}"

    def listed(self, name):
        refs = (f'{{ file = "{self.file(name, g)}", id = "g{g}" }}' for g in self.accepted)
        return f"secrets = [{', '.join(refs)}]"

    def of(self, name, generation=None):
        return self.values[name, generation or self.used]


def config(folder, port, served, secrets, entries_max, variant=0):
    """The configuration; `variant` changes what changes nothing for anybody."""
    per_second, burst = PER_IP
    text = f"""
# variant {variant}
public_url = "{vendors.PUBLIC_URL}"
reload.poll = "200ms"
store.entries_max = {entries_max}
limits.per_ip = "{per_second}/s burst {burst + variant % 2}"
[server]
listen = "127.0.0.1:0"
trusted_proxies = ["127.0.0.0/8"]
body_bytes_max = "{BODY_BYTES_MAX}B"
header_timeout = "{HEADER_TIMEOUT_S}s"
body_timeout = "{BODY_TIMEOUT_S}s"
request_timeout = "{REQUEST_TIMEOUT_S}s"
idle_timeout = "10s"
workers = 2
[admin]
listen = "127.0.0.1:0"
token_file = "{folder / "admin-token"}"
[log]
format = "json"
"""
    if any(not source.direct for source in served):
        text += f'[inbox]\nurl = "sqlite:{folder / "inbox.db"}"\nretention = "{WINDOW_S}s"\n'
    schedule = ", ".join(['"1s"', '"1s"'] + ['"2s"'] * 60)
    settings = {
        "live": f'concurrency = {1024 + variant % 2}\nretry = {{ attempts = 2, base = "100ms" }}',
        "stored": f'format = "raw"\nschedule = [{schedule}]',
        "lanes": f'format = "cloudevents-binary"\norder = "partition"\nschedule = [{schedule}]',
    }
    for upstream in sorted({source.upstream for source in served}):
        text += f'[upstreams.{upstream}]\nurl = "http://127.0.0.1:{port}/{upstream}"\ntimeout = "{TIMEOUT_S}s"\n'
        text += f"{settings[upstream]}\n{secrets.listed('app')}\n"
    for source in served:
        text += f'[sources.{source.name}]\nvendor = "{source.vendor}"\nupstream = "{source.upstream}"\n'
        text += f'delivery = "{"direct" if source.direct else "inbox"}"\ndedup_window = "{WINDOW_S}s"\n'
        if source.vendor == "authalert":
            text += f'verify = {{ header = "{vendors.HEADERS["authalert"]}" }}\n'
        text += secrets.listed(source.name) + "\n"
    if variant % 3 == 1:
        text += f'[sources.passing]\nvendor = "authpi"\nupstream = "{served[0].upstream}"\n'
        text += f'delivery = "{"direct" if served[0].direct else "inbox"}"\n'
        text += f'tenant = "passing"\ndedup_window = "{WINDOW_S}s"\n{secrets.listed("passing")}\n'
    return text


def replace(path, text):
    """Puts a file in the place of another in one step: the gateway looks at any time."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.rename(path)


class Metrics:
    """One reading of `/metrics`."""

    def __init__(self, text):
        self.values = defaultdict(dict)
        for line in text.splitlines():
            if found := SAMPLE.match(line):
                name, labels, value = found.groups()
                self.values[name][frozenset(LABEL.findall(labels or ""))] = float(value)

    def sum(self, name, **labels):
        """All samples of a family that have these labels, together."""
        wanted = set(labels.items())
        return int(sum(value for had, value in self.values[name].items() if wanted <= had))

    def by(self, name, *keys):
        """A family, by some of its labels."""
        tally = Counter()
        for labels, value in self.values[name].items():
            labels = dict(labels)
            tally[tuple(labels.get(key, "") for key in keys)] += int(value)
        return tally


class Gateway:
    """A running gateway."""

    def __init__(self, process, config, violate):
        self.process, self.config, self.violate = process, config, violate
        self.serving = asyncio.get_running_loop().create_future()
        self.requests = Counter()  # lines of the access log, by source and status
        self.messages = Counter()  # all others, by level and message
        self.listen = self.admin = None
        self.reader = asyncio.create_task(self.read_log())

    @classmethod
    async def start(cls, binary, config, violate):
        process = await asyncio.create_subprocess_exec(
            binary, "run", "--config", str(config),
            env={}, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, limit=LINE_BYTES_MAX,
        )  # fmt: skip
        gateway = cls(process, config, violate)
        serving = await asyncio.wait_for(gateway.serving, PATIENCE_S)
        if serving is None:
            raise SystemExit("the gateway does not start:\n" + "\n".join(map(str, gateway.messages)))
        gateway.listen, gateway.admin = (int(serving[name].rsplit(":", 1)[1]) for name in ("listen", "admin"))
        return gateway

    async def read_log(self):
        async for raw in self.process.stderr:
            try:
                line = json.loads(raw)
            except ValueError:
                self.violate("log: a line is not JSON", raw.decode(errors="replace")[:200])
                continue
            message = line.get("message")
            if message == "request":
                self.requests[line["source"], line["status"]] += 1
                continue
            if message == "serving":
                self.serving.set_result(line)
            # What is wrong with a configuration names its key: that is the operator's fault.
            self.messages["CONFIG" if "key" in line else line["level"], message] += 1
        if not self.serving.done():
            self.serving.set_result(None)

    # === the operator's side ===

    async def ask(self, path, method="GET"):
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{self.admin}\r\nauthorization: Bearer {ADMIN_TOKEN}\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.admin, limit=64 << 20)
        try:
            writer.write(f"{head}connection: close\r\ncontent-length: 0\r\n\r\n".encode())
            # Not wait_for: until Python 3.12, it may lose the cancellation of whoever looks on, and the run has no end.
            async with asyncio.timeout(PATIENCE_S):
                return await wire.read_answer(reader)
        finally:
            writer.close()

    async def metrics(self):
        return Metrics((await self.ask("/metrics")).body.decode())

    async def listed(self, **filter):
        """The ids of all events in the inbox that match."""
        ids, before = [], None
        while True:
            query = "&".join(f"{name}={value}" for name, value in (filter | {"limit": 500}).items())
            answer = await self.ask(f"/api/v1/events?{query}" + (f"&before={before}" if before else ""))
            page = json.loads(answer.body)
            ids += [event["id"] for event in page["events"]]
            before = page["next"]
            if before is None:
                return ids

    def signal(self, number):
        os.kill(self.process.pid, number)

    async def stop(self):
        """Asks it to stop; its exit code."""
        self.signal(signal.SIGTERM)
        code = await asyncio.wait_for(self.process.wait(), PATIENCE_S)
        await self.reader
        return code

    # === what it takes ===

    def cpu_s(self):
        """Seconds of CPU used: proc_pid_stat(5), the 14th and 15th field, counted behind the name in brackets."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resources(self):
        """Memory in KiB, what of it is no file's, open files and threads, as the system knows them."""
        proc = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        rss, anon, threads = (int(status[name].split()[0]) for name in ("VmRSS", "RssAnon", "Threads"))
        return rss, anon, len(os.listdir(proc / "fd")), threads
