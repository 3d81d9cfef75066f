"""Reads an event stream (text/event-stream, WHATWG HTML §9.2.6) piece by piece: bytes in, events out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vclone_core.errors import TooLarge

EVENT_LIMIT_BYTES: Final = 1024**2


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event. `id` is the last id the stream named, also for events that carry none of their own."""

    event: str
    data: str
    id: str


class EventDecoder:
    """Turns a stream, in pieces of any size, into events. An event that the stream's end cuts off is dropped."""

    def __init__(self, *, last_id: str = "", limit_bytes: int = EVENT_LIMIT_BYTES) -> None:
        self.last_id = last_id
        self._limit_bytes = limit_bytes
        self._rest = b""
        self._after_cr = False
        self._event = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[ServerEvent]:
        """Yield the events that `data` completes. Raises `TooLarge` when one grows over the limit."""
        # A line may end in CR LF, and the LF may come in the next piece.
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        # bytes.splitlines knows CR, LF and CR LF, which are just the three line ends of an event stream.
        lines = (self._rest + data).splitlines(keepends=True)
        self._rest = lines.pop() if lines and not lines[-1].endswith((b"\r", b"\n")) else b""
        for line in lines:
            self._size += len(line)
            self._check_size(self._size)
            if found := self._read_line(line.rstrip(b"\r\n").decode("utf-8", "replace")):
                yield found
        self._check_size(self._size + len(self._rest))

    def _check_size(self, size: int) -> None:
        if size > self._limit_bytes:
            raise TooLarge(what="An event of the stream", limit=f"{self._limit_bytes} bytes")

    def _read_line(self, line: str) -> ServerEvent | None:
        if not line:
            found = ServerEvent(self._event or "message", "\n".join(self._data), self.last_id) if self._data else None
            self._event, self._data, self._size = "", [], 0
            return found
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self.last_id = value
        return None
