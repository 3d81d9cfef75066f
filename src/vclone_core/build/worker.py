"""The worker process: takes builds from the queue, as many at once as it has slots, and gives up none.

bell or poll -> claim -> hold (holding.py) -> claim …        reap, every few seconds        SIGTERM -> drain
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from vclone_core.actions.announcing import announce_change
from vclone_core.actions.platform import Platform, open_platform
from vclone_core.actions.retention import collect_all
from vclone_core.build import workspaces
from vclone_core.build.holding import END_S, RunBuild, hold
from vclone_core.build.logsink import LogSink
from vclone_core.build.opening import open_build
from vclone_core.build.pipeline import run_build
from vclone_core.errors import BadSettings, Unavailable
from vclone_core.log import get_log
from vclone_core.models import BuildLimits, Claim, Manifest
from vclone_core.protocols import BuildRunner, Held, RunnerConfig
from vclone_core.settings import Settings
from vclone_core.stores import queue
from vclone_core.stores.leases import take_lease

log = get_log(__name__)

Reap = Callable[[Path, Held], Awaitable[None]]

# Without a ring a worker looks this often: also what a lost ring costs.
POLL_S: Final = 2.0
REAP_S: Final = 5.0
COLLECT_LOOK_S: Final = 300.0
# Often enough for `embedded/supervisor.py`, which looks every five seconds.
BEAT_S: Final = 2.0
# After an error nobody expected, before the next look.
REST_S: Final = 1.0


def main(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT; a second one gives the running builds back at once."""
    asyncio.run(serve(settings))


async def serve(settings: Settings) -> None:
    """Open the platform and run one worker on it, with the build pipeline and the runner of the settings."""
    async with beating(settings.worker_beat), open_platform(settings) as platform:
        runner: BuildRunner = platform.plugins.make(
            "build_runners", settings.runner, RunnerConfig(options=settings.runner_options)
        )
        if (why := await runner.check()) is not None:
            log.warning("runner.refused", runner=settings.runner, why=why)
        elif runner.note:
            log.warning("runner.limited", runner=settings.runner, why=runner.note)
        worker = Worker(platform, pipeline_with(platform, runner), reap=runner.reap)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        await worker.run()


def _touch(path: Path) -> None:
    """On the loop itself: in a thread it would wait behind work that is only slow."""
    path.touch()


async def _beat(path: Path) -> None:
    is_missed = False
    while True:
        await asyncio.sleep(BEAT_S)
        try:
            _touch(path)
            is_missed = False
        except OSError as error:
            if not is_missed:
                log.warning("beat.missed", path=str(path), why=str(error))
            is_missed = True


@asynccontextmanager
async def beating(path: Path | None) -> AsyncIterator[None]:
    """Touch a file again and again for as long as this process's loop turns; None: do nothing.

    Raises `BadSettings` where that can't be done: whoever looks at it would take the worker for dead.
    """
    if path is None:
        yield
        return
    try:
        _touch(path)
    except OSError as error:
        raise BadSettings(problems=f"VCLONE_WORKER_BEAT names a file that can't be written: {error}.") from None
    task = asyncio.create_task(_beat(path), name="beat")
    try:
        yield
    finally:
        task.cancel()


def pipeline_with(platform: Platform, runner: BuildRunner) -> RunBuild:
    """Return the build pipeline as the worker calls it."""
    limits = limits_of(platform.settings)

    async def run(claim: Claim, workspace: Path, sink: LogSink) -> Manifest:
        return await run_build(
            await open_build(platform, claim, workspace=workspace, sink=sink, runner=runner, limits=limits)
        )

    return run


def limits_of(settings: Settings) -> BuildLimits:
    """Return what one build may use."""
    return BuildLimits(
        wall_clock_s=settings.build_timeout_s,
        memory_bytes=settings.build_memory_mib * 1024**2,
        processes=settings.build_processes,
        cpus=settings.build_cpus,
        disk_bytes=settings.build_disk_mib * 1024**2,
    )


