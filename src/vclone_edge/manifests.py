"""Manifests ready to answer requests: in memory by bytes, on disk, else from the object store. They never change.

One load per manifest, however many requests wait. A manifest that can't be served is refused with an alarm in the log,
and the app goes on with the site's last good one.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Final

from cachetools import TTLCache

from vclone_core.errors import Invalid, NotFound, StoreUnavailable
from vclone_core.log import get_log
from vclone_core.models import Site
from vclone_core.rules.answers import CompiledManifest, compile_manifest
from vclone_core.rules.manifests import decode_manifest
from vclone_edge.disktier import DiskTier
from vclone_edge.upstream import Readable

MEMORY_BYTES: Final = 256 * 1024**2
# Python objects of a manifest against its JSON, measured by benchmarks/edge_rules.py.
GROWTH: Final = 3
LIMIT_BYTES: Final = 64 * 1024**2
INLINE_BYTES: Final = 32 * 1024  # Decoding more than this in the event loop would hold other requests for over 1 ms.
LOAD_S: Final = 10.0
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
        self._flights: dict[str, asyncio.Task[CompiledManifest | StoreUnavailable]] = {}
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
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._load(site))
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        outcome = await asyncio.shield(flight)
        if isinstance(outcome, StoreUnavailable):
            raise outcome.with_traceback(None)
        return outcome

    async def close(self) -> None:
        """End the loads under way."""
        tasks = list(self._flights.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self, site: Site) -> CompiledManifest | StoreUnavailable:
        key = site.manifest_key
        try:
            async with asyncio.timeout(LOAD_S):
                compiled = await self._load_from_disk(site)
                if compiled is None:
                    content = await self._fetch(key)
                    compiled = await self._compile(content, site)
                    self._keep(key, compiled, len(content) * GROWTH)
                    if self.disk:
                        self.disk.keep(key, content)
        except TimeoutError:
            error = StoreUnavailable(why="a manifest took too long")
        except StoreUnavailable as raised:
            error = raised
        except (Invalid, NotFound) as raised:
            # Ours to mend, not the visitor's: it must not look like a bad request or a missing page.
            why = f"the manifest of this deployment can't be used: {raised.sentence}"
            error = StoreUnavailable(why=why, is_gone=True)
        else:
            return compiled
        self.refusals += 1
        self._failed[key] = error
        log.error("manifest.refused", host=site.host, deployment=site.deployment_id, why=error.sentence)
        return error

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
        def compile_it() -> CompiledManifest:
            try:
                manifest = decode_manifest(content)
                if (manifest.project_id, manifest.deployment_id) != (site.project_id, site.deployment_id):
                    raise Invalid(what="the manifest is another deployment's")
                return compile_manifest(manifest)
            except (TypeError, AttributeError, ValueError, LookupError, RecursionError) as error:
                raise Invalid(what=f"the manifest has a field of a wrong type ({error})") from error

        return compile_it() if len(content) <= INLINE_BYTES else await asyncio.to_thread(compile_it)

    def _keep(self, key: str, compiled: CompiledManifest, cost_bytes: int) -> None:
        self._kept[key] = (compiled, cost_bytes)
        self._used_bytes += cost_bytes
        # The newest stays, however large: it is being asked for.
        while self._used_bytes > self.memory_bytes and len(self._kept) > 1:
            _, (_, freed_bytes) = self._kept.popitem(last=False)
            self._used_bytes -= freed_bytes
