"""Which workers take connections: one shared page, written by the supervisor, read by the fronts."""

from __future__ import annotations

import mmap
import struct
from enum import IntEnum
from pathlib import Path

_ENTRY = struct.Struct("=BxxxI")


class Standing(IntEnum):
    """What a worker is good for."""

    DOWN = 0
    READY = 1
    LEAVING = 2


class Roster:
    """Made once, before anything is forked. A worker's socket is named by its index and generation."""

    def __init__(self, folder: Path, *, workers: int) -> None:
        self.folder = folder
        self.workers = workers
        self._page = mmap.mmap(-1, max(1, workers) * _ENTRY.size)
        self._seen: bytes | None = None
        self._ready: list[tuple[int, str]] = []

    def note(self, index: int, generation: int, standing: Standing) -> None:
        """Write down where worker `index` stands."""
        _ENTRY.pack_into(self._page, index * _ENTRY.size, standing, generation)

    def socket_path(self, index: int, generation: int) -> str:
        """Return where a worker listens."""
        return f"{self.folder}/worker-{index}-{generation}"

    def ready(self) -> list[tuple[int, str]]:
        """Return index and socket path of every worker that takes connections."""
        page = self._page[:]
        if page != self._seen:
            entries = [_ENTRY.unpack_from(page, index * _ENTRY.size) for index in range(self.workers)]
            self._ready = [
                (index, self.socket_path(index, generation))
                for index, (standing, generation) in enumerate(entries)
                if standing == Standing.READY
            ]
            self._seen = page
        return self._ready
