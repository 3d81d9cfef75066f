"""Workers that are struck at chosen moments of a real build: nothing lost, nothing twice, nothing half published."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.build.working import make_project
from tests.contracts.runners import make_podman, make_process
from tests.git_server import GitServer

from vclone_core.actions import deployments, publishing, sites
from vclone_core.actions.platform import Platform
from vclone_core.actions.projects import create_project
from vclone_core.build.worker import Worker, pipeline_with
from vclone_core.models import Actor, Deployment, Manifest, Project, ProjectSettings, Source, State
from vclone_core.protocols import BuildRunner
from vclone_core.rules.lifecycle import FINAL
from vclone_core.rules.manifests import decode_manifest, list_blobs
from vclone_core.rules.objectkeys import blob_key, manifest_key
from vclone_core.stores import buildlogs, queue, records
from vclone_runner_podman.containers import platform_label

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

FILES = {f"pages/{number}.html": f"<p>{number}</p>" * 200 for number in range(4)}
COMMANDS = ProjectSettings(
    framework="static",
    install_command="echo fetching; sleep 0.3; echo fetched",
    build_command="echo making; sleep 0.3; cp -r pages dist; echo built > dist/index.html; echo made",
    output_directory="dist",
)
# Where nothing has to happen in the middle of a command.
QUICK = replace(COMMANDS, install_command="echo", build_command="cp -r pages dist; echo built > dist/index.html")
STEPS = ("claim", "clone", "detect", "install", "build", "collect", "optimise", "upload", "publish")


@dataclass(frozen=True)
class Struck:
    """A project, the deployment that it shows, and the one whose worker is struck."""

    project: Project
    earlier: Deployment
    deployment: Deployment


@dataclass
class Place:
    """A platform, a repository, and workers that are struck."""

    platform: Platform
    git: GitServer
    actor: Actor
    runner: BuildRunner
    process: asyncio.subprocess.Process
    root: Path
    number: int = 0

    async def begin(self, settings: ProjectSettings = COMMANDS) -> Struck:
        """A project that shows an earlier deployment, and a newer one that waits."""
        self.number += 1
        project = await create_project(self.platform, self.actor, f"site-{self.number}", settings=settings)
        source = Source("git", url=self.git.address("site"), ref="main")
        earlier = await deployments.request_deployment(self.platform, self.actor, project, source)
        claim = await queue.claim(self.platform.db, "earlier", lease_s=60, project_slots=1)
        assert claim is not None and claim.deployment.id == earlier.id
        await publishing.publish(self.platform, claim, Manifest(earlier.id, project.id, "static", {}, ()))
        return Struck(
            project, earlier, await deployments.request_deployment(self.platform, self.actor, project, source)
        )

    async def order(self, **words: Any) -> int:
        """Start a worker, and return its id."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps({**words, "root": str(self.root)}).encode() + b"\n")
        return int(await self.hear())

    async def hear(self) -> str:
        assert self.process.stdout
        return (await asyncio.wait_for(self.process.stdout.readline(), 60)).decode().strip()

    async def strike(self, deployment: Deployment, step: str, number: int, by: str = "SIGKILL") -> int | None:
        """Let a worker take what waits until the moment at which it is struck; None where that never comes.

        What a build does side by side comes in another order each time, so a step may have a moment less.
        """
        pid = await self.order(doom=(step, number, by))
        end = asyncio.create_task(self.hear())
        final = asyncio.create_task(self.until_final([deployment]))
        await asyncio.wait({end, final}, return_when=asyncio.FIRST_COMPLETED)
        if final.done() and step != "publish":
            os.kill(pid, signal.SIGTERM)
            assert await end == "0"
            return None
        final.cancel()
        assert await end == ("stopped" if by == "SIGSTOP" else "-9"), (step, number)
        return pid

    async def learn(self) -> dict[str, list[str]]:
        """Return the moments of each step of an undisturbed build."""
        struck = await self.begin()
        listing = self.root / "moments"
        pid = await self.order(list=str(listing))
        await self.until_final([struck.deployment])
        await self.until_clean()
        os.kill(pid, signal.SIGTERM)
        assert await self.hear() == "0"
        moments: dict[str, list[str]] = {}
        for line in listing.read_text().splitlines():
            step, _, what = line.split(" ", 2)
            moments.setdefault(step, []).append(what)
        return moments

    async def silence(self) -> None:
        """Let the leases of all builds run out."""
        async with self.platform.db._pool.acquire() as connection:
            await connection.execute("update deployments set lease_until = now() where state = 'building'")

    async def until_final(self, wanted: Sequence[Deployment]) -> list[Deployment]:
        async with asyncio.timeout(120):
            while True:
                found = [await records.fetch_deployment_by_id(self.platform.db, one.id) for one in wanted]
                if all(one is not None and one.state in FINAL for one in found):
                    return [one for one in found if one is not None]
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def rescue(self) -> AsyncIterator[None]:
        """A healthy worker beside."""
        settings = self.platform.settings.model_copy(update={"worker_slots": 4})
        platform = replace(self.platform, settings=settings)
        worker = Worker(platform, pipeline_with(platform, self.runner), reap=self.runner.reap)
        task = asyncio.create_task(worker.run())
        yield
        worker.stop()
        await task

    async def shown(self, project: Project) -> str | None:
        site = await sites.resolve_host(self.platform, f"{project.name}.localhost")
        return site.deployment_id if site else None

    async def read_manifest(self, deployment: Deployment) -> Manifest:
        """Return a manifest whose blobs are all there, each with the bytes of its name."""
        async with self.platform.objects.open(manifest_key(deployment.project_id, deployment.id)) as body:
            manifest = decode_manifest(b"".join([chunk async for chunk in body.chunks]))
        for sha256, size in list_blobs(manifest.files.values()).items():
            async with self.platform.objects.open(blob_key(deployment.project_id, sha256)) as body:
                data = b"".join([chunk async for chunk in body.chunks])
            assert (len(data), hashlib.sha256(data).hexdigest()) == (size, sha256)
        return manifest

    async def moves_to(self, deployment: Deployment, host: str) -> int:
        async with self.platform.db._pool.acquire() as connection:
            query = "select count(*) from alias_history where deployment_id = $1 and host = $2"
            return int(await connection.fetchval(query, deployment.id, host))

    async def is_well(self, struck: Struck, deployment: Deployment) -> None:
        """Check that a deployment is live: whole, once, with a log without gaps."""
        assert (deployment.id, deployment.state, deployment.failure) == (struck.deployment.id, State.READY, None)
        assert await self.shown(struck.project) == deployment.id
        assert set((await self.read_manifest(deployment)).files) == {"/index.html", *(f"/{n}.html" for n in range(4))}
        assert await self.moves_to(deployment, f"{struck.project.name}.localhost") == 1
        lines = await buildlogs.read(self.platform.db, deployment.id, limit=10_000)
        assert [line.number for line in lines] == list(range(1, len(lines) + 1))
        lives = [line.text for line in lines if line.text.startswith("Live at")]
        assert len(lives) == len(set(lives)) == 3, lives

    def said(self) -> str:
        return (self.root / "doomed.log").read_text(errors="replace")

    async def until_clean(self) -> None:
        builds = self.platform.settings.data_dir / "builds"
        async with asyncio.timeout(30):
            while list(builds.iterdir()) or list_left(builds):
                await asyncio.sleep(0.1)


