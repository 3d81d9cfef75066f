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
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, TypeVar, cast

HEAD_BYTES: Final = 8 * 1024
# What a front may have to hold for a slow reader: together less than a pipe's buffer.
ANSWER_HEAD_BYTES: Final = 16 * 1024
BODY_BYTES: Final = 64 * 1024

Data = TypeVar("Data", bytes, memoryview)
Fields = Sequence[tuple[bytes, bytes]]


class Head:
    """Status and header fields that many responses share; their look in HTTP/1.1 is made when it is first asked for."""

    __slots__ = ("_http1", "headers", "status")

    def __init__(self, status: int, headers: Fields) -> None:
        self.status = status
        self.headers = headers
        self._http1 = b""

    @property
    def http1(self) -> bytes:
        """The status line and these fields, each line with its end."""
        if not self._http1:
            lines = [b"%b: %b\r\n" % pair for pair in self.headers]
            self._http1 = _STATUS_LINES[self.status] + b"".join(lines)
        return self._http1


Whole = tuple[Head, Fields, bytes]
"""A response: its head with the true Content-Length, the fields that are its own, its body."""
AnswerNow = Callable[[Mapping[str, Any], int], Whole | None]
"""An app's answer to the request in a scope, with a body of so many bytes at most; None: not without awaiting."""

_FRAME: Final = struct.Struct("=II")
_LINE: Final = re.compile(rb"(GET|HEAD) (/[!\"$->@-~]*)(?:\?([!\"$-~]*))? HTTP/1\.1")
_HOST: Final = re.compile(rb"[Hh][Oo][Ss][Tt]:[\t ]*([!-~]+)\r\n")
_BLOCK: Final = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")
# Clients say the same of themselves with one request after the other, so what that reads as is remembered.
_BLOCKS_KEPT: Final = 2_048
_BLOCK_KEPT_BYTES: Final = 2 * 1024
_CLIENTS_KEPT: Final = 4_096
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


def unpack(data: Data) -> tuple[list[tuple[int, Data]], int]:
    """Return ticket and payload of every whole frame that `data` begins with, and how many bytes they take.

    The payloads are slices: of a memoryview, good as long as what is below it.
    """
    frames: list[tuple[int, Data]] = []
    place, size = 0, len(data)
    while (start := place + _FRAME.size) <= size:
        ticket, length = _FRAME.unpack_from(data, place)
        end = start + length
        if end > size:
            break
        frames.append((ticket, data[start:end]))
        place = end
    return frames, place


# The worker's end


def read_head(head: bytes, client: tuple[str, int]) -> dict[str, Any] | None:
    """Return the ASGI scope of a plain GET or HEAD; None: it isn't one."""
    line, _, block = head.partition(b"\r\n")
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    # Nearly always the first field, and the one that isn't the same with every request of a client.
    host = _HOST.match(block)
    others = block if host is None else block[host.end() :]
    fields = _recall_block(others) if len(others) <= _BLOCK_KEPT_BYTES else _parse_block(others)
    if fields is None:
        return None
    if host is not None:
        fields = ((b"host", host[1]), *fields)
    if not fields:
        return None
    method, path, query = match.groups()
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method.decode(),
        "scheme": "http",
        "raw_path": path,
        "query_string": query or b"",
        "headers": fields,
        "client": client,
    }


def _parse_block(block: bytes) -> Fields | None:
    """Return the fields, names in lower case, of lines with the empty one at their end; None: not for this way."""
    if _BLOCK.fullmatch(block) is None:
        return None
    fields = []
    for line in block.split(b"\r\n")[:-2]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in _ENGINES and not (name == b"connection" and value.strip().lower() == b"keep-alive"):
            return None
        fields.append((name, value.strip(b" \t")))
    return tuple(fields)


_recall_block = lru_cache(maxsize=_BLOCKS_KEPT)(_parse_block)


def write_answer(whole: Whole, date: bytes) -> bytes:
    """Return the response as HTTP/1.1; empty: it can't go this way."""
    head, own, body = whole
    lines = [head.http1, b"date: ", date]
    for name, value in own:
        lines += (b"\r\n", name, b": ", value)
    lines.append(b"\r\n\r\n")
    text = b"".join(lines)
    # A field that ends a line early would say things of its own.
    if text.count(b"\n") != len(head.headers) + len(own) + 3 or len(text) > ANSWER_HEAD_BYTES:
        return b""
    return text + body


class _WorkersEnd(asyncio.Protocol):
    def __init__(self, folder: str, answer_now: AnswerNow) -> None:
        self.client_of = lru_cache(maxsize=_CLIENTS_KEPT)(lambda name: (f"{folder}/{name.decode()}", 0))
        self.answer_now = answer_now
        self.rest = b""
        self.date_s = 0
        self.date = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        if self.rest:
            data = self.rest + data
        now_s = int(time.time())
        if now_s != self.date_s:
            self.date_s, self.date = now_s, formatdate(now_s, usegmt=True).encode()
        frames, taken = unpack(data)
        self.rest = data[taken:]
        self.transport.write(b"".join([pack(ticket, self.answer(asked)) for ticket, asked in frames]))

    def answer(self, asked: bytes) -> bytes:
        name, _, head = asked.partition(b"\n")
        scope = read_head(head, self.client_of(name))
        whole = None if scope is None else self.answer_now(scope, BODY_BYTES)
        return b"" if whole is None else write_answer(whole, self.date)


async def open_lane(socket_path: str, answer_now: AnswerNow) -> asyncio.Server:
    """Take lanes beside the socket of this worker. Raises OSError."""
    folder = socket_path.rpartition("/")[0]
    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(lambda: _WorkersEnd(folder, answer_now), lane_path(socket_path))
