"""What edges are told: every move, in the order of the commits, and who has seen it."""

from __future__ import annotations

import asyncio
import secrets
from inspect import signature

import pytest

from vclone_core.actions import deployments
from vclone_core.actions.projects import delete_project
from vclone_core.models import AliasMove
from vclone_core.stores import events
from vclone_core.stores.redis import Redis

from .conftest import World


async def test_a_reader_of_moves_misses_none_under_concurrent_switches(world: World) -> None:
    projects = [await world.project() for _ in range(4)]
    built = {project.id: [await world.build(project) for _ in range(3)] for project in projects}
    db = world.platform.db
    start = await events.current_version(db)
    seen: list[AliasMove] = []
    done = asyncio.Event()

    async def tail() -> None:
        after = start
        while True:
            is_last = done.is_set()
            # No pause: it looks as often as it can, so that it looks between any two commits.
            for move in await events.read_moves(db, after, 3):
                seen.append(move)
                after = move.version
            if is_last and after >= await events.current_version(db):
                return

    tailer = asyncio.create_task(tail())
    await asyncio.gather(
        *(
            deployments.promote(world.platform, world.actor, deployment.id)
            for _ in range(5)
            for group in built.values()
            for deployment in group
        )
    )
    done.set()
    await asyncio.wait_for(tailer, 10)
    everything = await events.read_moves(db, start, 10_000)
    assert seen == everything
    assert len(seen) > 20
    assert all(move.site is not None and move.site.version == move.version for move in seen)


async def test_following_hears_of_a_move_at_once(world: World) -> None:
    project = await world.project()
    first = await world.build(project)
    await world.build(project)
    heard: asyncio.Queue[AliasMove] = asyncio.Queue()

    async def follow() -> None:
        start = await events.current_version(world.platform.db)
        async for move in events.follow_moves(world.platform.db, world.platform.redis, start):
            if move is not None:
                await heard.put(move)

    follower = asyncio.create_task(follow())
    await asyncio.sleep(0.2)
    await deployments.promote(world.platform, world.actor, first.id)
    move = await asyncio.wait_for(heard.get(), 0.5)
    assert move.site is not None and move.site.deployment_id == first.id
    follower.cancel()
    await asyncio.wait({follower})


async def test_without_redis_following_looks_every_second(world: World) -> None:
    project = await world.project()
    await world.build(project)
    redis = Redis("redis://127.0.0.1:1/0")
    moves = events.follow_moves(world.platform.db, redis, 0)
    told = [await anext(moves) for _ in range(3)]
    assert all(move is not None for move in told)
    assert await asyncio.wait_for(anext(moves), 3) is None
    await moves.aclose()
    await redis.close()


async def test_a_deleted_projects_hosts_are_told_as_gone(world: World) -> None:
    project = await world.project()
    await world.build(project)
    start = await events.current_version(world.platform.db)
    await delete_project(world.platform, world.actor, project)
    moves = await events.read_moves(world.platform.db, start)
    assert len(moves) == 3
    assert all(move.site is None for move in moves)
    assert await deployments.resolve_host(world.platform, moves[0].host) is None


async def test_the_history_says_what_it_still_has(world: World) -> None:
    assert (await events.read_versions(world.platform.db)) == events.Versions(0, 0)
    await world.build(await world.project())
    versions = await events.read_versions(world.platform.db)
    assert versions.is_complete_after(versions.newest)
    assert versions.is_complete_after(versions.oldest - 1)
    assert not versions.is_complete_after(versions.oldest - 2)
    # An edge that has seen more than there is has met another database.
    assert not versions.is_complete_after(versions.newest + 1)


@pytest.mark.product("B3.2", "B3.3")
async def test_receipts_come_from_the_edges_that_are_there(world: World) -> None:
    redis = world.platform.redis
    quick, slow, gone = (f"edg_{secrets.token_hex(4)}" for _ in range(3))
    for edge in (quick, slow, gone):
        assert await events.note_edge(redis, edge)
    await events.forget_edge(redis, gone)
    edges = tuple(sorted({quick, slow}))
    assert signature(events.wait_receipts).parameters["timeout_s"].default == 2.0
    assert set(edges) <= set(await events.connected_edges(redis))
    assert gone not in await events.connected_edges(redis)

    async def acknowledge() -> None:
        await asyncio.sleep(0.1)
        await events.acknowledge(redis, quick, 7)
        await events.acknowledge(redis, slow, 6)

    task = asyncio.create_task(acknowledge())
    receipts = {r.edge_id: r.after_ms for r in await events.wait_receipts(redis, 7, edges, timeout_s=0.6)}
    await task
    assert receipts[slow] is None
    assert receipts[quick] is not None and 90 <= receipts[quick] < 500
    for edge in edges:
        await events.forget_edge(redis, edge)


async def test_an_edge_that_stays_silent_is_not_connected(world: World) -> None:
    edge = f"edg_{secrets.token_hex(4)}"
    await events.note_edge(world.platform.redis, edge)
    assert await world.platform.redis.call(lambda client: client.ttl(f"edge:{edge}"), otherwise=0) in (14, 15)
    await world.platform.redis.call(lambda client: client.delete(f"edge:{edge}"), otherwise=0)
    assert edge not in await events.connected_edges(world.platform.redis)


async def test_without_redis_nobody_waits_for_receipts() -> None:
    redis = Redis("redis://127.0.0.1:1/0")
    assert await events.connected_edges(redis) == ()
    assert await events.wait_receipts(redis, 1, ()) == ()
    await redis.close()
