"""HTTP/1.1 as bytes: what a client must be able to get wrong, no library lets it."""

import asyncio
import random
import socket
import struct
import time
from dataclasses import dataclass, field

# Connections are used again only while they are surely open: far below the gateway's `idle_timeout`.
IDLE_MAX_S = 3
BROKEN = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


@dataclass(slots=True)
class Answer:
    status: int
    headers: dict = field(default_factory=dict)
    body: bytes = b""

    @property
    def counted(self):
        """Whether it comes from the gateway's own path. What HTTP itself refuses is answered bare, and not counted."""
        return "hookwarden-error" in self.headers or "hookwarden-event-id" in self.headers

    @property
    def id(self):
        return self.headers.get("hookwarden-event-id")

    @property
    def duplicate(self):
        return "hookwarden-duplicate" in self.headers


def head(path, headers, length=None, method="POST"):
    lines = [f"{method} {path} HTTP/1.1", "host: hooks.example.com", *(f"{name}: {value}" for name, value in headers)]
    lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def chunked(body, sizes=7):
    step = max(1, len(body) // sizes)
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def read_head(reader):
    """A start line and its headers, the names in lower case; none at the end."""
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except BROKEN:
        return None
    headers = {}
    for line in lines[1:-2]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return lines[0], headers


async def read_answer(reader):
    """An answer; none if the connection ends before it is whole. Interim ones are passed over."""
    while True:
        found = await read_head(reader)
        if found is None:
            return None
        line, headers = found
        status = int(line.split(" ")[1])
        if status >= 200:
            break
    try:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    except BROKEN:
        return None
    return Answer(status, headers, body)


def reset(writer):
    """Closes with a reset instead of an end."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Client:
    """Connections to one port, some of them kept."""

    def __init__(self, port, patience_s):
        self.port, self.patience_s = port, patience_s
        self.idle = []

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def kept(self):
        while self.idle:
            reader, writer, since = self.idle.pop()
            if time.monotonic() - since < IDLE_MAX_S and not writer.is_closing() and not reader.at_eof():
                return reader, writer
            writer.close()
        return await self.connect()

    async def exchange(self, *pieces, fresh=False, pause_s=0):
        """Sends the pieces, with pauses between them, and reads the answer; none if the connection ends without one."""
        reader, writer = await (self.connect() if fresh else self.kept())
        reading, answer = asyncio.ensure_future(read_answer(reader)), None
        try:
            async with asyncio.timeout(self.patience_s):
                for at, piece in enumerate(pieces):
                    if at and pause_s:
                        # Who is answered early says no more.
                        await asyncio.wait([reading], timeout=pause_s)
                    if reading.done() or writer.is_closing():
                        break
                    writer.write(piece)
                answer = await reading
        except TimeoutError:
            pass
        finally:
            keep = answer and not fresh and answer.headers.get("connection") != "close" and not reader.at_eof()
            if keep:
                self.idle.append((reader, writer, time.monotonic()))
            else:
                writer.close()
        return answer

    async def hang_up(self, *pieces, pause_s=0.0):
        """Sends and is gone."""
        _, writer = await self.connect()
        for piece in pieces:
            writer.write(piece)
            if pause_s:
                await asyncio.sleep(pause_s)
        writer.close()

    async def ask_and_leave(self, head, part, abruptly):
        """Sends a head, waits to be told to go on, sends a part of the body, and is gone. False: not told to go on."""
        reader, writer = await self.connect()
        writer.write(head)
        found = await read_head(reader)
        told = found is not None and found[0].split(" ")[1] == "100"
        writer.write(part)
        reset(writer) if abruptly else writer.close()
        return told

    def close(self):
        for _, writer, _ in self.idle:
            writer.close()
        self.idle.clear()


def address(rng: random.Random):
    """One of the addresses that the usual callers have: documentation's own (RFC 5737)."""
    return f"198.51.100.{rng.randrange(256)}" if rng.random() < 0.5 else f"192.0.2.{rng.randrange(256)}"
