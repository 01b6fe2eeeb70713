"""HTTP/2 with prior knowledge, as much of it as a webhook takes: one connection, some requests at once, their statuses
and bodies."""

import asyncio
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, ACK, END_HEADERS = 1, 1, 4
# SETTINGS_HEADER_TABLE_SIZE = 0: no answer refers to an earlier one (RFC 7541 §4.2).
NO_TABLE = struct.pack(">HI", 1, 0)
FRAME_BYTES_MAX = 16384
# Statuses of the static table (RFC 7541, appendix A).
STATIC = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}
# Digits in its Huffman code (appendix B).
DIGITS = {"00000": 0, "00001": 1, "00010": 2} | {f"{0b011001 + n:06b}": 3 + n for n in range(7)}


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def literal(text):
    """A string that is not compressed; its length has a prefix of 7 bits (RFC 7541 §5.1)."""
    raw, length = text.encode(), len(text.encode())
    if length < 127:
        return bytes((length,)) + raw
    rest, out = length - 127, bytearray((127,))
    while rest >= 128:
        out.append(rest % 128 + 128)
        rest //= 128
    return bytes(out) + bytes((rest,)) + raw


def request(stream, path, headers, body):
    """The frames of a POST."""
    pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", "hooks.example.com"), (":path", path)]
    fields = pseudo + list(headers) + [("content-length", str(len(body)))]
    block = b"".join(b"\0" + literal(name) + literal(value) for name, value in fields)
    out = frame(HEADERS, END_HEADERS, stream, block)
    pieces = [body[at : at + FRAME_BYTES_MAX] for at in range(0, len(body), FRAME_BYTES_MAX)]
    for at, piece in enumerate(pieces):
        out += frame(DATA, END_STREAM if at == len(pieces) - 1 else 0, stream, piece)
    return out


def status(block):
    """The `:status` of an answer: its first field."""
    at = 0
    while block[at] & 0xE0 == 0x20:  # another size of the table
        at += 1
    if block[at] & 0x80:
        return STATIC[block[at] & 0x7F]
    length, compressed = block[at + 1] & 0x7F, block[at + 1] & 0x80
    text = block[at + 2 : at + 2 + length]
    if not compressed:
        return int(text)
    bits, value, code = "".join(f"{byte:08b}" for byte in text), 0, ""
    for bit in bits:
        code += bit
        if code in DIGITS:
            value, code = value * 10 + DIGITS[code], ""
    return value


async def post(port, requests, patience_s):
    """The status and body of each request (path, headers, body); none for those that got no answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = {2 * at + 1: [None, b""] for at in range(len(requests))}
    waiting = set(answers)
    try:
        out = PREFACE + frame(SETTINGS, 0, 0, NO_TABLE)
        writer.write(out + b"".join(request(2 * at + 1, *each) for at, each in enumerate(requests)))
        async with asyncio.timeout(patience_s):
            while waiting:
                head = await reader.readexactly(9)
                kind, flags, stream = head[3], head[4], struct.unpack(">I", head[5:])[0]
                payload = await reader.readexactly(int.from_bytes(head[:3]))
                if kind in (SETTINGS, PING) and not flags & ACK:
                    writer.write(frame(kind, ACK, 0, payload if kind == PING else b""))
                elif kind == HEADERS:
                    answers[stream][0] = status(payload)
                elif kind == DATA:
                    answers[stream][1] += payload
                if kind in (HEADERS, DATA) and flags & END_STREAM or kind == RST_STREAM:
                    waiting.discard(stream)
                if kind == GOAWAY:
                    break
    except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
        pass
    finally:
        writer.close()
    return [tuple(answers[2 * at + 1]) for at in range(len(requests))]
