"""Follows the requests that a client sends on one HTTP/1.1 connection, and says when one can be read in two ways.

Pure: bytes in, a verdict out. A request line may name a host too (absolute-form, RFC 9112 §3.2.2), and the server
behind hands on the path alone; so whether both names agree is seen here or nowhere. To find the next request line,
bodies are skipped by their framing. Lines end with CR LF: what ends them otherwise is where parsers disagree.
"""

from __future__ import annotations

import re
from typing import Final

from vclone_core.errors import BadHost
from vclone_core.rules.hosts import parse_host

HEAD_BYTES: Final = 32 * 1024
_CHUNK_LINE_BYTES: Final = 1024

_ORDINARY: Final = (b"GET /", b"HEAD /")
_ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_LENGTH: Final = re.compile(rb"\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r")
_HOSTS: Final = re.compile(rb"\nhost:[ \t]*([^\r\n]*)")
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")


# What comes next on a connection. Plain numbers: this runs for every request.
_HEAD, _BODY, _CHUNK_LINE, _CHUNK, _TRAILERS = range(5)


class RequestWatch:
    """Feed it what one client sends, in pieces of any size; True means: don't hand this piece on, and close."""

    __slots__ = ("_kept", "_part", "_skip", "heads")

    def __init__(self) -> None:
        self.heads = 0
        """How many whole request heads have come."""
        self._part = _HEAD
        self._kept = b""
        self._skip = 0

    def feed(self, data: bytes | bytearray | memoryview) -> bool:
        """Take in the next piece; say whether it ends in, or holds, a request that is not to be served."""
        if not self._part:
            # Nearly every request: one whole head with a path and no body, and nothing else.
            rest = self._kept + bytes(data) if self._kept else bytes(data)
            if (
                rest.find(b"\r\n\r\n") + 4 == len(rest) <= HEAD_BYTES
                and rest.startswith(_ORDINARY)
                and rest.count(b"\n") == rest.count(b"\r\n")
                and b"\ncontent-length" not in (lower := rest.lower())
                and b"\ntransfer-encoding" not in lower
            ):
                self._kept = b""
                self.heads += 1
                return False
        if self._skip:
            if self._skip >= len(data):
                self._skip -= len(data)
                return False
            data, self._skip = data[self._skip :], 0
        rest = self._kept + bytes(data)
        self._kept = b""
        while rest:
            # What was skipped to its end before is over now.
            if self._part == _BODY:
                self._part = _HEAD
            elif self._part == _CHUNK:
                self._part = _CHUNK_LINE
            if self._part == _HEAD:
                end = rest.find(b"\r\n\r\n")
                head = rest if end < 0 else rest[: end + 4]
                if head.count(b"\n") != head.count(b"\r\n") or len(head) > HEAD_BYTES:
                    return True
                if end < 0:
                    self._kept = rest
                    return False
                if self._judge(head):
                    return True
                self.heads += 1
            else:
                end = rest.find(b"\r\n")
                if end < 0:
                    self._kept = rest
                    return len(rest) > _CHUNK_LINE_BYTES
                if not self._read_line(rest[:end]):
                    return True
                end -= 2
            taken = end + 4 + self._skip
            self._skip = max(0, taken - len(rest))
            rest = rest[taken:]
        return False

    def _judge(self, head: bytes) -> bool:
        """Say whether a head is to be refused, and note how its body is framed."""
        lower = head.lower()
        if b"\ntransfer-encoding" in lower:
            if b"\ncontent-length" in lower or b" http/1.1\r\n" not in lower:
                # Which of them frames the body is answered in two ways (RFC 9112 §6.3); HTTP/1.0 has no chunks.
                return True
            self._part = _CHUNK_LINE
        elif b"\ncontent-length" in lower:
            length = _LENGTH.search(lower)
            # What can't be read here is for the server to refuse, and it then closes.
            self._skip = int(length[1]) if length is not None else 1 << 62
            self._part = _BODY
        # An empty line or two may come before a request line (RFC 9112 §2.2).
        line = head.lstrip(b"\r\n")
        at = line.find(b" ") + 1
        return line[at : at + 1] not in (b"/", b"*") and not _is_one_host(line, lower, at)

    def _read_line(self, line: bytes) -> bool:
        """Take in a line of a chunked body; say whether it was one."""
        if self._part == _TRAILERS:
            if not line:
                self._part = _HEAD
            return True
        found = _SIZE.fullmatch(line)
        if found is None:
            return False
        size = int(found[1], 16)
        self._part = _CHUNK if size else _TRAILERS
        self._skip = size + 2 if size else 0
        return True


def _is_one_host(line: bytes, lower: bytes, at: int) -> bool:
    """Say whether a target that is no path is in absolute-form and names the host that Host does."""
    absolute = _ABSOLUTE.match(line, at)
    if absolute is None:
        return False
    try:
        return parse_host([absolute[1]]) == parse_host(_HOSTS.findall(lower))
    except BadHost:
        return False
