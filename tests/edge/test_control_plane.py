"""The domain cache against a control plane that moves things, hangs, lies, forgets and vanishes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.edge.client import Client, Reply
from tests.edge.conftest import Platform, eventually
from tests.edge.peer import ControlPeer

from vclone_core.models import AliasMove
from vclone_core.rules.sites import encode_move, encode_site
from vclone_edge.app import build_app
from vclone_edge.parts import EdgeParts

HOST = "shop.localhost"
A, B = {"/index.html": b"build A"}, {"/index.html": b"build B"}
TOLD_S = 4.0  # Less than an edge remembers a host by itself, known or unknown.


async def body_of(client: Client, host: str = HOST) -> bytes:
    return (await client.get(f"http://{host}/")).body


@pytest.mark.product("B2.3")
async def test_fifty_misses_are_one_look_up(platform: Platform, client: Client) -> None:
    await platform.publish(HOST, A)
    replies = await asyncio.gather(*(client.get(f"http://{HOST}/") for _ in range(50)))
    assert {reply.body for reply in replies} == {b"build A"}
    assert platform.peer.look_ups == [HOST]


@pytest.mark.product("B3.1")
async def test_publish_is_seen_and_acknowledged_by_push(platform: Platform, client: Client, edge: EdgeParts) -> None:
    await platform.publish(HOST, A)
    assert await body_of(client) == b"build A"
    for n in range(20):
        site = await platform.publish(HOST, {"/index.html": b"build %d" % n})
        async with asyncio.timeout(TOLD_S):
            while await body_of(client) != b"build %d" % n:
                await asyncio.sleep(0.001)
        await eventually(lambda version=site.version: (edge.edge_id, version) in platform.peer.acks)
    assert platform.peer.look_ups == [HOST]


async def test_missing_host_is_there_at_once_when_published(platform: Platform, client: Client) -> None:
    assert (await client.get(f"http://{HOST}/")).status == 404
    assert (await client.get(f"http://{HOST}/")).status == 404
    assert platform.peer.look_ups == [HOST]
    await platform.publish(HOST, A)
    async with asyncio.timeout(TOLD_S):
        while (await client.get(f"http://{HOST}/")).status == 404:
            await asyncio.sleep(0.001)


@pytest.mark.product("B2.2")
async def test_missing_host_is_remembered_for_seconds_only(platform: Platform) -> None:
    client = Client(build_app(await platform.start_edge(edge_negative_ttl_s=0.1)))
    assert (await client.get(f"http://{HOST}/")).status == 404
    await platform.publish(HOST, A, is_told=False)
    assert (await client.get(f"http://{HOST}/")).status == 404
    await asyncio.sleep(0.12)
    assert (await client.get(f"http://{HOST}/")).status == 200


async def test_removed_host_is_gone_at_once(platform: Platform, client: Client, edge: EdgeParts) -> None:
    await platform.publish(HOST, A)
    assert await body_of(client) == b"build A"
    version = platform.peer.move(HOST, None)
    await eventually(lambda: edge.control.version == version)
    assert (await client.get(f"http://{HOST}/")).status == 404


@pytest.mark.product("B2.5", "B13.2")
async def test_known_hosts_are_served_when_the_api_is_gone(
    platform: Platform, client: Client, edge: EdgeParts, peer: ControlPeer
) -> None:
    hosts = [f"site-{n}.localhost" for n in range(20)]
    for host in hosts:
        await platform.publish(host, {"/index.html": host.encode()})
        assert await body_of(client, host) == host.encode()
    await peer.stop()
    await eventually(lambda: not edge.control.is_connected)
    edge.cache.ttl_s = 0.01  # So that every one of them is due, and stale.
    await asyncio.sleep(0.05)
    for host in hosts:
        reply = await client.get(f"http://{host}/")
        assert (reply.status, reply.body, reply["x-vclone-cache"]) == (200, host.encode(), "STALE")
    unknown = await client.get("http://new.localhost/")
    assert (unknown.status, unknown["retry-after"]) == (503, "5")


@pytest.mark.product("B2.4")
async def test_hanging_api_adds_no_latency_to_known_hosts(
    platform: Platform, client: Client, edge: EdgeParts, peer: ControlPeer
) -> None:
    await platform.publish(HOST, A)
    assert await body_of(client) == b"build A"
    peer.runs.clear()
    edge.cache.ttl_s = 0.0
    edge.cache.put(peer.sites[HOST])
    async with asyncio.timeout(10):  # Each waiting for the API would take minutes.
        for _ in range(100):
            assert (await client.get(f"http://{HOST}/")).status == 200
    assert len(peer.look_ups) == 2  # The first one, and one refresh that hangs in the background.


async def test_refresh_mends_what_a_lost_push_missed(platform: Platform, client: Client, edge: EdgeParts) -> None:
    await platform.publish(HOST, A)
    assert await body_of(client) == b"build A"
    await platform.publish(HOST, B, is_told=False)
    assert await body_of(client) == b"build A"
    edge.cache.ttl_s = 0.0
    edge.cache.put(edge.cache.find(HOST).site)
    edge.remembered.forget_all()
    await client.get(f"http://{HOST}/")
    await eventually(lambda: platform.peer.look_ups == [HOST, HOST])
    async with asyncio.timeout(2):
        while await body_of(client) != b"build B":
            await asyncio.sleep(0.005)


@pytest.mark.product("B3.4")
async def test_cut_stream_resumes_where_it_was(platform: Platform, client: Client, edge: EdgeParts) -> None:
    await platform.publish(HOST, A)
    assert await body_of(client) == b"build A"
    await eventually(lambda: edge.control.version == 1)
    platform.peer.cut()
    await eventually(lambda: not edge.control.is_connected)
    site = await platform.publish(HOST, B)
    await eventually(lambda: edge.control.version == site.version)
    assert await body_of(client) == b"build B"
    assert platform.peer.hellos == [None, 1]
    assert platform.peer.look_ups == [HOST]


async def test_lost_history_has_every_site_confirmed(platform: Platform, client: Client, edge: EdgeParts) -> None:
    hosts = [f"site-{n}.localhost" for n in range(30)]
    for host in hosts:
        await platform.publish(host, A)
        assert await body_of(client, host) == b"build A"
    platform.peer.keeps_history = False
    platform.peer.cut()
    for host in hosts[:10]:
        await platform.publish(host, B, is_told=False)
    platform.peer.move(hosts[10], None, is_told=False)
    await eventually(lambda: len(platform.peer.hellos) == 2 and edge.control.is_connected)
    await eventually(lambda: len(platform.peer.look_ups) == 60 and not edge.cache.suspects())
    assert [await body_of(client, host) for host in hosts[:10]] == [b"build B"] * 10
    assert (await client.get(f"http://{hosts[10]}/")).status == 404
    assert await body_of(client, hosts[20]) == b"build A"


async def test_database_put_back_to_an_earlier_day_is_followed(
    platform: Platform, client: Client, edge: EdgeParts
) -> None:
    first = await platform.publish(HOST, A)
    second = await platform.publish(HOST, B)
    assert await body_of(client) == b"build B"
    await eventually(lambda: edge.control.version == second.version)
    platform.peer.version = first.version
    platform.peer.sites[HOST] = first
    platform.peer.history = platform.peer.history[:1]
    platform.peer.cut()
    await eventually(lambda: len(platform.peer.look_ups) == 2)
    async with asyncio.timeout(2):
        while await body_of(client) != b"build A":
            await asyncio.sleep(0.005)


async def test_older_version_never_wins(platform: Platform, client: Client, edge: EdgeParts) -> None:
    first = await platform.publish(HOST, A)
    second = await platform.publish(HOST, B)
    assert await body_of(client) == b"build B"
    await eventually(lambda: edge.control.version == second.version)
    stale = json.dumps({"version": first.version, "host": HOST, "site": encode_site(first)})
    platform.peer.say(f"id: {first.version}\nevent: move\ndata: {stale}\n\n".encode())
    site = await platform.publish("other.localhost", A)
    await eventually(lambda: edge.control.version == site.version)
    assert await body_of(client) == b"build B"


async def test_move_overtakes_a_look_up_under_way(platform: Platform, client: Client, edge: EdgeParts) -> None:
    old = await platform.publish(HOST, A)
    platform.peer.answer = (200, encode_site(old))
    platform.peer.runs.clear()
    waiting = asyncio.create_task(client.get(f"http://{HOST}/"))
    await eventually(lambda: platform.peer.look_ups == [HOST])
    new = await platform.publish(HOST, B, is_told=False)
    edge.resolver.apply(platform.peer.history[-1])
    platform.peer.runs.set()
    assert (await waiting).body == b"build B"
    assert edge.cache.find(HOST).site == new


GOOD = {"project_id": "prj_1", "deployment_id": "dep_1", "manifest_key": "k", "kind": "production", "version": 9}
LIES: list[tuple[int, Any]] = [
    *((200, {"host": HOST, **GOOD, name: None}) for name in GOOD),
    (200, {"host": HOST, **GOOD, "padding": "x" * 100_000}),
    (200, {"host": HOST, **GOOD, "redirect_to": 5}),
    (500, {"oops": 1}),
    (200, {"host": HOST}),
    (200, []),
    (200, {"host": HOST, "version": "x"}),
    (404, {"code": "not_found"}),
    (404, "nginx"),
    (200, "[" * 10_000),
    (401, {"code": "unauthorised"}),
    (301, {}),
]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: str(lie)[:80])
async def test_nonsense_from_the_api_takes_no_site_down(
    platform: Platform, client: Client, edge: EdgeParts, lie: tuple[int, Any]
) -> None:
    await platform.publish(HOST, A)
    assert await body_of(client) == b"build A"
    platform.peer.answer = lie
    assert not await edge.resolver.confirm(HOST)
    assert await body_of(client) == b"build A"
    assert (await client.get("http://new.localhost/")).status == 503


async def test_another_hosts_site_is_not_taken(platform: Platform, client: Client) -> None:
    site = await platform.publish("other.localhost", A)
    platform.peer.answer = (200, encode_site(site))
    assert (await client.get(f"http://{HOST}/")).status == 503


async def test_nonsense_on_the_stream_is_passed_over(platform: Platform, client: Client, edge: EdgeParts) -> None:
    await platform.publish(HOST, A)
    assert await body_of(client) == b"build A"
    null = json.dumps({"version": 10**9, "host": HOST, "site": {"host": HOST, **GOOD, "deployment_id": None}})
    platform.peer.say(f"event: move\ndata: {null}\n\n".encode())
    platform.peer.say(b"event: move\ndata: " + b"[" * 10_000 + b"\n\n")
    for raw in (b"event: move\ndata: {\n\n", b"event: move\ndata: {}\n\n", b"event: hello\ndata: []\n\n", b"\xff\n\n"):
        platform.peer.say(raw)
    site = await platform.publish(HOST, B)
    await eventually(lambda: edge.control.version == site.version)
    assert await body_of(client) == b"build B"
    assert len(platform.peer.hellos) == 1
    assert edge.control.refused == 5


async def test_oversized_and_repeated_events_leave_what_is_good(
    platform: Platform, client: Client, edge: EdgeParts
) -> None:
    site = await platform.publish(HOST, A)
    assert await body_of(client) == b"build A"
    await eventually(lambda: edge.control.version == site.version)
    again = json.dumps(encode_move(AliasMove(site.version, HOST, site)))
    platform.peer.say(f"event: move\ndata: {again}\n\n".encode() * 500)
    platform.peer.say(b"event: move\ndata: " + b"x" * (1024 * 1024 + 1))
    await eventually(lambda: len(platform.peer.hellos) == 2)  # It is cut, and taken up behind the last good one.
    assert platform.peer.hellos[1] == site.version
    assert await body_of(client) == b"build A"
    site = await platform.publish(HOST, B)
    await eventually(lambda: edge.control.version == site.version)
    assert await body_of(client) == b"build B"


@pytest.mark.product("B2.6")
async def test_restart_without_the_api_serves_from_the_snapshot(
    platform: Platform, client: Client, edge: EdgeParts, peer: ControlPeer
) -> None:
    await platform.publish(HOST, A)
    assert await body_of(client) == b"build A"
    await eventually(lambda: edge.control.version == 1)
    await edge.stop()
    await peer.stop()
    again = await platform.start_edge(waits=False)
    assert await body_of(Client(build_app(again))) == b"build A"
    assert again.manifests.loads == 0  # It was on disk.
    await peer.start()
    await eventually(lambda: peer.hellos == [None, 1], within_s=8)
    site = await platform.publish(HOST, B)
    await eventually(lambda: again.control.version == site.version)
    assert await body_of(Client(build_app(again))) == b"build B"


async def test_restarted_worker_knows_what_the_others_knew(platform: Platform, peer: ControlPeer) -> None:
    """Which hosts come to which worker is chance, and it is another after a restart."""
    workers = [await platform.start_edge() for _ in range(2)]
    for n, edge in enumerate(workers):
        await platform.publish(f"site-{n}.localhost", A)
        assert await body_of(Client(build_app(edge)), f"site-{n}.localhost") == b"build A"
        await eventually(lambda edge=edge: edge.control.version == platform.peer.version)
    for edge in workers:
        await edge.stop()
    await peer.stop()
    left = await platform.start_edge(waits=False)
    again = Client(build_app(left))
    assert [await body_of(again, f"site-{n}.localhost") for n in range(2)] == [b"build A"] * 2
    await left.stop()
    # It holds both, so that the other one is not needed, nor ever taken up again.
    assert [path.name for path in (platform.folder / "data/edge").glob("sites-*")] == ["sites-0"]
    assert (await platform.start_edge(waits=False)).control.version == platform.peer.version


async def test_snapshots_of_running_workers_stay(platform: Platform) -> None:
    workers = [await platform.start_edge() for _ in range(3)]
    for n, edge in enumerate(workers):
        await platform.publish(f"site-{n}.localhost", A)
        await body_of(Client(build_app(edge)), f"site-{n}.localhost")
        await edge.save()
    assert len(list((platform.folder / "data/edge").glob("sites-*"))) == 3
    await workers[1].stop()
    again = await platform.start_edge()  # In the place that became free.
    assert (again.place and again.place.path.name, len(again.cache)) == ("sites-1", 3)
    await again.save()
    assert len(list((platform.folder / "data/edge").glob("sites-*"))) == 3


async def test_snapshot_is_written_while_running(platform: Platform, client: Client, edge: EdgeParts) -> None:
    await platform.publish(HOST, A)
    await body_of(client)
    await edge.save()
    await platform.peer.stop()
    killed = await platform.start_edge(waits=False)  # The first edge was never told to stop.
    assert await body_of(Client(build_app(killed))) == b"build A"


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _replace(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [_truncate, _flip, _empty, _replace])
@pytest.mark.product("B2.6")
async def test_damaged_snapshot_is_ignored_with_an_alarm(
    platform: Platform, client: Client, edge: EdgeParts, damage: Any, logged: Callable[[], str]
) -> None:
    await platform.publish(HOST, A)
    await body_of(client)
    await edge.stop()
    assert edge.place is not None
    damage(edge.place.path)
    again = await platform.start_edge()
    assert await body_of(Client(build_app(again))) == b"build A"
    assert "disk_file.ignored" in logged()
    if damage is _replace:
        edge.place.path.rmdir()


async def test_damaged_manifest_on_disk_is_read_anew(platform: Platform, client: Client, edge: EdgeParts) -> None:
    site = await platform.publish(HOST, A)
    await body_of(client)
    assert edge.manifests.disk is not None
    kept = edge.manifests.disk.files.path_of(site.manifest_key)
    await eventually(kept.exists)
    _flip(kept)
    again = await platform.start_edge()
    assert await body_of(Client(build_app(again))) == b"build A"
    assert again.manifests.loads == 1


async def test_edge_without_any_control_plane_starts(platform: Platform, peer: ControlPeer) -> None:
    await peer.stop()
    edge = await platform.start_edge(waits=False)
    client = Client(build_app(edge))
    assert (await client.get(f"http://{HOST}/")).status == 503
    await peer.start()
    await platform.publish(HOST, A)
    await eventually(lambda: edge.control.is_connected, within_s=8)
    assert (await client.get(f"http://{HOST}/")).status == 200


async def test_made_up_hosts_neither_pile_up_nor_push_known_ones_out(
    platform: Platform, client: Client, edge: EdgeParts
) -> None:
    await platform.publish(HOST, A)
    await body_of(client)
    replies = await asyncio.gather(*(client.get(f"http://made-up-{n}.localhost/") for n in range(300)))
    assert {reply.status for reply in replies} == {404}
    assert len(edge.cache) == 1
    assert await body_of(client) == b"build A"


async def test_two_hundred_promotes_while_a_client_loads(platform: Platform, client: Client, edge: EdgeParts) -> None:
    sites = []
    for n in range(2):
        sites.append(
            await platform.publish(f"d{n}.localhost", {"/index.html": b"%d" % n, f"/app.{n}{n}{n}{n}.js": b"js%d" % n})
        )
    platform.peer.move(HOST, sites[0])
    assert await body_of(client) == b"0"
    done = asyncio.Event()
    replies: list[Reply] = []

    async def load() -> None:
        while not done.is_set():
            replies.append(await client.get(f"http://{HOST}/"))
            await asyncio.sleep(0)

    loader = asyncio.create_task(load())
    for n in range(200):
        version = platform.peer.move(HOST, sites[n % 2])
        await asyncio.sleep(0.001)
    await eventually(lambda: edge.control.version == version)
    done.set()
    with contextlib.suppress(asyncio.CancelledError):
        await loader
    assert {reply.status for reply in replies} == {200}
    assert {reply.body for reply in replies} == {b"0", b"1"}
    assert await body_of(client) == b"1"
