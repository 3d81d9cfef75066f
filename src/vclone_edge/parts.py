"""What one edge process is made of, and how it starts and stops. Building it does no I/O."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import time
from dataclasses import dataclass, field
from typing import Final

from vclone_core.errors import VcloneError
from vclone_core.log import get_log
from vclone_core.plugins import Plugins
from vclone_core.rules.addresses import parse_allowed
from vclone_core.settings import Settings
from vclone_core.stores.objects import open_object_store
from vclone_core.stores.outbound import Outbound
from vclone_edge.accesslog import AccessLog
from vclone_edge.blobs import HotBlobs
from vclone_edge.cache import DomainCache
from vclone_edge.control import ControlStream
from vclone_edge.control_api import ControlApi
from vclone_edge.diskfiles import DiskCache
from vclone_edge.disktier import DiskTier
from vclone_edge.https import Https, make_https
from vclone_edge.manifests import Manifests
from vclone_edge.proxy import Proxy
from vclone_edge.remembered import Remembered
from vclone_edge.requestids import RequestIds
from vclone_edge.resolve import Resolver
from vclone_edge.snapshot import Place, claim_place, load_snapshots, save_snapshot, take_snapshot
from vclone_edge.upstream import Upstream

SNAPSHOT_EVERY_S: Final = 5.0
TOUCH_EVERY_S: Final = 60.0
STORE_S: Final = 1.0  # How long a restarted edge waits for its store before it serves what is on disk.
REFRESH_SNAPSHOT_S: Final = 60.0  # Ages are part of it: it is written anew also when no host moved.

log = get_log(__name__)


@dataclass(slots=True)
class Counters:
    """What a process counts, for `/metrics`."""

    requests: int = 0
    by_status: list[int] = field(default_factory=lambda: [0] * 6)
    """Responses by the first digit of their status."""
    hot_hits: int = 0
    stale: int = 0
    fallbacks: int = 0
    bytes_sent: int = 0
    aborted: int = 0
    clients_gone: int = 0
    failures: int = 0


@dataclass(slots=True)
class EdgeParts:
    """The parts of one edge process. `start` before the first request, `stop` after the last."""

    settings: Settings
    edge_id: str
    objects: Upstream
    api: ControlApi
    cache: DomainCache
    resolver: Resolver
    manifests: Manifests
    blobs: HotBlobs
    proxy: Proxy
    disk: DiskTier | None
    control: ControlStream
    access_log: AccessLog
    remembered: Remembered
    https: Https | None = None
    request_ids: RequestIds = field(default_factory=RequestIds)
    counters: Counters = field(default_factory=Counters)
    is_ready: bool = False
    place: Place | None = None
    _saver: asyncio.Task[None] | None = None
    _toucher: asyncio.Task[None] | None = None

    async def start(self, *, follow: bool = True) -> None:
        """Take up the snapshot, open the object store and follow the API; works also while the API is away.

        It starts also while the store can't be reached, and where it knows sites, whatever is wrong with the store:
        what is on its disk needs none. Raises what the store raises, where that won't pass. Without `follow`
        nothing is pushed to this process and no snapshot is read or written: for `vclone explain`.
        """
        version = None
        if follow:
            version = await asyncio.to_thread(self._load)
        if len(self.cache):
            await self.objects.start_soon(within_s=STORE_S)
        else:
            try:
                await self.objects.start()
            except VcloneError as error:
                if not error.facts.get("is_passing"):
                    await self.objects.close()
                    if self.place is not None:
                        self.place.give_back()
                    raise
                await self.objects.start_soon(within_s=0)
        await self.api.start()
        await self.proxy.start()
        if follow:
            await self.control.start(version=version)
            self._saver = asyncio.create_task(self._save_for_ever())
            self._toucher = asyncio.create_task(self._touch_for_ever())
            self.access_log.start()
        self.is_ready = True
        log.info("edge.started", edge_id=self.edge_id, sites=len(self.cache))

    async def stop(self) -> None:
        """Write the snapshot and give everything back."""
        self.is_ready = False
        if self._saver is not None and self._toucher is not None:
            for task in (self._saver, self._toucher):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            self._saver = self._toucher = None
            await self.control.close()
            await self.save()
            if self.place is not None:
                self.place.give_back()
        await self.resolver.close()
        await self.manifests.close()
        await self.blobs.close()
        if self.disk is not None:
            await self.disk.close()
        await self.proxy.close()
        await self.api.close()
        await self.objects.close()
        self.access_log.close()
        log.info("edge.stopped", edge_id=self.edge_id)

    async def save(self) -> None:
        """Write the snapshot now."""
        if self.place is None:
            return
        snapshot = take_snapshot(self.cache, self.control.version, time.time())
        if await save_snapshot(self.place.path, snapshot):
            await asyncio.to_thread(self.place.remove_abandoned)

    def _load(self) -> int | None:
        """Take up what the machine's edges knew; return the event version that stands for."""
        try:
            self.place = claim_place(self.settings.data_dir / "edge")
        except OSError as error:
            log.error("snapshot.unwritable", folder=str(self.settings.data_dir / "edge"), why=str(error))
            return None
        return load_snapshots(self.place.find_all(), self.cache, time.time())

    async def _save_for_ever(self) -> None:
        saved_changes, saved_s, took_s = self.cache.changes, time.monotonic(), 0.0
        while True:
            # Of a hundred thousand sites it takes a second or so: it must not become what the process does.
            await asyncio.sleep(max(SNAPSHOT_EVERY_S, took_s * 20))
            is_old = time.monotonic() - saved_s > REFRESH_SNAPSHOT_S and len(self.cache) > 0
            if self.cache.changes != saved_changes or is_old:
                saved_changes, saved_s = self.cache.changes, time.monotonic()
                await self.save()
                took_s = time.monotonic() - saved_s

    async def _touch_for_ever(self) -> None:
        """Keep on disk what is hot in memory: requests never ask the disk for it, so it would look unused."""
        while self.disk is not None:
            await asyncio.sleep(TOUCH_EVERY_S)
            blobs = [] if self.objects.is_local else self.blobs.keys()
            await self.disk.touch([*blobs, *self.manifests.keys()])


