"""Workers as processes: killed, stopped and woken, told to end. What is ready was built once and is whole."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from vclone_core.actions import deployments
from vclone_core.models import Deployment, LogLine, Project, State
from vclone_core.settings import Settings
from vclone_core.stores import buildlogs, records

from .conftest import World, eventually

pytestmark = pytest.mark.processes

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def start(settings: Settings, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts worker processes; what is left of them is killed after the test."""
    processes: list[asyncio.subprocess.Process] = []

    async def start_worker(name: str, *, seconds: float, **more: str) -> asyncio.subprocess.Process:
        environ = {
            **os.environ,
            "VCLONE_DATA_DIR": str(settings.data_dir),
            "VCLONE_DATABASE_URL": settings.database_url.get_secret_value(),
            "VCLONE_REDIS_URL": settings.redis_url.get_secret_value(),
            "VCLONE_STORE": settings.store,
            "VCLONE_LEASE_S": "2",
            "VCLONE_HEARTBEAT_S": "0.3",
            "WORKER": name,
            "SECONDS": str(seconds),
            **more,
        }
        with (tmp_path / f"{name}.log").open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(Path(__file__).with_name("worker_process.py")),
                env=environ,
                stdout=output,
                stderr=output,
            )
        processes.append(process)
        return process

    yield start_worker
    for process in processes:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()


async def until(
    world: World, deployment: Deployment, *states: State, attempt: int = 1, timeout_s: float = 40
) -> Deployment:
    async with eventually(timeout_s) as pause:
        while True:
            current = await records.fetch_deployment_by_id(world.platform.db, deployment.id)
            assert current is not None
            if current.state in states and current.attempt >= attempt:
                return current
            await pause()


async def log_of(world: World, deployment: Deployment) -> list[LogLine]:
    lines = await buildlogs.read(world.platform.db, deployment.id, limit=10_000)
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    return lines


@pytest.mark.reliability("R7.1")
async def test_a_stopped_worker_that_wakes_late_publishes_nothing(world: World, start: Start) -> None:
    zombie = await start("zombie", seconds=1.5)
    wanted = await until(world, await world.deploy(await world.project()), State.BUILDING)
    async with eventually() as pause:
        while not await log_of(world, wanted):
            await pause()
    zombie.send_signal(signal.SIGSTOP)
    await start("healthy", seconds=0.2)
    ready = await until(world, wanted, State.READY)
    before = [line.text for line in await log_of(world, wanted)]
    zombie.send_signal(signal.SIGCONT)
    await asyncio.sleep(3)
    assert await until(world, wanted, State.READY) == ready
    assert ready.attempt == 2
    assert ready.size_bytes == len("healthy")
    assert [line.text for line in await log_of(world, wanted)] == before
    assert "healthy is done" in before and "zombie is done" not in before
    assert zombie.returncode is None


@pytest.mark.reliability("R6.2")
async def test_a_killed_workers_build_is_taken_over_and_its_folder_removed(
    world: World, start: Start, settings: Settings
) -> None:
    first = await start("first", seconds=60)
    wanted = await until(world, await world.deploy(await world.project()), State.BUILDING)
    workspace = settings.data_dir / "builds" / f"{wanted.id}-1"
    async with eventually() as pause:
        while not (workspace / "output").exists():
            await pause()
    first.kill()
    await start("second", seconds=0.1)
    ready = await until(world, wanted, State.READY)
    assert ready.attempt == 2
    texts = [line.text for line in await log_of(world, wanted)]
    assert texts[0] == "first builds"
    assert texts[1] == "The worker of this build went silent; another one takes over."
    assert texts[2].startswith("Attempt 2 starts from the beginning")
    async with eventually() as pause:
        while list((settings.data_dir / "builds").iterdir()):
            await pause()


@pytest.mark.reliability("R6.1")
async def test_workers_killed_again_and_again_lose_nothing_and_build_nothing_twice(world: World, start: Start) -> None:
    """Kills at points spread over claim, build and publish; the runs after the last kill finish the rest."""
    projects = [await world.project() for _ in range(8)]
    wanted = [await world.deploy(project) for project in projects for _ in range(2)]
    dice = random.Random(11)
    for turn in range(6):
        process = await start(f"doomed{turn}", seconds=0.2, VCLONE_MAX_ATTEMPTS="10")
        await asyncio.sleep(1.0 + dice.random())
        process.kill()
        await process.wait()
    for turn in range(2):
        await start(f"last{turn}", seconds=0.05, VCLONE_MAX_ATTEMPTS="10")
    for deployment in wanted:
        ready = await until(world, deployment, State.READY, timeout_s=60)
        texts = [line.text for line in await log_of(world, ready)]
        # Whoever finished it last is the one whose output is live, and only that one went live.
        assert sum(text.startswith("Live at http://") and ready.id[-10:] in text for text in texts) == 1
        aliases = await deployments.list_aliases(
            world.platform, world.actor, await project_of(world, ready), [ready.id]
        )
        assert aliases
    for project, newest in zip(projects, wanted[1::2], strict=True):
        site = await deployments.resolve_host(world.platform, f"{project.name}.localhost")
        assert site is not None and site.deployment_id == newest.id


async def project_of(world: World, deployment: Deployment) -> Project:
    project = await records.fetch_project_by_id(world.platform.db, deployment.project_id)
    assert project is not None
    return project


async def test_sigterm_lets_the_build_end(world: World, start: Start) -> None:
    process = await start("polite", seconds=1)
    wanted = await until(world, await world.deploy(await world.project()), State.BUILDING)
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 15) == 0
    assert (await until(world, wanted, State.READY)).attempt == 1


async def test_sigterm_gives_a_long_build_back_without_a_loss(world: World, start: Start, settings: Settings) -> None:
    process = await start("polite", seconds=60, VCLONE_DRAIN_S="0.5", VCLONE_LEASE_S="60")
    wanted = await until(world, await world.deploy(await world.project()), State.BUILDING)
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 15) == 0
    await until(world, wanted, State.QUEUED)
    assert not list((settings.data_dir / "builds").iterdir())
    await start("next", seconds=0.1)
    assert (await until(world, wanted, State.READY)).attempt == 2
