"""One claimed build from its claim to its end: runs while the lease is kept, then writes down how it ended.

claim -> run_build beside heartbeats -> publish
             |-- fails --> failed        |-- cancelled --> cancelled      |-- needs no build --> skipped
             |-- lease lost --> nothing  '-- worker stops, platform trouble --> queued again
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from vclone_core.actions.announcing import announce_change
from vclone_core.actions.platform import Platform
from vclone_core.actions.publishing import publish, wait_receipts
from vclone_core.build.logsink import LogSink
from vclone_core.errors import (
    BuildTimeout,
    Cancelled,
    Internal,
    Skipped,
    StaleAttempt,
    Unavailable,
    VcloneError,
)
from vclone_core.log import get_log
from vclone_core.models import BuildLimits, Claim, Deployment, Manifest, Step
from vclone_core.renderings import render_log_line
from vclone_core.rules.faults import find_fault
from vclone_core.rules.lifecycle import Event
from vclone_core.stores import buildlogs, queue
from vclone_core.stores.queue import Hold
from vclone_core.stores.redis import Wakes, deployment_channel

log = get_log(__name__)

RunBuild = Callable[[Claim, Path, LogSink], Awaitable[Manifest]]

# A build that is told to end gets this long to end its processes; then its end is written down without it.
END_S: Final = 15.0
# How long the end of a build is tried to be written down while the database is away. Later the reaper sees to it.
WRITE_S: Final = 30.0
WRITE_REST_S: Final = 0.5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lost:
    """Somebody else has the build, or it is final: nothing may be written."""


@dataclass(frozen=True, slots=True)
class GivenBack:
    """The worker stops, and another one shall start over."""


Ending = VcloneError | Lost | GivenBack


async def hold(
    platform: Platform, claim: Claim, workspace: Path, run_build: RunBuild, give_back: asyncio.Event
) -> None:
    """Build, publish and write down the end. Returns when nothing of the build runs any more."""
    limits = BuildLimits()
    sink = LogSink(platform.db, platform.redis, claim, cap_bytes=limits.log_bytes)
    lease = asyncio.create_task(_keep_lease(platform, claim), name=f"lease {workspace.name}")
    try:
        built = await _run(platform, claim, workspace, sink, run_build, lease, give_back)
        ending = await _publish(platform, claim, sink, built) if isinstance(built, Manifest) else built
        if ending is not None:
            await _write_down(platform, claim, sink, ending)
    finally:
        lease.cancel()
        await asyncio.wait({lease})


async def _run(
    platform: Platform,
    claim: Claim,
    workspace: Path,
    sink: LogSink,
    run_build: RunBuild,
    lease: asyncio.Task[Hold],
    give_back: asyncio.Event,
) -> Manifest | Ending:
    work = asyncio.create_task(_work(claim, workspace, sink, run_build), name=f"build {workspace.name}")
    stop = asyncio.create_task(give_back.wait())
    limit_s = platform.settings.build_timeout_s
    try:
        await asyncio.wait({work, lease, stop}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return _ending_of(work, claim)
        if lease.done():
            return Lost() if lease.result() is Hold.LOST else Cancelled()
        return GivenBack() if stop.done() else BuildTimeout(limit_s=f"{limit_s:.0f}")
    finally:
        stop.cancel()
        await _end(work, workspace.name)


async def _work(claim: Claim, workspace: Path, sink: LogSink, run_build: RunBuild) -> Manifest:
    if claim.attempt > 1:
        text = f"Attempt {claim.attempt} starts from the beginning: the one before it was interrupted."
        await sink.append([buildlogs.platform_line(sink.step, text)])
    manifest = await run_build(claim, workspace, sink)
    await sink.flush()
    return manifest


def _ending_of(work: asyncio.Task[Manifest], claim: Claim) -> Manifest | Ending:
    """Return how a build ended by itself. What isn't ours to explain is a bug: its traceback goes to the log."""
    if work.cancelled():
        return GivenBack()
    error = work.exception()
    if error is None:
        return work.result()
    if isinstance(error, StaleAttempt):
        return Lost()
    if isinstance(error, VcloneError):
        return error
    error_id = f"bug_{secrets.token_hex(6)}"
    log.error("build.crashed", id=error_id, deployment=claim.deployment.id, attempt=claim.attempt, exc_info=error)
    return Internal(id=error_id)


async def _end(work: asyncio.Task[Manifest], name: str) -> None:
    if work.done():
        return
    work.cancel()
    _, late = await asyncio.wait({work}, timeout=END_S)
    if late:
        log.error("build.stuck", build=name)
    elif not work.cancelled() and (error := work.exception()) is not None:
        log.warning("build.ended_badly", build=name, exc_info=error)


