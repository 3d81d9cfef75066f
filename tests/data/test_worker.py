"""Workers: every deployment is built once, whatever happens to Redis, to the worker, or to the build."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from vclone_core.actions import deployments
from vclone_core.actions.platform import Platform, open_platform
from vclone_core.build import worker as worker_module
from vclone_core.build.logsink import LogSink
from vclone_core.build.worker import Worker
from vclone_core.embedded.children import Service
from vclone_core.embedded.rundirs import make_run_dir, remove_run_dir
from vclone_core.embedded.valkey import start_valkey
from vclone_core.errors import BuildFailed, StoreUnavailable
from vclone_core.models import Claim, Deployment, Manifest, Project, State
from vclone_core.settings import Settings
from vclone_core.stores import buildlogs, records
from vclone_core.stores.postgres import Database

from .conftest import World, eventually, manifest_of
from .faults import Wire

pytestmark = pytest.mark.processes

Make = Callable[[Claim, Path, LogSink], Awaitable[Manifest]]


@dataclass
class Builds:
    """A build that says what it did: how often each deployment was started and finished, and how many ran at once."""

    seconds: float = 0.0
    started: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)
    ended: list[str] = field(default_factory=list)
    running: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    workspaces: list[Path] = field(default_factory=list)

    async def __call__(self, claim: Claim, workspace: Path, sink: LogSink) -> Manifest:
        self.started[claim.deployment.id] += 1
        self.workspaces.append(workspace)
        (workspace / "file").write_text("x")
        project = claim.project.id
        self.running[project] += 1
        self.most[project] = max(self.most[project], self.running[project])
        try:
            await sink.append([buildlogs.platform_line("build", "building")])
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.ended.append(claim.deployment.id)
            raise
        finally:
            self.running[project] -= 1
        self.finished[claim.deployment.id] += 1
        return manifest_of(claim)


@asynccontextmanager
async def working(platform: Platform, make: Make, name: str = "w1") -> AsyncIterator[Worker]:
    """A running worker; on leaving, it is told to stop and gives back what runs."""
    worker = Worker(platform, make, worker_id=name)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        worker.stop()
        await asyncio.wait_for(task, 30)


async def found(world: World, deployment: Deployment) -> Deployment:
    current = await records.fetch_deployment_by_id(world.platform.db, deployment.id)
    assert current is not None
    return current


async def until(world: World, deployment: Deployment, *states: State, timeout_s: float = 20) -> Deployment:
    async with eventually(timeout_s) as pause:
        while (current := await found(world, deployment)).state not in states:
            await pause()
    return current


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Service]:
    """A Valkey of the test's own, to kill and to wipe."""
    run_dir = make_run_dir(os.environ)
    service = start_valkey(tmp_path / "valkey", run_dir)
    yield service
    service.stop()
    remove_run_dir(run_dir)


def socket_of(valkey: Service) -> Path:
    return Path(valkey.url.removeprefix("unix://").partition("?")[0])


@pytest.fixture
async def frail(settings: Settings, valkey: Service, world: World) -> AsyncIterator[World]:
    """A world whose Redis is `valkey`."""
    async with open_platform(settings.model_copy(update={"redis_url": SecretStr(valkey.url)})) as platform:
        yield replace(world, platform=platform)


async def test_a_ring_starts_a_build_without_a_poll(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "POLL_S", 25.0)  # longer than `until` waits
    builds = Builds()
    async with working(world.platform, builds):
        await asyncio.sleep(0.3)
        wanted = await world.deploy(await world.project())
        ready = await until(world, wanted, State.READY)
    assert ready.attempt == 1
    assert builds.workspaces[0].name == f"{wanted.id}-1"
    assert not builds.workspaces[0].exists()
    lines = await buildlogs.read(world.platform.db, wanted.id)
    assert lines[0].text == "building"
    assert lines[-1].text.startswith("Live at http://")


async def test_a_failing_build_is_failed_with_its_reason_in_row_and_log(world: World) -> None:
    async def fail(claim: Claim, _workspace: Path, sink: LogSink) -> Manifest:
        await sink.record_step(step="build")
        raise BuildFailed(command="npm run build", outcome="exit code 1")

    async with working(world.platform, fail):
        failed = await until(world, await world.deploy(await world.project()), State.FAILED)
    assert failed.failure is not None
    assert (failed.failure.code, failed.failure.step) == ("build_failed", "build")
    assert failed.failure.sentence == "The build command `npm run build` ended with exit code 1."
    last = (await buildlogs.read(world.platform.db, failed.id))[-1]
    assert last.text.endswith("[build_failed]")
    assert last.step == "build"
    assert failed.attempt == 1


