"""Hot blobs: small files' bytes in memory, by their key in the object store, so content-addressed and never stale.

    memory -> disk -> object store

Filled whole and checked against their hash, once however many requests wait. The disk comes in only where the store's
objects are not local files themselves. Larger blobs are streamed (`stream.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from vclone_core.errors import Invalid, NotFound, StoreUnavailable, UpstreamTimeout
from vclone_core.log import get_log
from vclone_core.models import Span
from vclone_edge.disktier import DiskTier
from vclone_edge.extents import Extent
from vclone_edge.flights import Flights
from vclone_edge.upstream import Readable

ADMIT_BYTES: Final = 1024 * 1024
ENTRY_BYTES: Final = 512  # What an entry costs beside its bytes: many empty files are not free.
FILL_S: Final = 30.0

log = get_log(__name__)


@dataclass(slots=True, eq=False)
class Hot:
    """A blob in memory; `filled_s` on the monotonic clock."""

    content: bytes
    filled_s: float
    _age_s: int = -1
    _age: tuple[bytes, bytes] = (b"age", b"")

    def age(self) -> tuple[bytes, bytes]:
        """Return the header field that says for how many seconds it has been here (RFC 9111 §5.1)."""
        age_s = int(time.monotonic() - self.filled_s)
        if age_s != self._age_s:
            self._age_s, self._age = age_s, (b"age", b"%d" % age_s)
        return self._age

    def cut(self, span: Span | None) -> bytes | memoryview:
        """Return the bytes of a span, which aren't copied; of None, all."""
        return self.content if span is None else memoryview(self.content)[span.start : span.end + 1]


class HotBlobs:
    """A byte-bounded memory of blobs in their order of use."""

    def __init__(self, store: Readable, disk: DiskTier | None = None, *, limit_bytes: int) -> None:
        self.store = store
        self.disk = disk
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.fills = 0
        self.disk_hits = 0
        self._kept: OrderedDict[str, Hot] = OrderedDict()
        self._flights = Flights[Hot]()

    def admits(self, size: int) -> bool:
        """Say whether a blob of this size goes through memory. What would push out much of the rest does not."""
        return size <= ADMIT_BYTES and size * 8 <= self.limit_bytes

    def find(self, key: str) -> Hot | None:
        """Return a blob that is in memory."""
        hot = self._kept.get(key)
        if hot is not None:
            self._kept.move_to_end(key)
        return hot

    def keys(self) -> list[str]:
        """Return the keys in memory, the least recently used first."""
        return [*self._kept]

    async def load(self, key: str, *, sha256: str, size: int, extent: Extent) -> Hot:
        """Return the blob at `extent`, read whole; it is kept under `key`.

        Raises `StoreUnavailable` or `UpstreamTimeout`, also for a blob that is damaged.
        """
        return await self._flights.join(key, lambda: self._fill(key, sha256, size, extent))

    async def close(self) -> None:
        """End the fills under way."""
        await self._flights.close()

    async def _fill(self, key: str, sha256: str, size: int, extent: Extent) -> Hot:
        self.fills += 1
        content = await self._read_disk(key, sha256, size)
        if content is None:
            content = await self._read_store(key, sha256, size, extent)
        hot = self._kept[key] = Hot(content, time.monotonic())
        self.used_bytes += size + ENTRY_BYTES
        while self.used_bytes > self.limit_bytes and self._kept:
            _, freed = self._kept.popitem(last=False)
            self.used_bytes -= len(freed.content) + ENTRY_BYTES
        return hot

    async def _read_disk(self, key: str, sha256: str, size: int) -> bytes | None:
        if self.disk is None or self.store.is_local:
            return None
        content = await self.disk.get(key)
        if content is None or not _is_whole(content, sha256, size):
            return None
        self.disk_hits += 1
        return content

    async def _read_store(self, key: str, sha256: str, size: int, extent: Extent) -> bytes:
        try:
            async with asyncio.timeout(FILL_S), self.store.open(extent.key, extent.span) as body:
                content = b"".join([chunk async for chunk in body.chunks])
        except TimeoutError:
            raise UpstreamTimeout(what="The object store") from None
        except NotFound:
            log.error("blob.missing", key=extent.key)
            raise StoreUnavailable(why="an object of this deployment is missing") from None
        except Invalid:  # it ends before the span
            content = b""
        if not _is_whole(content, sha256, size):
            log.error("blob.damaged", key=extent.key, size=size, found=len(content))
            raise StoreUnavailable(why="an object of this deployment is damaged")
        if self.disk is not None and not self.store.is_local:
            self.disk.keep(key, content)
        return content


def _is_whole(content: bytes, sha256: str, size: int) -> bool:
    return len(content) == size and hashlib.sha256(content).hexdigest() == sha256