async def _publish(platform: Platform, claim: Claim, sink: LogSink, manifest: Manifest) -> Ending | None:
    """Publish; None when that is done, else what stood in its way."""
    try:
        await sink.record_step(step=Step.PUBLISH.value)
        published = await _until_written(lambda: publish(platform, claim, manifest))
    except StaleAttempt:
        return Lost()
    except VcloneError as error:
        return error
    log.info("deployment.published", deployment=claim.deployment.id, attempt=claim.attempt, version=published.version)
    platform.start(_log_receipts(platform, claim.deployment.id, published.version), name="receipts")
    return None


async def _log_receipts(platform: Platform, deployment_id: str, version: int) -> None:
    for receipt in await wait_receipts(platform, version):
        log.info("edge.switched", deployment=deployment_id, edge=receipt.edge_id, after_ms=receipt.after_ms)


async def _write_down(platform: Platform, claim: Claim, sink: LogSink, ending: Ending) -> None:
    if isinstance(ending, Lost):
        log.warning("build.lost", deployment=claim.deployment.id, attempt=claim.attempt)
        return
    try:
        await sink.append([buildlogs.platform_line(sink.step, _last_words(ending))])
        deployment = await _until_written(lambda: _leave(platform, claim, sink, ending))
    except (StaleAttempt, Unavailable) as error:
        # Where it was the database, the lease runs out, and the reaper writes the end.
        log.warning("build.unwritten", deployment=claim.deployment.id, attempt=claim.attempt, why=error.sentence)
        return
    if deployment is not None:
        log.info("deployment.left", deployment=deployment.id, attempt=claim.attempt, state=deployment.state.value)
        await announce_change(platform, deployment, claim.project)


def _last_words(ending: Ending) -> str:
    match ending:
        case Cancelled():
            return "The deployment was cancelled."
        case Skipped():
            return f"Skipped: {ending.facts['reason']}."
        case GivenBack():
            return "The worker stops; another one starts this build again."
        case VcloneError():
            return render_log_line(ending)
        case _:
            raise AssertionError(ending)


async def _leave(platform: Platform, claim: Claim, sink: LogSink, ending: Ending) -> Deployment | None:
    """Write the log's rest and the new state; None when the claim no longer holds."""
    await sink.flush()
    match ending:
        case Cancelled():
            return await queue.finish(platform.db, claim, Event.CANCEL)
        case Skipped():
            return await queue.finish(platform.db, claim, Event.SKIP, reason=ending.facts["reason"])
        case GivenBack():
            left = await queue.finish(platform.db, claim, Event.GIVE_BACK)
        case VcloneError() if find_fault(type(ending)).is_retried:
            failure, attempts = queue.to_failure(ending, sink.step), platform.settings.max_attempts
            left = await queue.retry(platform.db, claim, max_attempts=attempts, failure=failure)
        case VcloneError():
            return await queue.finish(platform.db, claim, Event.FAIL, failure=queue.to_failure(ending, sink.step))
        case _:
            raise AssertionError(ending)
    # None: somebody called it off while it was on its way back into the queue, or it is lost.
    return left or await queue.finish(platform.db, claim, Event.CANCEL)


async def _until_written(write: Callable[[], Awaitable[T]]) -> T:
    """Call `write` until the database answers, for `WRITE_S`. It must be safe to call again."""
    deadline = asyncio.get_running_loop().time() + WRITE_S
    while True:
        try:
            return await write()
        except Unavailable:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(WRITE_REST_S)


async def _keep_lease(platform: Platform, claim: Claim) -> Hold:
    """Renew a claim's lease until it is lost, or somebody wants the build to end."""
    settings = platform.settings
    async with platform.redis.subscribe(deployment_channel(claim.deployment.id)) as wakes:
        while True:
            try:
                held = await queue.heartbeat(platform.db, claim, lease_s=settings.lease_s)
            except Unavailable as error:
                # An outage shorter than the lease costs nothing; after a longer one the next answer says so.
                log.warning("heartbeat.missed", deployment=claim.deployment.id, why=error.sentence)
            else:
                if held is not Hold.HELD:
                    return held
            await _wait_heartbeat(wakes, settings.heartbeat_s)


async def _wait_heartbeat(wakes: Wakes, timeout_s: float) -> None:
    # The build's own log wakes this channel too; only a cancellation is worth a look before the time.
    deadline = asyncio.get_running_loop().time() + timeout_s
    while (left := deadline - asyncio.get_running_loop().time()) > 0:
        if await wakes.wait(left) == "cancel":
            return