def build_parts(settings: Settings, plugins: Plugins) -> EdgeParts:
    """Return the parts of an edge, not yet started; raise `BadSettings` where no plugin offers the object store."""
    machine = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:40]
    edge_id = f"{machine}-{os.getpid()}-{os.urandom(3).hex()}"
    objects = Upstream(lambda: open_object_store(settings, plugins), reads_at_once=settings.edge_store_reads)
    api = ControlApi(settings.api_url, settings.edge_token.get_secret_value(), edge_id)
    cache = DomainCache(
        ttl_s=settings.edge_domain_ttl_s,
        negative_ttl_s=settings.edge_negative_ttl_s,
        stale_s=settings.edge_stale_s,
    )
    resolver = Resolver(cache, api)
    disk = None
    if settings.edge_disk_bytes:
        disk = DiskTier(DiskCache(settings.data_dir / "edge" / "objects", limit_bytes=settings.edge_disk_bytes))
    manifests = Manifests(objects, disk)
    blobs = HotBlobs(objects, disk, limit_bytes=settings.edge_hot_bytes)
    https = make_https(settings, plugins)
    return EdgeParts(
        settings=settings,
        edge_id=edge_id,
        objects=objects,
        api=api,
        cache=cache,
        resolver=resolver,
        manifests=manifests,
        blobs=blobs,
        proxy=Proxy(
            Outbound(parse_allowed(settings.outbound_allow.split(","))),
            base_domain=settings.base_domain,
            limit=settings.edge_proxied,
            wait_s=settings.edge_proxy_wait_s,
            body_limit_bytes=settings.edge_proxy_body_bytes,
        ),
        disk=disk,
        control=ControlStream(api, resolver, manifests),
        access_log=AccessLog(is_on=settings.log_format == "json" or settings.log_level == "debug"),
        remembered=Remembered(cache, manifests, blobs, https),
        https=https,
    )
