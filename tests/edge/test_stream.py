"""Streaming: constant memory, back-pressure, leaving early, short upstream reads."""

from __future__ import annotations

import asyncio
import hashlib
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.edge.client import Client
from tests.edge.conftest import Platform, eventually

from vclone_core import ObjectBody, ObjectStore, Span
from vclone_core.errors import StoreUnavailable
from vclone_core.rules.objectkeys import blob_key
from vclone_edge import stream, upstream
from vclone_edge.app import build_app
from vclone_edge.parts import EdgeParts
from vclone_edge.stream import StreamAborted

HOST = "shop.localhost"
MIB = 1024 * 1024


class CountingStore:
    """Any store, counted: what is open, and what was read. Can end bodies early, or stop giving."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.is_open = 0
        self.read_bytes = 0
        self.opened = 0
        self.ends_after: int | None = None
        self.fails_after: int | None = None
        self.gives = asyncio.Event()
        self.gives.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def open(
        self, key: str, span: Span | None = None, *, etag: str | None = None
    ) -> AbstractAsyncContextManager[ObjectBody]:
        return self._open(key, span, etag)

    @asynccontextmanager
    async def _open(self, key: str, span: Span | None, etag: str | None) -> AsyncIterator[ObjectBody]:
        async with self._store.open(key, span, etag=etag) as body:
            self.is_open += 1
            self.opened += 1
            try:
                yield ObjectBody(body.info, body.size, self._chunks(body))
            finally:
                self.is_open -= 1

    async def _chunks(self, body: ObjectBody) -> AsyncIterator[bytes]:
        sent = 0
        async for chunk in body.chunks:
            await self.gives.wait()
            if self.ends_after is not None and sent + len(chunk) > self.ends_after:
                yield chunk[: self.ends_after - sent]
                return
            if self.fails_after is not None and sent + len(chunk) > self.fails_after:
                raise StoreUnavailable(why="it was cut")
            sent += len(chunk)
            self.read_bytes += len(chunk)
            yield chunk


@pytest.fixture
async def store(edge: EdgeParts) -> CountingStore:
    store = CountingStore(edge.objects.store)
    edge.objects.store = store
    return store


@pytest.mark.product("B10.2")
async def test_slow_client_costs_a_chunk_not_the_file(platform: Platform, client: Client, store: CountingStore) -> None:
    await platform.publish(HOST, {"/big.bin": b"x" * (16 * MIB)})
    hold = asyncio.Event()
    task = asyncio.create_task(client.get(f"http://{HOST}/big.bin", hold=hold))
    await eventually(lambda: store.read_bytes > 0)
    await asyncio.sleep(0.1)
    assert store.read_bytes <= 1 * MIB
    hold.set()
    reply = await task
    assert len(reply.body) == 16 * MIB


@pytest.mark.parametrize("extra", [{}, {"range": "bytes=1-"}], ids=["whole", "range"])
@pytest.mark.product("B10.2")
async def test_a_body_from_memory_goes_at_the_clients_speed_too(
    platform: Platform,
    client: Client,
    edge: EdgeParts,
    extra: dict[str, str],
    logged: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = bytes(range(256)) * 3000
    await platform.publish(HOST, {"/app.bin": content})
    for _ in range(2):  # The second is one that was answered before.
        reply = await client.get(f"http://{HOST}/app.bin", headers=extra)
        assert reply.body == content[1 if extra else 0 :]
        assert max(reply.pieces) <= stream.WHOLE_BYTES
    assert edge.counters.hot_hits
    left = await client.get(f"http://{HOST}/app.bin", headers=extra, leave_after=100_000)
    assert len(left.body) < len(content) // 2
    assert edge.counters.clients_gone == 1
    monkeypatch.setattr(stream, "STALL_S", 0.05)
    with pytest.raises(StreamAborted):
        await client.get(f"http://{HOST}/app.bin", headers=extra, hold=asyncio.Event())
    assert "response.aborted" not in logged()


@pytest.mark.processes
@pytest.mark.product("B10.1")
async def test_gigabyte_streams_in_constant_memory(platform: Platform, edge: EdgeParts) -> None:
    size = 1024 * MIB
    path = platform.folder / "objects" / "x"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    # The hash of a large blob is not read again at the edge, so a sparse file may stand under any name.
    site = await platform.publish(HOST, {"/a.html": b"a"})
    sha256 = "f" * 64
    key = blob_key(site.project_id, sha256)
    path.rename(platform.folder / "objects" / key)
    await _publish_entry(platform, "/huge.bin", sha256, size)
    app = build_app(edge)
    before, seen, most = resident_bytes(), 0, 0

    async def send(message: dict[str, Any]) -> None:
        nonlocal seen, most
        seen += len(message.get("body", b""))
        most = max(most, resident_bytes())

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/huge.bin",
        "raw_path": b"/huge.bin",
        "query_string": b"",
        "headers": [(b"host", b"huge.localhost")],
    }
    await app(scope, receive, send)
    assert seen == size
    assert most - before < 32 * MIB


def resident_bytes() -> int:
    """What this process holds now: its highest ever may be another test's."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def _publish_entry(platform: Platform, name: str, sha256: str, size: int) -> None:
    from vclone_core.models import AliasKind, FileEntry, Manifest, Site
    from vclone_core.rules.manifests import encode_manifest
    from vclone_core.rules.objectkeys import manifest_key

    entry = FileEntry(sha256, size, "application/octet-stream")
    manifest = Manifest("dep_huge", "prj_1", None, {name: entry}, ())
    key = manifest_key("prj_1", "dep_huge")
    await platform.put(key, encode_manifest(manifest))
    platform.peer.move("huge.localhost", Site("huge.localhost", "prj_1", "dep_huge", key, AliasKind.PRODUCTION, 0))


