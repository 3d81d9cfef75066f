"""Builds that are called off: in every step, and in the middle of commands, in each runner."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.build.test_kill_points import list_containers, list_left
from tests.build.working import finish, make_project
from tests.contracts.runners import make_podman, make_process
from tests.git_server import GitServer

from vclone_core.actions import deployments, sites
from vclone_core.actions.platform import Platform
from vclone_core.actions.projects import create_project
from vclone_core.build.logsink import LogSink
from vclone_core.build.pipeline import STEPS
from vclone_core.build.worker import Worker, pipeline_with
from vclone_core.models import Actor, Claim, Deployment, Manifest, ProjectSettings, Source, State, Step
from vclone_core.rules.objectkeys import manifest_key
from vclone_core.stores import buildlogs

pytestmark = pytest.mark.services

BUILT = ProjectSettings(
    framework="static",
    install_command="true",
    build_command="mkdir dist; echo > dist/index.html",
    output_directory="dist",
)


class Called(LogSink):
    """A log whose build is called off when it reaches a step, which then goes on."""

    wanted: str
    call_off: Any

    async def record_step(self, *, step: str | None = None, step_seconds: Mapping[str, float] | None = None) -> None:
        await super().record_step(step=step, step_seconds=step_seconds)
        if step == self.wanted:
            await self.call_off()
            # Longer than a cancelled build may take.
            await asyncio.sleep(30)


@pytest.mark.reliability("R23.1")
@pytest.mark.parametrize("step", [*(step.value for step, _ in STEPS), Step.PUBLISH.value])
async def test_a_build_is_cancelled_in_every_step(platform: Platform, git: GitServer, step: str) -> None:
    git.commit("site", {"a.txt": "x"})
    actor, _ = await make_project(platform)
    project = await create_project(platform, actor, "app", settings=BUILT)
    real = pipeline_with(platform, await make_process())
    called: list[float] = []

    async def run(claim: Claim, workspace: Path, sink: LogSink) -> Manifest:
        async def call_off() -> None:
            called.append(time.monotonic())
            await deployments.cancel(platform, actor, claim.deployment.id)

        gate = Called(platform.db, platform.redis, claim, cap_bytes=10**6)
        gate.wanted, gate.call_off = step, call_off
        return await real(claim, workspace, gate)

    worker = Worker(platform, run)
    task = asyncio.create_task(worker.run())
    source = Source("git", url=git.address("site"), ref="main")
    made = await deployments.request_deployment(platform, actor, project, source)
    done = await finish(platform, made)
    took = time.monotonic() - called[0]
    worker.stop()
    await task
    assert done.state is State.CANCELLED
    assert took < 5
    await is_gone(platform, done)


async def is_gone(platform: Platform, done: Deployment) -> None:
    builds = platform.settings.data_dir / "builds"
    assert list(builds.iterdir()) == []
    assert list_left(builds) == []
    assert await sites.resolve_host(platform, "app.localhost") is None
    assert await platform.objects.head(manifest_key(done.project_id, done.id)) is None


@pytest.mark.reliability("R23.2")
@pytest.mark.parametrize("step", ["install", "build"])
@pytest.mark.parametrize("name", ["process", pytest.param("podman", marks=pytest.mark.podman)])
async def test_a_command_is_cancelled_with_all_that_it_started(
    platform: Platform, git: GitServer, name: str, step: str
) -> None:
    git.commit("site", {"a.txt": "x"})
    actor: Actor
    actor, _ = await make_project(platform)
    command = "trap '' TERM; (setsid sleep 300 &); echo begun; sleep 300"
    settings = ProjectSettings(
        framework="static",
        output_directory=".",
        **{"install_command": "true", "build_command": "true", f"{step}_command": command},
    )
    project = await create_project(platform, actor, "app", settings=settings)
    runner = (
        await make_podman(**{"egress.allow": git.url.removeprefix("http://")})
        if name == "podman"
        else await make_process()
    )
    worker = Worker(platform, pipeline_with(platform, runner), reap=runner.reap)
    task = asyncio.create_task(worker.run())
    source = Source("git", url=git.address("site"), ref="main")
    made = await deployments.request_deployment(platform, actor, project, source)
    async with asyncio.timeout(60):
        while not any(line.text == "begun" for line in await buildlogs.read(platform.db, made.id)):
            await asyncio.sleep(0.05)
    began = time.monotonic()
    await deployments.cancel(platform, actor, made.id)
    done = await finish(platform, made)
    assert (done.state, time.monotonic() - began < 5) == (State.CANCELLED, True)
    async with asyncio.timeout(10):
        builds = platform.settings.data_dir / "builds"
        while name == "podman" and await list_containers(runner, builds):
            await asyncio.sleep(0.1)
    worker.stop()
    await task
    await is_gone(platform, done)