def list_left(folder: Path) -> list[str]:
    """Return the processes that work below a folder."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.readlink().is_relative_to(folder):
                found.append(link.parent.name)
        except OSError:
            continue
    return found


@asynccontextmanager
async def placed(platform: Platform, git: GitServer, tmp_path: Path, runner_name: str) -> AsyncIterator[Place]:
    # Loopback is out of a container's reach, unless the operator names it.
    options = {"sandbox": "none"} if runner_name == "process" else {"egress.allow": git.url.removeprefix("http://")}
    runner = await make_podman(**options) if runner_name == "podman" else await make_process()
    settings = platform.settings
    environ = {
        **os.environ,
        "VCLONE_DATA_DIR": str(settings.data_dir),
        "VCLONE_DATABASE_URL": settings.database_url.get_secret_value(),
        "VCLONE_REDIS_URL": settings.redis_url.get_secret_value(),
        "VCLONE_STORE": settings.store,
        "VCLONE_GIT_ALLOW_INSECURE": "true",
        "VCLONE_RUNNER": runner_name,
        "VCLONE_RUNNER_OPTIONS": json.dumps(options),
        # Longer than the test: only `silence` takes a build from its worker.
        "VCLONE_LEASE_S": "600",
    }
    git.commit("site", FILES)
    actor, _ = await make_project(platform, "first")
    with (tmp_path / "doomed.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("doomed_worker.py")),
            env=environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    yield Place(platform, git, actor, runner, process, tmp_path)
    assert process.stdin
    process.stdin.close()
    await asyncio.wait_for(process.wait(), 30)


@pytest.fixture
async def place(
    platform: Platform, git: GitServer, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Place]:
    async with placed(platform, git, tmp_path, getattr(request, "param", "process")) as place:
        yield place


def choose(moments: dict[str, list[str]]) -> list[tuple[str, int]]:
    """Return moments of each step: its first, its last, and one between; of *upload* and *publish* all that matter."""
    points: list[tuple[str, int]] = []
    for step, passed in moments.items():
        last = len(passed)
        chosen = {1, (last + 1) // 2, last}
        # Each object becoming visible, each query of the switch.
        if step in ("upload", "publish"):
            chosen |= {number for number, what in enumerate(passed, 1) if not what.startswith(("open", "os.remove"))}
        points += [(step, number) for number in sorted(chosen)]
    return points


@pytest.mark.reliability("R6.1", "R6.2", "R8.1", "R8.2")
async def test_a_worker_killed_at_any_moment_loses_nothing(place: Place) -> None:
    await place.learn()
    # The first build of a platform makes folders that the later ones find.
    moments = await place.learn()
    assert set(moments) == set(STEPS)
    done: list[tuple[str, Struck]] = []
    for step, number in choose(moments):
        struck = await place.begin(COMMANDS if step in ("install", "build") else QUICK)
        if await place.strike(struck.deployment, step, number) is None:
            continue
        # What is shown before anybody mends it is the earlier one, or the new one and whole.
        shown = await place.shown(struck.project)
        assert shown == struck.earlier.id or step == "publish"
        if await place.platform.objects.head(manifest_key(struck.project.id, struck.deployment.id)) or (
            shown == struck.deployment.id
        ):
            await place.read_manifest(struck.deployment)
        done.append((step, struck))
    assert len(done) >= 20
    assert {step for step, _ in done} == set(STEPS)
    await place.silence()
    async with place.rescue():
        ended = await place.until_final([struck.deployment for _, struck in done])
        await place.until_clean()
    for (step, struck), deployment in zip(done, ended, strict=True):
        # A worker that was killed behind its commit has done its work.
        assert deployment.attempt in ((1, 2) if step == "publish" else (2,)), step
        await place.is_well(struck, deployment)


@pytest.mark.podman
@pytest.mark.reliability("R6.3")
@pytest.mark.parametrize("place", ["podman"], indirect=True)
async def test_a_worker_killed_beside_its_container_leaves_none(place: Place) -> None:
    moments = await place.learn()
    done = []
    for step in ("clone", "install", "build", "upload"):
        struck = await place.begin()
        assert await place.strike(struck.deployment, step, len(moments[step]) * 2 // 3) is not None
        done.append(struck)
    await place.silence()
    async with place.rescue():
        for struck, deployment in zip(
            done, await place.until_final([struck.deployment for struck in done]), strict=True
        ):
            await place.is_well(struck, deployment)
        await place.until_clean()
        async with asyncio.timeout(60):
            while await list_containers(place.runner, place.platform.settings.data_dir / "builds"):
                await asyncio.sleep(0.2)


@pytest.mark.reliability("R7.1")
async def test_a_worker_that_sleeps_through_its_lease_changes_nothing(place: Place) -> None:
    """It wakes in the middle of a command, of an upload, and between its manifest and the switch."""
    moments = await place.learn()
    switch = moments["publish"].index("query lock_aliases") + 1
    for step, number in (("build", 2), ("upload", len(moments["upload"]) // 2), ("publish", switch)):
        struck = await place.begin()
        pid = await place.strike(struck.deployment, step, number, by="SIGSTOP")
        assert pid is not None
        await place.silence()
        async with place.rescue():
            (ready,) = await place.until_final([struck.deployment])
        await place.is_well(struck, ready)
        lines = await buildlogs.read(place.platform.db, ready.id, limit=10_000)
        manifest = await place.read_manifest(ready)
        os.kill(pid, signal.SIGCONT)
        async with asyncio.timeout(60):
            while f"build.lost                     attempt=1 deployment={ready.id}" not in place.said():
                await asyncio.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        assert (await place.until_final([ready]))[0] == ready
        assert await buildlogs.read(place.platform.db, ready.id, limit=10_000) == lines
        assert await place.read_manifest(ready) == manifest
        await place.is_well(struck, ready)


@pytest.mark.reliability("R22.1")
async def test_a_build_that_kills_every_worker_fails_and_the_queue_moves_on(place: Place) -> None:
    struck = await place.begin()
    attempts = place.platform.settings.max_attempts
    for _ in range(attempts):
        assert await place.strike(struck.deployment, "build", 2) is not None
        await place.silence()
    healthy = await place.begin()
    async with place.rescue():
        failed, ready = await place.until_final([struck.deployment, healthy.deployment])
        await place.until_clean()
    assert (failed.state, failed.attempt) == (State.FAILED, attempts)
    assert failed.failure is not None and failed.failure.code == "attempts_exhausted"
    assert await place.shown(struck.project) == struck.earlier.id
    await place.is_well(healthy, ready)


async def list_containers(runner: Any, builds_dir: Path) -> list[str]:
    """Return the containers of a platform's builds, running or not."""
    label = f"vclone.platform={platform_label(builds_dir.resolve())}"
    found: list[str] = await runner._podman.call(
        lambda client: [one.id for one in client.containers.list(all=True, filters={"label": label})]
    )
    return found
