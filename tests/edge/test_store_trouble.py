"""An edge over a real S3 server that is slow, cut, silent, full of readers, or gone."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contracts import s3_servers
from tests.contracts.faults import FaultProxy
from tests.edge.client import Client, Reply
from tests.edge.conftest import Platform, eventually
from tests.edge.peer import ControlPeer

from vclone_core import ObjectStore
from vclone_core.plugins import load_plugins
from vclone_core.rules.objectkeys import blob_key
from vclone_core.settings import load_settings
from vclone_core.stores.objects import open_object_store
from vclone_edge import upstream
from vclone_edge.app import build_app
from vclone_edge.parts import EdgeParts
from vclone_edge.stream import StreamAborted

pytestmark = pytest.mark.processes

MIB = 1024 * 1024
PAGE = b"<h1>hot</h1>" * 50
LARGE = hashlib.shake_256(b"large").digest(5 * MIB)
HOST, OTHER = "shop.localhost", "other.localhost"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_servers.Program]:
    folder = tmp_path_factory.mktemp("store") / "objects"
    binary = s3_servers.find_minio()
    server = s3_servers.minio(folder, binary) if binary else s3_servers.rclone(folder)
    server.start()
    yield server
    server.stop()


def keys() -> dict[str, str]:
    return {"store_access_key": s3_servers.ACCESS_KEY, "store_secret_key": s3_servers.SECRET_KEY}


@pytest.fixture
async def objects(server: s3_servers.Program) -> AsyncIterator[ObjectStore]:
    """The store, past the proxy."""
    url = f"s3://edge-tests?endpoint={server.endpoint}"
    store = open_object_store(load_settings({}, store=url, **keys()), load_plugins())
    await store.start()
    yield store
    await store.close()


@pytest.fixture
async def proxy(server: s3_servers.Program) -> AsyncIterator[FaultProxy]:
    host, _, port = server.endpoint.removeprefix("http://").partition(":")
    proxy = FaultProxy((host, int(port)))
    await proxy.listen()
    yield proxy
    proxy.mend()
    await proxy.refuse()


@pytest.fixture
async def platform(
    tmp_path: Path, peer: ControlPeer, objects: ObjectStore, proxy: FaultProxy
) -> AsyncIterator[Platform]:
    url = f"s3://edge-tests?endpoint={proxy.endpoint}&connect_timeout_s=2&read_timeout_s=5"
    platform = Platform(tmp_path, peer, objects, store=url, **keys())
    platform.deployments = time.time_ns()  # The bucket is shared by the tests, and a manifest is never replaced.
    yield platform
    for parts in platform.edges:
        if parts.is_ready:
            await parts.stop()


async def get(edge: EdgeParts, path: str, host: str = HOST, **facts: Any) -> Reply:
    return await Client(build_app(edge)).get(f"http://{host}{path}", **facts)


def disk_files(edge: EdgeParts) -> list[Path]:
    assert edge.disk is not None
    return sorted(path for path in edge.disk.files.folder.iterdir() if not path.name.startswith("."))


async def warm(platform: Platform, edge: EdgeParts) -> None:
    """Publish a site with two small files, ask for both, and wait until they and the manifest are on disk."""
    await platform.publish(HOST, {"/index.html": PAGE, "/a.js": b"js"})
    for path, content in (("/", PAGE), ("/a.js", b"js")):
        assert (await get(edge, path)).body == content
    assert edge.disk is not None
    await eventually(lambda: edge.disk is not None and edge.disk.writes == 3)


# The disk behind the memory (B2, R1, R2, R14).


async def test_hot_sites_are_served_without_store_and_api_also_after_a_restart(
    platform: Platform, proxy: FaultProxy, peer: ControlPeer
) -> None:
    edge = await platform.start_edge()
    await warm(platform, edge)
    await proxy.refuse()
    await peer.stop()
    assert (await get(edge, "/")).body == PAGE
    await edge.stop()

    started = time.perf_counter()
    again = await platform.start_edge(waits=False)
    assert time.perf_counter() - started < 2.5
    for path, content in (("/", PAGE), ("/a.js", b"js")):
        reply = await get(again, path)
        assert (reply.status, reply.body) == (200, content)
    assert again.blobs.disk_hits == 2
    # What is not on disk is an honest error, and the store is taken up again when it is back.
    await platform.publish(OTHER, {"/index.html": b"new"}, project="prj_2")
    assert (await get(again, "/", OTHER)).status == 503
    await proxy.listen()
    await peer.start()
    await eventually(lambda: again.objects.is_started, within_s=8)
    async with asyncio.timeout(8):
        while (await get(again, "/", OTHER)).body != b"new":
            await asyncio.sleep(0.1)


async def test_edge_that_knows_nothing_starts_before_its_store(platform: Platform, proxy: FaultProxy) -> None:
    await proxy.refuse()
    edge = await platform.start_edge()
    await platform.publish(HOST, {"/index.html": PAGE})
    assert (await get(edge, "/")).status == 503
    await proxy.listen()
    await eventually(lambda: edge.objects.is_started, within_s=8)
    await asyncio.sleep(1)  # A manifest that failed is remembered for a second.
    assert (await get(edge, "/")).body == PAGE


@pytest.mark.parametrize("damage", ["truncated", "flipped", "another", "empty"])
async def test_damaged_files_are_dropped_and_read_anew(platform: Platform, damage: str) -> None:
    edge = await platform.start_edge()
    await warm(platform, edge)
    await edge.stop()
    for path in disk_files(edge):
        content = bytearray(path.read_bytes())
        if damage == "flipped":
            content[-1] ^= 1
        elif damage == "another":
            content = bytearray(hashlib.sha256(b"wrong").hexdigest().encode() + b"\nwrong")
        path.write_bytes(content[:-1] if damage == "truncated" else b"" if damage == "empty" else content)
    again = await platform.start_edge()
    assert (await get(again, "/")).body == PAGE
    assert again.blobs.disk_hits == 0
    await eventually(lambda: again.disk is not None and again.disk.writes == 2)
    await again.stop()
    third = await platform.start_edge()
    assert (await get(third, "/")).body == PAGE
    assert third.blobs.disk_hits == 1


async def test_disk_is_bounded_and_what_is_hot_in_memory_stays(platform: Platform) -> None:
    edge = await platform.start_edge(edge_disk_bytes=300_000)
    assert edge.disk is not None
    files = {f"/{n}.bin": hashlib.shake_256(b"%d" % n).digest(20_000) for n in range(60)}
    await platform.publish(HOST, {"/index.html": PAGE, **files})
    await get(edge, "/")
    for n, (path, content) in enumerate(files.items()):
        assert (await get(edge, path)).body == content
        await eventually(lambda n=n: edge.disk.writes == n + 3)
        await edge.disk.touch([*edge.blobs.keys()[:1], *edge.manifests.keys()])
        assert sum(path.stat().st_size for path in disk_files(edge)) <= 300_000
    await edge.stop()
    again = await platform.start_edge(edge_disk_bytes=300_000)
    await get(again, "/")
    assert (again.blobs.disk_hits, again.manifests.loads) == (1, 0)


async def test_disk_that_refuses_turns_the_tier_off_with_one_alarm(
    platform: Platform, logged: Callable[[], str]
) -> None:
    edge = await platform.start_edge()
    assert edge.disk is not None
    edge.disk.files.folder.parent.mkdir(parents=True, exist_ok=True)
    edge.disk.files.folder.write_text("in the way")
    await platform.publish(HOST, {f"/{n}.html": b"%d" % n for n in range(5)})
    for n in range(5):
        assert (await get(edge, f"/{n}.html")).body == b"%d" % n
        await asyncio.sleep(0.02)
    assert not edge.disk.is_on
    assert logged().count("disk_tier.off") == 1
    edge.disk.files.folder.unlink()
    edge.disk._off_since_s = 0.0
    await platform.publish(OTHER, {"/index.html": b"later"})
    assert (await get(edge, "/", OTHER)).body == b"later"
    await eventually(lambda: edge.disk is not None and edge.disk.is_on)


async def test_local_objects_are_not_copied(tmp_path: Path, peer: ControlPeer) -> None:
    platform = Platform(tmp_path, peer)
    edge = await platform.start_edge()
    await platform.publish(HOST, {"/index.html": PAGE})
    assert (await get(edge, "/")).body == PAGE
    await edge.stop()
    assert len(disk_files(edge)) == 1  # The manifest.


# Passing through (B10, B15, R15, R16, R17).


@pytest.mark.parametrize("cut_by", ["fin", "rst"])
@pytest.mark.parametrize(
    ("header", "wanted"),
    [(None, LARGE), ("bytes=1000000-4999999", LARGE[1_000_000:5_000_000])],
    ids=["whole", "range"],
)
async def test_body_cut_in_the_middle_is_gone_on_with(
    platform: Platform, proxy: FaultProxy, cut_by: Any, header: str | None, wanted: bytes
) -> None:
    edge = await platform.start_edge()
    await platform.publish(HOST, {"/large.bin": LARGE})
    await get(edge, "/large.bin", method="HEAD")
    await proxy.restart()
    proxy.cut_after, proxy.cut_by, proxy.cuts_left = 2 * MIB, cut_by, 2
    reply = await get(edge, "/large.bin", headers={"range": header} if header else {})
    assert reply.body == wanted
    assert edge.objects.resumes == 2 - (header is not None)
    assert edge.objects.slots.used == 0


async def test_body_cut_again_and_again_is_given_up(platform: Platform, proxy: FaultProxy) -> None:
    edge = await platform.start_edge()
    await platform.publish(HOST, {"/large.bin": LARGE, "/small.html": PAGE * 100})
    await get(edge, "/large.bin", method="HEAD")
    await proxy.restart()
    proxy.cut_after = 40_000
    with pytest.raises(StreamAborted):
        await get(edge, "/large.bin")
    proxy.cut_after = 2_000  # Not even a small file comes through in four pieces of this.
    assert (await get(edge, "/small.html")).status == 503
    assert edge.blobs.used_bytes == 0
    proxy.mend()
    assert (await get(edge, "/small.html")).body == PAGE * 100
    assert (await get(edge, "/large.bin")).body == LARGE
    assert edge.objects.slots.used == 0


async def test_object_that_changed_is_not_gone_on_with(
    platform: Platform, proxy: FaultProxy, objects: ObjectStore
) -> None:
    edge = await platform.start_edge()
    site = await platform.publish(HOST, {"/large.bin": LARGE})
    await get(edge, "/large.bin", method="HEAD")
    await proxy.restart()
    proxy.cut_after, proxy.cuts_left = 2 * MIB, 1
    hold = asyncio.Event()
    task = asyncio.create_task(get(edge, "/large.bin", hold=hold))
    await eventually(lambda: proxy.opened > 0 and edge.objects.slots.used == 1)
    key = blob_key(site.project_id, hashlib.sha256(LARGE).hexdigest())
    await objects.put(key, bytes(len(LARGE)), size=len(LARGE), overwrite=True)
    hold.set()
    with pytest.raises(StreamAborted, match="another object"):
        await task
    await objects.put(key, LARGE, size=len(LARGE), overwrite=True)


@pytest.mark.product("B15.3")
async def test_resumes_are_bounded_by_a_budget(platform: Platform, proxy: FaultProxy) -> None:
    edge = await platform.start_edge()
    await platform.publish(HOST, {"/large.bin": LARGE})
    await get(edge, "/large.bin", method="HEAD")
    await proxy.restart()
    proxy.cut_after = 70_000
    results = await asyncio.gather(*(get(edge, "/large.bin") for _ in range(40)), return_exceptions=True)
    assert all(isinstance(result, StreamAborted) for result in results)
    assert edge.objects.resumes <= upstream.BUDGET + 40 * upstream.EARNED


async def test_silent_store_is_504_in_time_and_hot_blobs_go_on(
    platform: Platform, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "FIRST_BYTE_S", 0.3)
    edge = await platform.start_edge()
    await platform.publish(HOST, {"/index.html": PAGE, "/cold.html": PAGE, "/large.bin": LARGE})
    assert (await get(edge, "/")).body == PAGE
    await proxy.restart()
    proxy.is_silent = True
    started = time.perf_counter()
    replies = await asyncio.gather(get(edge, "/cold.html.map"), get(edge, "/large.bin"), get(edge, "/"))
    assert [reply.status for reply in replies] == [404, 504, 200]
    assert replies[1]["retry-after"] == "5"
    assert time.perf_counter() - started < 2
    assert edge.objects.slots.used == 0


async def test_gone_store_is_503_and_never_a_page_of_the_site(platform: Platform, proxy: FaultProxy) -> None:
    edge = await platform.start_edge()
    await platform.publish(HOST, {"/index.html": PAGE, "/404.html": b"none", "/cold.js": b"js", "/large.bin": LARGE})
    assert (await get(edge, "/")).body == PAGE
    await proxy.refuse()
    for path in ("/cold.js", "/large.bin", "/nothing.js"):
        reply = await get(edge, path)
        assert (reply.status, reply["retry-after"], reply["cache-control"]) == (503, "5", "no-store")
        assert b"object store" in reply.body
    assert (await get(edge, "/")).body == PAGE


async def test_earlier_file_is_never_a_404_while_the_store_is_away(platform: Platform, proxy: FaultProxy) -> None:
    edge = await platform.start_edge()
    name = "/app.11111a11.js"
    newer = await platform.publish(HOST, {"/index.html": PAGE, name: b"js"})
    await platform.publish(HOST, {"/index.html": PAGE}, previous_deployment_id=newer.deployment_id)
    assert (await get(edge, "/")).body == PAGE
    await proxy.refuse()
    assert (await get(edge, name)).status == 503
    assert (await get(edge, "/none.js")).status == 404
    await proxy.listen()
    await asyncio.sleep(1)  # A manifest that failed is remembered for a second.
    assert (await get(edge, name)).body == b"js"


@pytest.mark.product("B15.4")
async def test_one_slow_project_leaves_places_for_the_others(
    platform: Platform, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "QUEUE_S", 0.4)
    edge = await platform.start_edge(edge_store_reads=4)
    await platform.publish(HOST, {"/index.html": PAGE, "/large.bin": LARGE})
    await platform.publish(OTHER, {"/index.html": b"other", "/large.bin": LARGE}, project="prj_2")
    for host in (HOST, OTHER):
        await get(edge, "/large.bin", host, method="HEAD")
    proxy.delay_s = 0.3  # Each piece of 16 KiB: none of these will end.
    slow = [asyncio.create_task(get(edge, "/large.bin")) for _ in range(4)]
    await asyncio.sleep(0.1)
    # Its own share is taken: an honest error in time, for this project alone.
    assert [edge.objects.slots.used, edge.objects.slots.waiting] == [2, 2]
    refused = await asyncio.gather(*slow[2:])
    assert [reply.status for reply in refused] == [503, 503]
    assert b"busy: 4 reads" in refused[0].body
    proxy.delay_s = 0
    assert (await get(edge, "/large.bin", OTHER)).body == LARGE
    assert (await get(edge, "/", OTHER)).body == b"other"
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    assert edge.objects.slots.used == 0


async def test_slow_clients_keep_nobody_out_and_get_all_of_it(platform: Platform, edge: EdgeParts) -> None:
    edge = await platform.start_edge(edge_store_reads=2)
    await platform.publish(HOST, {"/large.bin": LARGE})
    await get(edge, "/large.bin", method="HEAD")
    hold = asyncio.Event()
    slow = [asyncio.create_task(get(edge, "/large.bin", hold=hold)) for _ in range(6)]
    await asyncio.sleep(0.05)
    for _ in range(3):
        assert (await get(edge, "/large.bin")).body == LARGE
    assert edge.objects.parks >= 6
    hold.set()
    assert [reply.body == LARGE for reply in await asyncio.gather(*slow)] == [True] * 6
    assert (edge.objects.slots.used, edge.objects.slots.waiting) == (0, 0)
