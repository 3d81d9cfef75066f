"""Counts the frames a client sends on one HTTP/2 connection, and says when they are a flood.

Pure: bytes and a clock reading in, a verdict out. Only the nine bytes of each frame header are looked at (RFC 9113
§4.1); payloads are skipped without a copy, and HPACK stays the business of the server behind. Part of the edge's
front, which sees HTTP/2 as bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER_BYTES = 9

_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS = 0, 1, 2, 3, 4
_PING, _CONTINUATION = 6, 9
_REQUEST_PARTS = frozenset((_DATA, _HEADERS, _CONTINUATION))
_ACK, _END_HEADERS = 0x1, 0x4


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """How many frames of a kind a client may send within one second, and how large one may be.

    `continuations` is per header block. The rapid-reset rule (`requests`, and more than half of them reset) is Envoy's;
    the rest leaves ordinary clients a factor of ten: browsers send a handful of PING, SETTINGS and PRIORITY frames in
    a connection's whole life.
    """

    requests: int = 500
    pings: int = 100
    settings: int = 20
    priorities: int = 200
    continuations: int = 64
    empty_data: int = 500
    frame_bytes: int = 16_384


class FrameWatch:
    """Feed it what one client sends, in pieces of any size; a text answer means: close this connection.

    `requests` counts complete header blocks over the connection's life. `moved` says whether the last pieces held
    part of a request, that is, whether the client got on; its reader resets it. `answers_due` is how many bytes of
    acknowledgement the other frames make the server send: an answer of that size is no progress either. A
    WINDOW_UPDATE isn't one: if it sets something free, the server's bytes show that.
    """

    __slots__ = (
        "_continuations",
        "_empty",
        "_limits",
        "_partial",
        "_pings",
        "_priorities",
        "_resets",
        "_settings",
        "_skip",
        "_skip_moves",
        "_started",
        "_window",
        "answers_due",
        "moved",
        "requests",
    )

    def __init__(self, limits: FrameLimits, *, now: float) -> None:
        self._limits = limits
        self._partial = b""
        # The preface is skipped like a payload.
        self._skip = len(PREFACE)
        self._skip_moves = False
        self._continuations = 0
        self.requests = 0
        self.moved = False
        self.answers_due = 0
        self._open_window(now)

    def _open_window(self, now: float) -> None:
        self._window = now
        self._started = self.requests
        self._resets = self._pings = self._settings = self._priorities = self._empty = 0

    def feed(self, data: bytes | bytearray | memoryview, now: float) -> str | None:
        """Take in the next piece; return why the connection must end, or None."""
        size = len(data)
        at = self._skip
        if at and self._skip_moves:
            self.moved = True
        if at >= size:
            self._skip = at - size
            return None
        if now - self._window >= 1.0:
            self._open_window(now)
        if self._partial:
            take = FRAME_HEADER_BYTES - len(self._partial)
            head = self._partial + bytes(data[:take])
            if len(head) < FRAME_HEADER_BYTES:
                self._partial = head
                return None
            self._partial = b""
            length = head[0] << 16 | head[1] << 8 | head[2]
            if verdict := self._count(length, head[3], head[4]):
                return verdict
            at = take + length
        while at + FRAME_HEADER_BYTES <= size:
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if verdict := self._count(length, data[at + 3], data[at + 4]):
                return verdict
            at += FRAME_HEADER_BYTES + length
        if at < size:
            self._partial = bytes(data[at:])
            self._skip = 0
            self._skip_moves = False
        else:
            self._skip = at - size
        return None

    def _count(self, length: int, kind: int, flags: int) -> str | None:
        """Count one frame; return why the connection must end, if so."""
        limits = self._limits
        if length > limits.frame_bytes:
            return "frame_too_large"
        self._skip_moves = length > 0 and kind in _REQUEST_PARTS
        if self._skip_moves:
            self.moved = True
        if kind == _HEADERS:
            self._continuations = 0
            if flags & _END_HEADERS:
                self.requests += 1
        elif kind == _DATA:
            if not length:
                self._empty += 1
                if self._empty > limits.empty_data:
                    return "empty_data_flood"
        elif kind == _RST_STREAM:
            self._resets += 1
            opened = self.requests - self._started
            if opened >= limits.requests and self._resets * 2 > opened:
                return "rapid_reset"
        elif kind == _PING:
            self._pings += 1
            if not flags & _ACK:
                self.answers_due += FRAME_HEADER_BYTES + 8
            if self._pings > limits.pings:
                return "ping_flood"
        elif kind == _SETTINGS:
            self._settings += 1
            if not flags & _ACK:
                self.answers_due += FRAME_HEADER_BYTES
            if self._settings > limits.settings:
                return "settings_flood"
        elif kind == _PRIORITY:
            self._priorities += 1
            if self._priorities > limits.priorities:
                return "priority_flood"
        elif kind == _CONTINUATION:
            self._continuations += 1
            if flags & _END_HEADERS:
                self.requests += 1
            if self._continuations > limits.continuations:
                return "continuation_flood"
        return None
