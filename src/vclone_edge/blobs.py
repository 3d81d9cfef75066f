"""Hot blobs: small files' bytes in memory, by their key in the object store, so content-addressed and never stale.

Filled whole and checked against their hash, once however many requests wait. Larger blobs are streamed (`stream.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from vclone_core.errors import NotFound, StoreUnavailable, UpstreamTimeout, VcloneError
from vclone_core.log import get_log
from vclone_core.protocols import ObjectStore

ADMIT_BYTES: Final = 1024 * 1024
ENTRY_BYTES: Final = 512  # What an entry costs beside its bytes: many empty files are not free.
FILL_S: Final = 30.0

log = get_log(__name__)


@dataclass(frozen=True, slots=True)
class Hot:
    """A blob in memory; `filled_s` on the monotonic clock."""

    content: bytes
    filled_s: float


class HotBlobs:
    """A byte-bounded memory of blobs in their order of use."""

    def __init__(self, store: ObjectStore, *, limit_bytes: int) -> None:
        self.store = store
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.fills = 0
        self._kept: OrderedDict[str, Hot] = OrderedDict()
        self._flights: dict[str, asyncio.Task[Hot | VcloneError]] = {}

    def admits(self, size: int) -> bool:
        """Say whether a blob of this size goes through memory. What would push out much of the rest does not."""
        return size <= ADMIT_BYTES and size * 8 <= self.limit_bytes

    def find(self, key: str) -> Hot | None:
        """Return a blob that is in memory."""
        hot = self._kept.get(key)
        if hot is not None:
            self._kept.move_to_end(key)
        return hot

    async def load(self, key: str, *, sha256: str, size: int) -> Hot:
        """Return a blob, read whole; raise `StoreUnavailable` or `UpstreamTimeout`, also for a blob that is damaged."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._fill(key, sha256, size))
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        outcome = await asyncio.shield(flight)
        if isinstance(outcome, VcloneError):
            raise outcome.with_traceback(None)
        return outcome

    async def close(self) -> None:
        """End the fills under way."""
        tasks = list(self._flights.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fill(self, key: str, sha256: str, size: int) -> Hot | VcloneError:
        self.fills += 1
        try:
            async with asyncio.timeout(FILL_S), self.store.open(key) as body:
                content = b"".join([chunk async for chunk in body.chunks])
        except TimeoutError:
            return UpstreamTimeout(what="The object store")
        except NotFound:
            log.error("blob.missing", key=key)
            return StoreUnavailable(why="an object of this deployment is missing")
        except VcloneError as error:
            return error
        if len(content) != size or hashlib.sha256(content).hexdigest() != sha256:
            log.error("blob.damaged", key=key, size=size, found=len(content))
            return StoreUnavailable(why="an object of this deployment is damaged")
        hot = self._kept[key] = Hot(content, time.monotonic())
        self.used_bytes += size + ENTRY_BYTES
        while self.used_bytes > self.limit_bytes and self._kept:
            _, freed = self._kept.popitem(last=False)
            self.used_bytes -= len(freed.content) + ENTRY_BYTES
        return hot
