"""The lane: how a front asks a worker for answers that need no HTTP server.

    front: head of a simple GET -> worker: the whole response, or "not mine"

One Unix socket per front and worker, frames both ways, many in one write. A worker says "not mine" to whatever its app
has not settled before or is not plain HTTP/1.1; the front then takes that request to the engine, which judges it. So
this end never refuses anybody, and is no second opinion on what a valid request is.
"""

from __future__ import annotations

import asyncio
import re
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, cast

HEAD_BYTES: Final = 8 * 1024
# What a front may have to hold for a slow reader: together less than a pipe's buffer.
ANSWER_HEAD_BYTES: Final = 16 * 1024
BODY_BYTES: Final = 64 * 1024

Whole = tuple[int, Sequence[tuple[bytes, bytes]], bytes]
"""A response: status, header fields with the true Content-Length, body."""
AnswerNow = Callable[[Mapping[str, Any], int], Whole | None]
"""An app's answer to the request in a scope, with a body of so many bytes at most; None: not without awaiting."""

_FRAME: Final = struct.Struct("=II")
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HEAD: Final = re.compile(
    rb"(GET|HEAD) (/[!\"$->@-~]*)(?:\?([!\"$-~]*))? HTTP/1\.1\r\n((?:"
    + _TOKEN
    + rb":[\t\x20-\x7e\x80-\xff]*\r\n)+)\r\n"
)
# What says something of the connection or of a body is for the engine.
_ENGINES: Final = frozenset(
    {b"connection", b"content-length", b"expect", b"keep-alive", b"proxy-connection", b"te", b"trailer",
     b"transfer-encoding", b"upgrade"}
)  # fmt: skip
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus if status >= 200
}


def lane_path(socket_path: str) -> str:
    """Return where a worker that listens at `socket_path` takes lanes."""
    return f"{socket_path}.lane"


def may_ask(head: bytes | bytearray) -> bool:
    """Say whether bytes are one whole head that a worker may be asked about."""
    return (
        len(head) <= HEAD_BYTES
        and head.startswith((b"GET /", b"HEAD /"))
        and head.find(b"\r\n\r\n") == len(head) - 4
    )  # fmt: skip


def pack(ticket: int, payload: bytes) -> bytes:
    """Return a frame; an empty payload says "not mine"."""
    return _FRAME.pack(ticket, len(payload)) + payload


def unpack(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Yield ticket and payload of every whole frame, and take them off the buffer."""
    place, size = 0, len(buffer)
    try:
        while size - place >= _FRAME.size:
            ticket, length = _FRAME.unpack_from(buffer, place)
            end = place + _FRAME.size + length
            if end > size:
                break
            yield ticket, bytes(buffer[place + _FRAME.size : end])
            place = end
    finally:
        del buffer[:place]


# The worker's end


def read_head(head: bytes, client: str) -> dict[str, Any] | None:
    """Return the ASGI scope of a plain GET or HEAD; None: it isn't one."""
    match = _HEAD.fullmatch(head)
    if match is None:
        return None
    method, path, query, block = match.groups()
    fields = []
    for line in block.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in _ENGINES and not (name == b"connection" and value.strip().lower() == b"keep-alive"):
            return None
        fields.append((name, value.strip(b" \t")))
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method.decode(),
        "scheme": "http",
        "raw_path": path,
        "query_string": query or b"",
        "headers": fields,
        "client": (client, 0),
    }


def write_answer(whole: Whole, date: bytes) -> bytes:
    """Return the response as HTTP/1.1; empty: it can't go this way."""
    status, headers, body = whole
    lines = [_STATUS_LINES[status], b"date: ", date, b"\r\n"]
    for name, value in headers:
        lines += (name, b": ", value, b"\r\n")
    lines.append(b"\r\n")
    head = b"".join(lines)
    # A field that ends a line early would say things of its own.
    if head.count(b"\n") != len(headers) + 3 or len(head) > ANSWER_HEAD_BYTES:
        return b""
    return head + body


class _WorkersEnd(asyncio.Protocol):
    def __init__(self, folder: str, answer_now: AnswerNow) -> None:
        self.prefix = f"{folder}/"
        self.answer_now = answer_now
        self.buffer = bytearray()
        self.date_s = 0
        self.date = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.transport.write(b"".join([pack(ticket, self.answer(asked)) for ticket, asked in unpack(self.buffer)]))

    def answer(self, asked: bytes) -> bytes:
        client, _, head = asked.partition(b"\n")
        scope = read_head(head, self.prefix + client.decode())
        whole = None if scope is None else self.answer_now(scope, BODY_BYTES)
        if whole is None:
            return b""
        now_s = int(time.time())
        if now_s != self.date_s:
            self.date_s, self.date = now_s, formatdate(now_s, usegmt=True).encode()
        return write_answer(whole, self.date)


async def open_lane(socket_path: str, answer_now: AnswerNow) -> asyncio.Server:
    """Take lanes beside the socket of this worker. Raises OSError."""
    folder = socket_path.rpartition("/")[0]
    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(lambda: _WorkersEnd(folder, answer_now), lane_path(socket_path))
