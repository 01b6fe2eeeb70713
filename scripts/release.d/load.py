#!/usr/bin/env python3
"""What a gateway does most, for scripts/release to count: deliveries of all vendors, one behind the other over kept
connections, to apps that take them at once, in every format, and `raw` by the inbox; a few copies and forgeries among them.

    load.py BINARY SECONDS
"""

import asyncio
import itertools
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "soak.d"))

import vendors  # noqa: E402
import wire  # noqa: E402

CONNECTIONS = 32
SECRET = "a-secret-of-the-load-0001"
FORMATS = ("raw", "cloudevents", "cloudevents-binary")
# Each with a source for every vendor, and the upstream of those.
WAYS = {**{form: form for form in FORMATS}, "inbox": "raw"}
COPIES, FORGERIES = 0.1, 0.05
# Elements of a SendAuth approval's list, one of them at random: most deliveries are of one to two kilobytes, some long.
TRANSACTIONS = (1, 2, 3, 3, 4, 40)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
PATIENCE_S = 60


def config(app, inbox):
    text = f'public_url = "{vendors.PUBLIC_URL}"\nlimits.per_ip = "unlimited"\nlog.format = "json"\n'
    text += 'server = { listen = "127.0.0.1:0", workers = 1 }\nadmin.listen = "127.0.0.1:0"\n'
    text += f'inbox.url = "sqlite:{inbox}"\n'
    for form in FORMATS:
        text += f'[upstreams.{form}]\nurl = "http://127.0.0.1:{app}/{form}"\nformat = "{form}"\nsecret = "{SECRET}"\n'
    for way, upstream in WAYS.items():
        for vendor in vendors.NAMES:
            text += f'[sources.{vendor}-{way}]\nvendor = "{vendor}"\nupstream = "{upstream}"\nsecret = "{SECRET}"\n'
            if vendor == "authalert":
                text += f'verify = {{ header = "{vendors.HEADERS[vendor]}" }}\n'
            if way == "inbox":
                text += 'delivery = "inbox"\n'
    return text


def delivery(number):
    """A request with a body of its own."""
    vendor = random.choice((*vendors.NAMES, "sendauth", "sendauth", "sendauth", "sendauth"))
    body = vendors.body(vendor, number, f"user-{number % 100}", 0)
    if vendor == "sendauth":
        state = {"state": "verified", "createdAt": "2024-01-15T10:30:00Z", "completedAt": "2024-01-15T10:35:00Z"}
        user = {"approver": {"id": "user-2", "email": "grace@example.com"}, "ip": "192.0.2.7", "location": "Zürich"}
        elements = [{"id": f"transaction-{n}", **state, **user} for n in range(random.choice(TRANSACTIONS))]
        body = json.dumps({**json.loads(body), "transactions": elements}, ensure_ascii=False).encode()
    path = f"/in/{vendor}-{random.choice(list(WAYS))}"
    secret = "forged" if random.random() < FORGERIES else SECRET
    signature = vendors.signature(vendor, secret, path, body)
    headers = [("user-agent", f"{vendor}/1.0"), ("accept", "*/*"), ("content-type", "application/json")]
    return wire.head(path, [*headers, (vendors.HEADERS[vendor], signature)], len(body)) + body


async def app(reader, writer):
    while found := await wire.read_head(reader):
        await reader.readexactly(int(found[1]["content-length"]))
        writer.write(OK)
    writer.close()


async def client(port, numbers, ends, statuses):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = delivery(next(numbers))
    while time.monotonic() < ends:
        writer.write(request)
        statuses[(await wire.read_answer(reader)).status] += 1
        if random.random() >= COPIES:
            request = delivery(next(numbers))
    writer.close()


async def main(binary, seconds):
    server = await asyncio.start_server(app, "127.0.0.1", 0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "hookwarden.toml")
        path.write_text(config(server.sockets[0].getsockname()[1], Path(folder, "inbox.db")))
        gateway = await asyncio.create_subprocess_exec(
            binary, "run", "--config", str(path), env={}, stderr=asyncio.subprocess.PIPE, limit=1 << 20
        )
        try:
            while b'"serving"' not in (line := await asyncio.wait_for(gateway.stderr.readline(), PATIENCE_S)):
                if not line:
                    raise SystemExit("the gateway does not start")
            port = int(json.loads(line)["listen"].rsplit(":", 1)[1])
            drained = asyncio.create_task(drain(gateway.stderr))
            random.seed(1)
            statuses, numbers, ends = Counter(), itertools.count(), time.monotonic() + seconds
            await asyncio.gather(*(client(port, numbers, ends, statuses) for _ in range(CONNECTIONS)))
            gateway.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(gateway.wait(), PATIENCE_S)
            await drained
        finally:
            if gateway.returncode is None:
                gateway.kill()
    print(f"answers: {dict(statuses)}")
    if code != 0 or set(statuses) != {200, 401}:
        raise SystemExit(f"unexpected answers, or exit code {code}")


async def drain(stream):
    while await stream.read(1 << 16):
        pass


asyncio.run(main(sys.argv[1], float(sys.argv[2])))
