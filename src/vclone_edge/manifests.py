"""Manifests ready to answer requests: in memory by bytes, on disk, else from the object store. They never change.

One load per manifest, however many requests wait. A manifest that can't be served is refused with an alarm in the log,
and the app goes on with the site's last good one.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Final

from cachetools import TTLCache

from vclone_core.errors import Invalid, NotFound, StoreUnavailable
from vclone_core.log import get_log
from vclone_core.models import Site
from vclone_core.rules.answers import CompiledManifest, compile_manifest
from vclone_core.rules.manifests import decode_manifest
from vclone_edge.disktier import DiskTier
from vclone_edge.flights import Flights
from vclone_edge.upstream import Readable

MEMORY_BYTES: Final = 256 * 1024**2
# Python objects of a manifest against its JSON, measured by benchmarks/edge_rules.py.
GROWTH: Final = 3
LIMIT_BYTES: Final = 64 * 1024**2
INLINE_BYTES: Final = 32 * 1024  # Decoding more than this in the event loop would hold other requests for over 1 ms.
QUIET_BYTES: Final = 1024**2
FETCH_S: Final = 10.0
FAILURE_S: Final = 1.0

log = get_log(__name__)


class Manifests:
    """Compiled manifests by their key in the object store."""

    def __init__(self, store: Readable, disk: DiskTier | None, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self.store = store
        self.disk = disk
        self.memory_bytes = memory_bytes
        self.loads = 0
        self.refusals = 0
        self._kept: OrderedDict[str, tuple[CompiledManifest, int]] = OrderedDict()
        self._used_bytes = 0
        self._flights = Flights[CompiledManifest]()
        self._threads: ThreadPoolExecutor | None = None
        self._failed: TTLCache[str, StoreUnavailable] = TTLCache(1024, FAILURE_S, timer=time.monotonic)

    def find(self, site: Site) -> CompiledManifest | None:
        """Return a site's manifest if it is in memory."""
        kept = self._kept.get(site.manifest_key)
        if kept is None:
            return None
        self._kept.move_to_end(site.manifest_key)
        return kept[0]

    def keys(self) -> list[str]:
        """Return the keys in memory, the least recently used first."""
        return [*self._kept]

    async def load(self, site: Site) -> CompiledManifest:
        """Return a site's manifest from wherever it is; raise `StoreUnavailable` when it can't be had or served."""
        found = self.find(site)
        if found is not None:
            return found
        key = site.manifest_key
        if (failed := self._failed.get(key)) is not None:
            raise failed.with_traceback(None)
        return await self._flights.join(key, lambda: self._load(site))

    async def close(self) -> None:
        """End the loads under way."""
        await self._flights.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _load(self, site: Site) -> CompiledManifest:
        key = site.manifest_key
        try:
            compiled = await self._load_from_disk(site)
            if compiled is None:
                async with asyncio.timeout(FETCH_S):
                    content = await self._fetch(key)
                compiled = await self._compile(content, site)
                self._keep(key, compiled, len(content) * GROWTH)
                if self.disk:
                    self.disk.keep(key, content)
            return compiled
        except TimeoutError:
            error = StoreUnavailable(why="a manifest took too long")
        except StoreUnavailable as raised:
            error = raised
        except (Invalid, NotFound) as raised:
            # Ours to mend, not the visitor's: it must not look like a bad request or a missing page.
            why = f"the manifest of this deployment can't be used: {raised.sentence}"
            error = StoreUnavailable(why=why, is_gone=True)
        self.refusals += 1
        self._failed[key] = error
        log.error("manifest.refused", host=site.host, deployment=site.deployment_id, why=error.sentence)
        raise error

    async def _load_from_disk(self, site: Site) -> CompiledManifest | None:
        content = await self.disk.get(site.manifest_key) if self.disk else None
        if content is None:
            return None
        try:
            compiled = await self._compile(content, site)
        except Invalid as error:
            log.error("manifest.dropped", deployment=site.deployment_id, why=error.sentence)
            return None
        self._keep(site.manifest_key, compiled, len(content) * GROWTH)
        return compiled

    async def _fetch(self, key: str) -> bytes:
        self.loads += 1
        async with self.store.open(key) as body:
            if body.size > LIMIT_BYTES:
                raise Invalid(what=f"the manifest is larger than {LIMIT_BYTES} bytes")
            content = b"".join([chunk async for chunk in body.chunks])
        if len(content) != body.size:
            raise StoreUnavailable(why="a manifest came short")
        return content

    async def _compile(self, content: bytes, site: Site) -> CompiledManifest:
        if len(content) <= INLINE_BYTES:
            return decode_and_compile(content, site)
        if self._threads is None:
            # One at a time, and not among those who read files: two would only take turns, and hold up the loop more.
            self._threads = ThreadPoolExecutor(1, thread_name_prefix="compile")
        return await asyncio.get_running_loop().run_in_executor(self._threads, decode_and_compile, content, site)

    def _keep(self, key: str, compiled: CompiledManifest, cost_bytes: int) -> None:
        self._kept[key] = (compiled, cost_bytes)
        self._used_bytes += cost_bytes
        # The newest stays, however large: it is being asked for.
        while self._used_bytes > self.memory_bytes and len(self._kept) > 1:
            _, (_, freed_bytes) = self._kept.popitem(last=False)
            self._used_bytes -= freed_bytes


def decode_and_compile(content: bytes, site: Site) -> CompiledManifest:
    """Return the manifest in `content`, ready; raise `Invalid` where it is another's, or can't be served."""
    try:
        with _without_collector() if len(content) > QUIET_BYTES else nullcontext():
            manifest = decode_manifest(content)
            if (manifest.project_id, manifest.deployment_id) != (site.project_id, site.deployment_id):
                raise Invalid(what="the manifest is another deployment's")
            return compile_manifest(manifest)
    except (TypeError, AttributeError, ValueError, LookupError, RecursionError) as error:
        raise Invalid(what=f"the manifest has a field of a wrong type ({error})") from error


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep Python's collector of cycles from looking at a manifest, which has none, again and again as it grows.

    Each look at a million objects stops every thread for a quarter of a second. What there is at the end is left out of
    later looks; it goes as ever when nobody refers to it.
    """
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
