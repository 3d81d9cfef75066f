"""The disk behind an edge's memory: manifests and hot blobs, so that a restarted edge serves them without a store.

No request waits for a write, and none fails with the disk: a disk that refuses a write turns the tier off, with one
alarm in the log, and is tried again once a minute. What can be read is read all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Final

from vclone_core.log import get_log
from vclone_edge.diskfiles import DiskCache

RETRY_S: Final = 60.0
WAITING_BYTES: Final = 16 * 1024**2
CLOSE_S: Final = 5.0

log = get_log(__name__)


class DiskTier:
    """Reads in threads, and one writer that nobody waits for. `files` is shared with the machine's other edges."""

    def __init__(self, files: DiskCache) -> None:
        self.files = files
        self.is_on = True
        self.writes = 0
        self.skips = 0
        """What was not written: the disk is slower than what comes in, or off."""
        self._waiting: dict[str, bytes] = {}
        self._waiting_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._off_since_s = 0.0

    async def get(self, key: str) -> bytes | None:
        """Return what is kept for `key`, whole as it was written; None when it isn't."""
        waiting = self._waiting.get(key)
        return waiting if waiting is not None else await asyncio.to_thread(self.files.get, key)

    def keep(self, key: str, content: bytes) -> None:
        """Have `content` written soon, unless much else is waiting for the disk."""
        is_refused = not self.is_on and time.monotonic() - self._off_since_s < RETRY_S
        if is_refused or self._waiting_bytes + len(content) > WAITING_BYTES:
            self.skips += 1
            return
        self._waiting_bytes += len(content) - len(self._waiting.get(key, b""))
        self._waiting[key] = content
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all())

    async def touch(self, keys: Sequence[str]) -> None:
        """Count these keys as used, the last ones most recently: what is hot in memory is never asked for here."""
        await asyncio.to_thread(self.files.touch, keys)

    async def close(self) -> None:
        """Write what is waiting, for five seconds at most."""
        if self._writer is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._writer

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                key, content = next(iter(self._waiting.items()))
                try:
                    await asyncio.to_thread(self.files.put, key, content)
                except OSError as error:
                    self._turn_off(error)
                else:
                    self.writes += 1
                    self._turn_on()
                # Removed only now: until it is on disk it is read from here.
                if self._waiting.get(key) is content:
                    del self._waiting[key]
                    self._waiting_bytes -= len(content)
        finally:
            self._writer = None

    def _turn_off(self, error: OSError) -> None:
        if self.is_on:
            log.error("disk_tier.off", folder=str(self.files.folder), why=error.strerror or str(error))
        self.is_on = False
        self._off_since_s = time.monotonic()
        self.skips += len(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0

    def _turn_on(self) -> None:
        if not self.is_on:
            log.info("disk_tier.on", folder=str(self.files.folder))
        self.is_on = True
