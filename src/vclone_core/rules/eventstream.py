"""A server-sent event stream read piece by piece (WHATWG HTML §9.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from vclone_core.errors import Invalid

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
EVENT_LIMIT: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched event. `id` is the last one the stream gave, also when this event gave none."""

    name: str
    data: str
    id: str


@dataclass(slots=True)
class EventParser:
    """Turns a stream's bytes into events. How the bytes are cut makes no difference."""

    _rest: bytes = b""
    _name: str = ""
    _data: list[str] = field(default_factory=list)
    _id: str = ""
    _size: int = 0
    _is_first: bool = True

    def feed(self, piece: bytes) -> list[Event]:
        """Return the events that this piece completes; raise `Invalid` when one grows over 1 MiB."""
        buffer = self._rest + piece
        # A carriage return at the end may be half of a line end.
        held = b""
        if buffer.endswith(b"\r"):
            buffer, held = buffer[:-1], b"\r"
        *lines, rest = _LINE_END.split(buffer)
        self._rest = rest + held
        events = []
        for line in lines:
            self._size += len(line)
            event = self._take(line.decode("utf-8", "replace"))
            if event is not None:
                events.append(event)
        if self._size + len(self._rest) > EVENT_LIMIT:
            raise Invalid(what="an event of the stream is larger than 1 MiB")
        return events

    def _take(self, line: str) -> Event | None:
        if self._is_first:
            self._is_first = False
            line = line.removeprefix("\ufeff")
        if not line:
            event = Event(self._name or "message", "\n".join(self._data), self._id) if self._data else None
            self._name, self._data, self._size = "", [], 0
            return event
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
        return None