async def test_a_bug_is_logged_with_the_id_that_the_user_sees(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def crash(_claim: Claim, _workspace: Path, _sink: LogSink) -> Manifest:
        raise ZeroDivisionError("a bug of ours")

    async with working(world.platform, crash):
        failed = await until(world, await world.deploy(await world.project()), State.FAILED)
        after = await until(world, await world.deploy(await world.project()), State.FAILED)
    assert failed.failure is not None and after.failure is not None
    assert failed.failure.code == "internal"
    assert "a bug of ours" not in failed.failure.sentence + failed.failure.advice
    assert failed.failure.advice != after.failure.advice


async def test_trouble_of_the_platform_is_tried_again_and_then_told(world: World) -> None:
    tries: list[int] = []

    async def stumble(claim: Claim, _workspace: Path, _sink: LogSink) -> Manifest:
        tries.append(claim.attempt)
        if len(tries) == 1:
            raise StoreUnavailable(why="it is away")
        return manifest_of(claim)

    async with working(world.platform, stumble):
        ready = await until(world, await world.deploy(await world.project()), State.READY)
    assert (ready.attempt, tries) == (2, [1, 2])
    texts = [line.text for line in await buildlogs.read(world.platform.db, ready.id)]
    assert texts[0].startswith("Error: The object store does not answer: it is away.")
    assert texts[1].startswith("Attempt 2 starts from the beginning")


async def test_trouble_that_stays_fails_the_build(settings: Settings, world: World) -> None:
    async def stumble(_claim: Claim, _workspace: Path, _sink: LogSink) -> Manifest:
        raise StoreUnavailable(why="it is away")

    once = replace(world.platform, settings=settings.model_copy(update={"max_attempts": 1}))
    async with working(once, stumble):
        failed = await until(world, await world.deploy(await world.project()), State.FAILED)
    assert failed.failure is not None and failed.failure.code == "store_unavailable"


async def test_a_build_that_takes_too_long_is_ended(settings: Settings, world: World) -> None:
    builds = Builds(seconds=60)
    short = replace(world.platform, settings=settings.model_copy(update={"build_timeout_s": 0.5}))
    async with working(short, builds):
        failed = await until(world, await world.deploy(await world.project()), State.FAILED)
    assert failed.failure is not None and failed.failure.code == "build_timeout"
    assert builds.ended == [failed.id]


@pytest.mark.parametrize("has_redis", [True, False])
async def test_cancelling_ends_the_build_within_five_seconds(world: World, has_redis: bool) -> None:
    builds = Builds(seconds=60)
    settings = world.platform.settings.model_copy(update={"heartbeat_s": 3.0, "lease_s": 45.0})
    async with working(replace(world.platform, settings=settings), builds):
        wanted = await until(world, await world.deploy(await world.project()), State.BUILDING)
        await asyncio.sleep(0.3)
        started = time.monotonic()
        if has_redis:
            await deployments.cancel(world.platform, world.actor, wanted.id)
        else:
            await world.platform.db.fetch_one("request_cancel", wanted.id)
        cancelled = await until(world, wanted, State.CANCELLED)
        assert time.monotonic() - started < 5
    assert builds.ended == [wanted.id]
    assert cancelled.finished_at is not None
    assert await deployments.list_aliases(world.platform, world.actor, await project_of(world, wanted)) == []
    assert (await buildlogs.read(world.platform.db, wanted.id))[-1].text == "The deployment was cancelled."


async def project_of(world: World, deployment: Deployment) -> Project:
    project = await records.fetch_project_by_id(world.platform.db, deployment.project_id)
    assert project is not None
    return project


async def test_a_lost_lease_ends_the_build_and_the_next_attempt_starts_over(world: World) -> None:
    builds = Builds(seconds=3)
    async with working(world.platform, builds):
        wanted = await world.deploy(await world.project())
        async with eventually() as pause:
            while not await buildlogs.read(world.platform.db, wanted.id):
                await pause()
        async with world.platform.db._pool.acquire() as connection:
            # As if this worker had slept through its lease, and another one's reaper had looked.
            await connection.execute(
                "update deployments set state = 'queued', slot = null, lease_until = null where id = $1", wanted.id
            )
        ready = await until(world, wanted, State.READY)
    assert builds.ended == [wanted.id]
    assert (builds.started[wanted.id], builds.finished[wanted.id], ready.attempt) == (2, 1, 2)


async def test_a_stopping_worker_lets_its_builds_end_and_claims_no_more(world: World) -> None:
    builds = Builds(seconds=1)
    project, other = await world.project(), await world.project()
    # With a second slot it may be asking for the next one at the very moment.
    settings = world.platform.settings.model_copy(update={"worker_slots": 1})
    worker = Worker(replace(world.platform, settings=settings), builds)
    task = asyncio.create_task(worker.run())
    first = await until(world, await world.deploy(project), State.BUILDING)
    worker.stop()
    second = await world.deploy(other)
    await asyncio.wait_for(task, 10)
    assert (await found(world, first)).state is State.READY
    assert (await found(world, second)).state is State.QUEUED


async def test_a_build_that_outlasts_the_drain_goes_back_to_the_queue(settings: Settings, world: World) -> None:
    builds = Builds(seconds=60)
    impatient = replace(world.platform, settings=settings.model_copy(update={"drain_s": 0.2}))
    worker = Worker(impatient, builds)
    task = asyncio.create_task(worker.run())
    wanted = await until(world, await world.deploy(await world.project()), State.BUILDING)
    worker.stop()
    await asyncio.wait_for(task, 10)
    back = await found(world, wanted)
    assert (back.state, back.finished_at, builds.ended) == (State.QUEUED, None, [wanted.id])
    quick = Builds()
    async with working(world.platform, quick, "w2"):
        ready = await until(world, wanted, State.READY)
    assert ready.attempt == 2


async def test_leftovers_of_dead_attempts_are_removed_and_others_stay(world: World) -> None:
    builds_dir = world.platform.settings.data_dir / "builds"
    wanted = await world.deploy(await world.project())
    claim = await world.claim("another-worker")
    alive, dead = builds_dir / f"{wanted.id}-1", builds_dir / "dep_dead-1"
    for folder in (alive, dead / "node_modules" / "x"):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    outside = builds_dir.parent / "outside"
    outside.mkdir(mode=0o500)
    (dead / "link").symlink_to(outside)
    (dead / "node_modules").chmod(0o500)
    async with working(world.platform, Builds()), eventually() as pause:
        while dead.exists():
            await pause()
    assert alive.exists()
    assert outside.stat().st_mode & 0o777 == 0o500
    assert claim.attempt == 1


@pytest.mark.reliability("R12.1")
async def test_sixty_queued_deployments_and_a_wiped_redis(frail: World) -> None:
    projects = [await frail.project() for _ in range(12)]
    wanted = [await frail.deploy(projects[number % 12]) for number in range(60)]
    assert await frail.platform.redis.call(lambda client: client.flushall(), otherwise=False)
    builds = Builds(seconds=0.02)
    async with working(frail.platform, builds, "w1"), working(frail.platform, builds, "w2"):
        await asyncio.gather(*(until(frail, deployment, State.READY, timeout_s=60) for deployment in wanted))
    assert builds.finished == Counter({deployment.id: 1 for deployment in wanted})
    assert builds.started == builds.finished
    assert set(builds.most.values()) == {1}


@pytest.mark.processes
@pytest.mark.reliability("R12.1")
async def test_two_hundred_queued_deployments_and_a_redis_that_lost_its_end(
    frail: World, valkey: Service, tmp_path: Path
) -> None:
    projects = [await frail.project() for _ in range(40)]
    wanted = [await frail.deploy(projects[number % 40]) for number in range(200)]
    valkey.process.kill()
    valkey.process.wait()
    (appended,) = (tmp_path / "valkey").rglob("*.incr.aof")
    assert appended.stat().st_size > 10
    os.truncate(appended, appended.stat().st_size - 10)
    again = start_valkey(tmp_path / "valkey", socket_of(valkey).parents[1])
    builds = Builds()
    try:
        async with working(frail.platform, builds, "w1"), working(frail.platform, builds, "w2"):
            await asyncio.gather(*(until(frail, deployment, State.READY, timeout_s=100) for deployment in wanted))
    finally:
        again.stop()
    assert builds.finished == builds.started == Counter({deployment.id: 1 for deployment in wanted})
    assert set(builds.most.values()) == {1}


@pytest.mark.reliability("R12.1")
async def test_builds_go_on_while_redis_is_killed_and_when_it_is_back(
    frail: World, valkey: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    projects = [await frail.project() for _ in range(6)]
    builds = Builds(seconds=0.05)
    async with working(frail.platform, builds):
        before = [await frail.deploy(project) for project in projects]
        valkey.process.kill()
        valkey.process.wait()
        during = [await frail.deploy(project) for project in projects]
        for deployment in before + during:
            await until(frail, deployment, State.READY, timeout_s=30)
        assert builds.finished == Counter({deployment.id: 1 for deployment in before + during})
        again = start_valkey(tmp_path / "valkey", socket_of(valkey).parents[1])
        try:
            await asyncio.sleep(2.5)
            monkeypatch.setattr(worker_module, "POLL_S", 25.0)  # From the next look on a ring alone starts it in time.
            await asyncio.sleep(2.5)
            assert await frail.platform.redis.publish("edges", "1")
            after = await frail.deploy(projects[0])
            await until(frail, after, State.READY)
        finally:
            again.stop()


async def test_a_short_outage_of_the_database_costs_no_attempt(world: World, wire: Wire, wired_db: Database) -> None:
    settings = world.platform.settings.model_copy(update={"lease_s": 20.0})
    builds = Builds(seconds=2)
    async with working(replace(world.platform, db=wired_db, settings=settings), builds):
        wanted = await until(world, await world.deploy(await world.project()), State.BUILDING)
        await asyncio.sleep(0.3)
        wire.set("cut")
        await asyncio.sleep(2.5)
        wire.set("pass")
        ready = await until(world, wanted, State.READY)
    assert ready.attempt == 1
    assert builds.finished == Counter({wanted.id: 1})