class Worker:
    """One worker: its slots, and the builds it holds."""

    def __init__(
        self, platform: Platform, run_build: RunBuild, *, reap: Reap | None = None, worker_id: str | None = None
    ) -> None:
        self.id = worker_id or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._platform = platform
        self._run_build = run_build
        self._reap_runner = reap
        self._builds_dir = platform.settings.data_dir / "builds"
        self._builds: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._give_back = asyncio.Event()

    def stop(self) -> None:
        """Claim nothing more and end when the running builds have; called again, give them back at once."""
        if self._stopping.is_set():
            self._give_back.set()
        self._stopping.set()

    async def run(self) -> None:
        """Work until `stop`, then drain. Cancelled, it ends its builds and leaves them to the reaper."""
        log.info("worker.started", worker=self.id, slots=self._platform.settings.worker_slots)
        helpers = [
            asyncio.create_task(self._repeat(self._reap, min(REAP_S, self._platform.settings.lease_s)), name="reap"),
            asyncio.create_task(self._stopping.wait(), name="stop"),
            asyncio.create_task(self._repeat(self._collect, COLLECT_LOOK_S), name="collect"),
        ]
        try:
            while not self._stopping.is_set():
                await self._fill()
                await self._wait(helpers[1])
            await self._drain()
        finally:
            for task in (*helpers, *self._builds.values()):
                task.cancel()
            await asyncio.wait([*helpers, *self._builds.values()])
            log.info("worker.stopped", worker=self.id)

    async def _fill(self) -> None:
        """Claim until the slots are full or nothing may start."""
        settings = self._platform.settings
        while len(self._builds) < settings.worker_slots and not self._stopping.is_set():
            try:
                claim = await queue.claim(
                    self._platform.db, self.id, lease_s=settings.lease_s, project_slots=settings.project_slots
                )
            except Unavailable as error:
                log.warning("claim.missed", why=error.sentence)
                await asyncio.sleep(REST_S)
                return
            if claim is None:
                return
            name = queue.workspace_name(claim.deployment.id, claim.attempt)
            task = asyncio.create_task(self._build(claim, self._builds_dir / name), name=name)
            self._builds[name] = task
            task.add_done_callback(lambda _, name=name: self._builds.pop(name))  # type: ignore[misc]

    async def _wait(self, stop: asyncio.Task[Any]) -> None:
        """Return when there may be something to claim: a build ended, the bell rang, or it is time to look."""
        waited: set[asyncio.Task[Any]] = {stop, *self._builds.values()}
        bell = None
        if len(self._builds) < self._platform.settings.worker_slots:
            bell = asyncio.create_task(self._platform.redis.wait_bell(POLL_S), name="bell")
            waited.add(bell)
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if bell is not None and not bell.done():
            bell.cancel()
            await asyncio.wait({bell})

    async def _build(self, claim: Claim, workspace: Path) -> None:
        log.info("deployment.claimed", deployment=claim.deployment.id, attempt=claim.attempt, worker=self.id)
        try:
            await announce_change(self._platform, claim.deployment, claim.project)
            await workspaces.make_workspace(self._builds_dir, workspace.name)
            await hold(self._platform, claim, workspace, self._run_build, self._give_back)
        except Exception:
            # A border: the build is left to the reaper, and the worker goes on.
            log.exception("worker.failed", deployment=claim.deployment.id, attempt=claim.attempt)
        finally:
            await workspaces.remove_workspace(workspace)

    async def _drain(self) -> None:
        if not self._builds:
            return
        drain_s = self._platform.settings.drain_s
        log.info("worker.draining", builds=len(self._builds), drain_s=drain_s)
        give_back = asyncio.create_task(self._give_back.wait())
        ends: Coroutine[Any, Any, Any] = asyncio.wait(set(self._builds.values()))
        done = asyncio.create_task(ends)
        await asyncio.wait({give_back, done}, timeout=drain_s, return_when=asyncio.FIRST_COMPLETED)
        self._give_back.set()
        await asyncio.wait({done}, timeout=2 * END_S)
        done.cancel()

    async def _reap(self) -> None:
        """Take over what silent workers held, ring for what nobody was woken for, remove dead attempts' folders."""
        platform = self._platform
        for reaped in await queue.reap(platform.db, max_attempts=platform.settings.max_attempts):
            log.warning("build.reaped", deployment=reaped.deployment.id, outcome=reaped.loss.event.value)
            await announce_change(platform, reaped.deployment)
        for deployment in await queue.cancel_orphans(platform.db):
            await announce_change(platform, deployment)
        for deployment_id, project_id, is_urgent in await queue.take_unrung(platform.db):
            await platform.redis.ring(deployment_id, project_id, high=is_urgent)
        # The folders before the rows: a claim made in between can't be among the folders.
        if found := workspaces.list_workspaces(self._builds_dir):
            await workspaces.remove_leftovers(found, keep=await self._list_held())
        if self._reap_runner is not None:
            await self._reap_runner(self._builds_dir, self._list_held)

    async def _list_held(self) -> Collection[str]:
        return await queue.list_workspaces(self._platform.db) | self._builds.keys()

    async def _collect(self) -> None:
        """Free storage that nothing needs, when it is time and no other worker does."""
        # Held for the whole interval: who takes it is the one who does it this time.
        every_s = self._platform.settings.collect_every_h * 3600
        if await take_lease(self._platform.db, "collect", every_s) is not None:
            await collect_all(self._platform)

    async def _repeat(self, work: Any, pause_s: float) -> None:
        while True:
            try:
                await work()
            except Unavailable as error:
                log.warning("reaper.missed", why=error.sentence)
            except Exception:
                # A border: an error here must not leave silent workers' builds lying for ever.
                log.exception("reaper.failed")
            await asyncio.sleep(pause_s)
