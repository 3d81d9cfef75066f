"""An edge over a real local object store, and a peer that speaks the control plane's protocol."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from tests.edge.client import Client
from tests.edge.peer import TOKEN, ControlPeer

from vclone_core import ObjectStore
from vclone_core.models import AliasKind, EarlierFile, FileEntry, Manifest, Pack, Route, Site, Variant
from vclone_core.plugins import load_plugins
from vclone_core.rules.manifests import encode_manifest
from vclone_core.rules.objectkeys import blob_key, manifest_key
from vclone_core.settings import load_settings
from vclone_edge.app import build_app
from vclone_edge.parts import EdgeParts, build_parts

TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


class Platform:
    """One peer, one store of objects (a folder, unless `objects` is given), and as many edges as a test starts."""

    def __init__(self, folder: Path, peer: ControlPeer, objects: ObjectStore | None = None, **store: Any) -> None:
        self.folder = folder
        self.peer = peer
        self.objects = objects
        self.store_settings = store or {"store": f"file://{folder / 'objects'}"}
        self.edges: list[EdgeParts] = []
        self.deployments = 0

    def build(self, **settings: Any) -> EdgeParts:
        parts = build_parts(
            load_settings(
                {},
                **{"data_dir": self.folder / "data", **self.store_settings, **settings},
                api_url=self.peer.url,
                edge_token=TOKEN,
            ),
            load_plugins(),
        )
        self.edges.append(parts)
        return parts

    async def start_edge(self, *, waits: bool = True, **settings: Any) -> EdgeParts:
        parts = self.build(**settings)
        await parts.start()
        if waits:
            await eventually(lambda: parts.control.is_connected)
        return parts

    async def publish(
        self,
        host: str,
        files: Mapping[str, bytes],
        *,
        routes: tuple[Route, ...] = (),
        variants: Mapping[str, Mapping[str, bytes]] | None = None,
        project: str = "prj_1",
        kind: AliasKind = AliasKind.PRODUCTION,
        is_told: bool = True,
        is_packed: bool = False,
        earlier: Mapping[str, EarlierFile] | None = None,
        **site: Any,
    ) -> Site:
        """Store a deployment as the pipeline would, and point the host at it."""
        self.deployments += 1
        deployment = f"dep_{self.deployments}"
        entries = {}
        for path, content in files.items():
            copies = dict((variants or {}).get(path, {}))
            packed = b"before" + b"".join(copies.values())
            starts = accumulate(map(len, copies.values()), initial=len(b"before"))
            pack_sha256 = await self.store(project, packed) if copies and is_packed else ""
            places = [Pack(pack_sha256, len(packed), start) if pack_sha256 else None for start in starts]
            entries[path] = FileEntry(
                sha256=await self.store(project, content),
                size=len(content),
                type=TYPES.get(Path(path).suffix, "application/octet-stream"),
                immutable="." in Path(path).stem,
                variants={
                    coding: Variant(
                        hashlib.sha256(copy).hexdigest() if place else await self.store(project, copy), len(copy), place
                    )
                    for (coding, copy), place in zip(copies.items(), places, strict=False)
                },
            )
        manifest = Manifest(deployment, project, None, entries, routes, earlier=earlier or {})
        await self.put(manifest_key(project, deployment), encode_manifest(manifest))
        made = Site(host, project, deployment, manifest_key(project, deployment), kind, 0, **site)
        version = self.peer.move(host, made, is_told=is_told)
        return self.peer.sites[host] if version else made

    async def store(self, project: str, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        await self.put(blob_key(project, sha256), content)
        return sha256

    async def put(self, key: str, content: bytes) -> None:
        if self.objects is not None:
            await self.objects.put(key, content, size=len(content))
            return
        path = self.folder / "objects" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


async def eventually(holds: Callable[[], Any], *, within_s: float = 5.0) -> float:
    """Wait until something holds; return the seconds it took."""
    started = time.perf_counter()
    while not holds():
        assert time.perf_counter() - started < within_s, "it never came to hold"
        await asyncio.sleep(0.002)
    return time.perf_counter() - started


@pytest.fixture
async def peer() -> AsyncIterator[ControlPeer]:
    peer = ControlPeer()
    await peer.start()
    yield peer
    peer.runs.set()
    await peer.stop()


@pytest.fixture
async def platform(tmp_path: Path, peer: ControlPeer) -> AsyncIterator[Platform]:
    platform = Platform(tmp_path, peer)
    yield platform
    for parts in platform.edges:
        if parts.is_ready:
            await parts.stop()


@pytest.fixture
async def edge(platform: Platform) -> EdgeParts:
    return await platform.start_edge()


@pytest.fixture
def client(edge: EdgeParts) -> Client:
    return Client(build_app(edge))