@pytest.mark.product("B10.3")
async def test_leaving_early_stops_the_reading(
    platform: Platform, client: Client, store: CountingStore, edge: EdgeParts
) -> None:
    await platform.publish(HOST, {"/big.bin": b"x" * (16 * MIB)})
    await client.get(f"http://{HOST}/big.bin", leave_after=MIB, pause_s=0.001)
    assert store.read_bytes < 3 * MIB
    assert store.is_open == 0
    assert edge.counters.clients_gone == 1


async def test_leaving_while_the_store_is_silent_frees_it(
    platform: Platform, client: Client, store: CountingStore, edge: EdgeParts
) -> None:
    await platform.publish(HOST, {"/big.bin": b"x" * (4 * MIB)})
    await client.get(f"http://{HOST}/none", method="HEAD")
    store.gives.clear()
    task = asyncio.create_task(client.get(f"http://{HOST}/big.bin"))
    await eventually(lambda: store.is_open == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.is_open == 0


@pytest.mark.parametrize("cut", [0, 1, 2 * MIB - 1])
@pytest.mark.parametrize("how", ["ends_after", "fails_after"])
@pytest.mark.product("B10.4")
async def test_short_read_never_looks_complete(
    platform: Platform, client: Client, store: CountingStore, cut: int, how: str
) -> None:
    await platform.publish(HOST, {"/big.bin": b"x" * (2 * MIB)})
    await client.get(f"http://{HOST}/big.bin", method="HEAD")
    setattr(store, how, cut)
    if cut == 2 * MIB - 1:
        # The rest is asked for again, and then it is complete.
        assert (await client.get(f"http://{HOST}/big.bin")).body == b"x" * (2 * MIB)
    else:
        # After three more tries it is given up.
        try:
            assert (await client.get(f"http://{HOST}/big.bin")).status == 503
        except StreamAborted:
            assert cut > 0
        assert store.opened == 5  # The manifest, and four times this.
    assert store.is_open == 0


async def test_short_read_of_a_small_file_is_not_kept(
    platform: Platform, client: Client, store: CountingStore, edge: EdgeParts
) -> None:
    await platform.publish(HOST, {"/a.html": b"x" * 1000})
    await client.get(f"http://{HOST}/a.html", method="HEAD")
    store.ends_after = 200
    assert (await client.get(f"http://{HOST}/a.html")).status == 503
    store.ends_after = None
    reply = await client.get(f"http://{HOST}/a.html")
    assert (reply.status, reply.body) == (200, b"x" * 1000)


async def test_silent_store_is_504_and_stalled_client_is_cut(
    platform: Platform, client: Client, store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await platform.publish(HOST, {"/big.bin": b"x" * (2 * MIB)})
    await client.get(f"http://{HOST}/big.bin", method="HEAD")
    monkeypatch.setattr(upstream, "FIRST_BYTE_S", 0.05)
    monkeypatch.setattr(stream, "STALL_S", 0.05)
    store.gives.clear()
    assert (await client.get(f"http://{HOST}/big.bin")).status == 504
    store.gives.set()
    with pytest.raises(StreamAborted):
        await client.get(f"http://{HOST}/big.bin", hold=asyncio.Event())
    assert store.is_open == 0


async def test_error_that_nobody_foresaw_is_500_with_its_id(
    platform: Platform, client: Client, store: CountingStore, logged: Callable[[], str]
) -> None:
    await platform.publish(HOST, {"/a.html": b"a", "/big.bin": b"x" * (2 * MIB)})
    await client.get(f"http://{HOST}/a.html", method="HEAD")
    store.gives = None
    for name in ("a.html", "big.bin"):
        reply = await client.get(f"http://{HOST}/{name}")
        assert reply.status == 500
        assert (reply["x-vclone-id"] or "?").encode() in reply.body
        assert b"NoneType" not in reply.body
        assert (reply["x-vclone-id"] or "?") in logged()


async def test_one_fill_however_many_wait(
    platform: Platform, client: Client, store: CountingStore, edge: EdgeParts
) -> None:
    await platform.publish(HOST, {"/a.html": b"a" * 1000})
    store.gives.clear()
    tasks = [asyncio.create_task(client.get(f"http://{HOST}/a.html")) for _ in range(50)]
    await asyncio.sleep(0.05)
    store.gives.set()
    replies = await asyncio.gather(*tasks)
    assert {(reply.status, reply.body) for reply in replies} == {(200, b"a" * 1000)}
    assert edge.blobs.fills == 1
    assert store.opened == 2  # The manifest and the blob.


async def test_first_to_ask_may_leave_and_the_others_still_get_it(
    platform: Platform, client: Client, store: CountingStore
) -> None:
    await platform.publish(HOST, {"/a.html": b"a" * 1000})
    store.gives.clear()
    first = asyncio.create_task(client.get(f"http://{HOST}/a.html"))
    await asyncio.sleep(0.02)
    second = asyncio.create_task(client.get(f"http://{HOST}/a.html"))
    await asyncio.sleep(0.02)
    first.cancel()
    store.gives.set()
    assert (await second).body == b"a" * 1000


async def test_hot_memory_is_bounded(platform: Platform) -> None:
    edge = await platform.start_edge(edge_hot_bytes=MIB)
    client = Client(build_app(edge))
    files = {f"/{n}.bin": hashlib.sha256(str(n).encode()).digest() * 2000 for n in range(40)}
    await platform.publish(HOST, {**files, "/large.bin": b"l" * (MIB // 2)})
    for name, content in [*files.items(), *files.items()]:
        assert (await client.get(f"http://{HOST}{name}")).body == content
        assert edge.blobs.used_bytes <= MIB
    assert (await client.get(f"http://{HOST}/large.bin")).status == 200
    assert edge.blobs.fills > 40
