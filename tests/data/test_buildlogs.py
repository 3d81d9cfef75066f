"""Build logs: numbers without gaps, over attempts, batches and a cap; and followers who miss nothing."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from vclone_core.actions import deployments
from vclone_core.build.logsink import LogSink
from vclone_core.errors import StaleAttempt
from vclone_core.models import Claim, Deployment, Failure, LogLine, State
from vclone_core.rules.lifecycle import Event
from vclone_core.stores import buildlogs, queue
from vclone_core.stores.buildlogs import NewLine
from vclone_core.stores.postgres import Database
from vclone_core.stores.redis import Redis

from .conftest import World
from .faults import Wire

FAILURE = Failure("step_failed", "It broke.", "", None)
CAP = 10 * 1024**2


def out(text: str) -> NewLine:
    return NewLine("build", "stdout", text, datetime.now(UTC))


async def claimed(world: World) -> Claim:
    await world.deploy(await world.project())
    return await world.claim()


async def texts(world: World, claim: Claim, after: int = 0) -> list[str]:
    return [line.text for line in await buildlogs.read(world.platform.db, claim.deployment.id, after, 100_000)]


async def test_lines_come_back_in_order_with_numbers_from_one(world: World) -> None:
    claim = await claimed(world)
    assert await buildlogs.append(world.platform.db, claim.fence, [out("a"), out("b")], cap_bytes=CAP) == 2
    assert await buildlogs.append(world.platform.db, claim.fence, [out("c")], cap_bytes=CAP) == 3
    lines = await buildlogs.read(world.platform.db, claim.deployment.id)
    assert [(line.number, line.text, line.stream, line.step) for line in lines] == [
        (1, "a", "stdout", "build"),
        (2, "b", "stdout", "build"),
        (3, "c", "stdout", "build"),
    ]
    assert [line.number for line in await buildlogs.read(world.platform.db, claim.deployment.id, 1, 1)] == [2]


async def test_parallel_batches_leave_no_gap(world: World) -> None:
    claim = await claimed(world)
    await asyncio.gather(
        *(buildlogs.append(world.platform.db, claim.fence, [out(f"{n}")] * 7, cap_bytes=CAP) for n in range(30))
    )
    lines = await buildlogs.read(world.platform.db, claim.deployment.id)
    assert [line.number for line in lines] == list(range(1, 211))
    # A batch stays together.
    assert all(len({line.text for line in lines[start : start + 7]}) == 1 for start in range(0, 210, 7))


async def test_a_second_attempt_goes_on_where_the_first_ended_and_the_first_writes_no_more(world: World) -> None:
    old = await claimed(world)
    await buildlogs.append(world.platform.db, old.fence, [out("one"), out("two")], cap_bytes=CAP)
    await queue.finish(world.platform.db, old, Event.GIVE_BACK)
    new = await world.claim("w2")
    results = await asyncio.gather(
        *(
            buildlogs.append(world.platform.db, fence, [out(str(fence.attempt))], cap_bytes=CAP)
            for fence in [old.fence, new.fence] * 10
        ),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [StaleAttempt, int] * 10
    lines = await buildlogs.read(world.platform.db, new.deployment.id)
    assert [line.number for line in lines] == list(range(1, 13))
    assert [line.text for line in lines] == ["one", "two", *["2"] * 10]


async def test_the_cap_drops_output_says_so_once_and_keeps_the_platforms_words(world: World) -> None:
    claim = await claimed(world)
    for _ in range(4):
        await buildlogs.append(world.platform.db, claim.fence, [out("x" * 99)] * 5, cap_bytes=1024)
    await buildlogs.append(world.platform.db, claim.fence, [buildlogs.platform_line("build", "end")], cap_bytes=1024)
    await buildlogs.append(world.platform.db, claim.fence, [out("short")], cap_bytes=1024)
    assert await texts(world, claim) == [
        *["x" * 99] * 10,
        "The log reached its limit of 1 KiB; further output isn't kept.",
        "end",
    ]


async def test_any_text_can_be_stored(world: World) -> None:
    claim = await claimed(world)
    lines = [out("a\0b"), out("\ud800x"), out("ü" * 20_000), out("")]
    await buildlogs.append(world.platform.db, claim.fence, lines, cap_bytes=CAP)
    assert await texts(world, claim) == ["a\ufffdb", "?x", "ü" * 8192, ""]


async def test_twenty_thousand_lines_are_quick(world: World) -> None:
    claim = await claimed(world)
    started = time.monotonic()
    await buildlogs.append(world.platform.db, claim.fence, [out("x" * 80)] * 20_000, cap_bytes=CAP)
    assert time.monotonic() - started < 5
    assert len(await texts(world, claim)) == 20_000


@pytest.mark.parametrize("has_redis", [True, False])
async def test_a_follower_hears_every_line_and_the_end(world: World, has_redis: bool) -> None:
    claim = await claimed(world)
    db = world.platform.db
    redis = world.platform.redis if has_redis else Redis("redis://127.0.0.1:1/0")
    await buildlogs.append(db, claim.fence, [out("0")], cap_bytes=CAP)
    heard: list[LogLine] = []
    delays: list[float] = []

    async def follow() -> None:
        async for line in buildlogs.follow(db, redis, claim.deployment.id):
            heard.append(line)
            delays.append((datetime.now(UTC) - line.at).total_seconds())

    follower = asyncio.create_task(follow())
    sink = LogSink(db, redis, claim, cap_bytes=CAP)
    for number in range(1, 11):
        await asyncio.sleep(0.05)
        await sink.append([out(str(number))])
    await queue.finish(db, claim, Event.FAIL, failure=FAILURE)
    await asyncio.wait_for(follower, 5)
    assert [(line.number, line.text) for line in heard] == [(n + 1, str(n)) for n in range(11)]
    if has_redis:
        assert sorted(delays)[5] < 0.5
    await redis.close()


async def test_following_from_a_number_resumes_there(world: World) -> None:
    claim = await claimed(world)
    db = world.platform.db
    await buildlogs.append(db, claim.fence, [out(str(n)) for n in range(2500)], cap_bytes=CAP)
    await queue.finish(db, claim, Event.FAIL, failure=FAILURE)
    followed = [line.number async for line in buildlogs.follow(db, world.platform.redis, claim.deployment.id, 400)]
    assert followed == list(range(401, 2501))


async def test_watching_tells_lines_and_states_and_ends(world: World) -> None:
    wanted = await world.deploy(await world.project())
    heard: list[LogLine | Deployment] = []

    async def watch() -> None:
        async for item in deployments.watch(world.platform, world.actor, wanted.id):
            heard.append(item)

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0.1)
    claim = await world.claim()
    sink = LogSink(world.platform.db, world.platform.redis, claim, cap_bytes=CAP)
    await sink.record_step(step="build", step_seconds={"clone": 0.5})
    await sink.append([out("hello")])
    await asyncio.sleep(0.2)
    await queue.finish(world.platform.db, claim, Event.FAIL, failure=FAILURE)
    await asyncio.wait_for(watcher, 5)
    states = [item.state for item in heard if isinstance(item, Deployment)]
    assert (states[0], states[-1]) == (State.QUEUED, State.FAILED)
    assert State.BUILDING in states
    last = heard[-1]
    assert isinstance(last, Deployment) and last.failure is not None
    assert (last.failure.step, last.step, dict(last.step_seconds)) == ("build", "build", {"clone": 0.5})
    assert [item.text for item in heard if isinstance(item, LogLine)] == ["hello"]


async def test_an_outage_of_the_database_loses_and_doubles_no_line(
    world: World, wire: Wire, wired_db: Database
) -> None:
    claim = await claimed(world)
    sink = LogSink(wired_db, world.platform.redis, claim, cap_bytes=CAP)
    for mode, text in [("pass", "a"), ("cut", "b"), ("cut", "c"), ("pass", "d"), ("mute", "e"), ("mute", "f")]:
        wire.set(mode)
        await sink.append([out(text)])
    wire.set("pass")
    await sink.append([out("g")])
    await sink.flush()
    assert await texts(world, claim) == ["a", "b", "c", "d", "e", "f", "g"]
