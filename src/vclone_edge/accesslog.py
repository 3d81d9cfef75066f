"""One JSON line per request on stderr, written ten times a second: logging must not cost more than serving."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Final, NamedTuple

FLUSH_S: Final = 0.1
HELD_LIMIT: Final = 1_000


class Line(NamedTuple):
    """What is logged of a request."""

    unix_s: float
    request_id: str
    method: str
    host: str
    path: str
    status: int
    cache: str
    sent_bytes: int
    took_s: float
    client: str


class AccessLog:
    """Holds lines until the next flush."""

    def __init__(self, *, is_on: bool) -> None:
        self.is_on = is_on
        self._held: list[Line] = []
        self._flusher: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self.is_on:
            self._flusher = asyncio.create_task(self._flush_for_ever())

    def close(self) -> None:
        if self._flusher is not None:
            self._flusher.cancel()
            self._flusher = None
        self.flush()

    def add(self, line: Line) -> None:
        self._held.append(line)
        if len(self._held) >= HELD_LIMIT:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if not self._held:
            return
        held, self._held = self._held, []
        sys.stderr.write("".join(format_line(line) for line in held))
        sys.stderr.flush()

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            self.flush()


def format_line(line: Line) -> str:
    """Return a request's line of the log."""
    fields = {
        "event": "request",
        "level": "info",
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(line.unix_s))
        + f".{int(line.unix_s % 1 * 1e6):06}Z",
        "request_id": line.request_id,
        "method": line.method,
        "host": line.host,
        "path": line.path,
        "status": line.status,
        "cache": line.cache,
        "bytes": line.sent_bytes,
        "ms": round(line.took_s * 1000, 2),
        "client": line.client,
    }
    return json.dumps(fields, ensure_ascii=True) + "\n"
