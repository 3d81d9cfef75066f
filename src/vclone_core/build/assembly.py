"""Joins a claim to the pipeline: gives each build the platform's stores in the shape that its steps ask for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vclone_core.actions.platform import Platform
from vclone_core.actions.projects import missing_of, note_blobs
from vclone_core.build.buildlog import BuildLog
from vclone_core.build.context import Build
from vclone_core.build.logsink import LogSink
from vclone_core.build.pipeline import run_build
from vclone_core.errors import Invalid, NotFound, StaleAttempt
from vclone_core.models import BuildLimits, Claim, Manifest, Source, Step
from vclone_core.protocols import BuildRunner
from vclone_core.rules.manifests import decode_manifest
from vclone_core.rules.objectkeys import manifest_key
from vclone_core.stores import queue, records


@dataclass(frozen=True, slots=True)
class ProjectBlobs:
    """The blobs of one project, as the steps see them."""

    platform: Platform
    project_id: str

    async def missing(self, hashes: Sequence[str]) -> Sequence[str]:
        return await missing_of(self.platform, self.project_id, hashes)

    async def note(self, stored: Sequence[tuple[str, int]]) -> None:
        await note_blobs(self.platform, self.project_id, stored)


def pipeline_with(platform: Platform, runner: BuildRunner) -> Callable[[Claim, Path, LogSink], Awaitable[Manifest]]:
    """Return the build pipeline as the worker calls it."""
    limits = BuildLimits(wall_clock_s=platform.settings.build_timeout_s)

    async def run(claim: Claim, workspace: Path, sink: LogSink) -> Manifest:
        async def check_held() -> None:
            held = await queue.heartbeat(platform.db, claim, lease_s=platform.settings.lease_s)
            if held is queue.Hold.LOST:
                raise StaleAttempt()

        async def record_source(source: Source) -> None:
            await sink.record_findings(source=source)

        async def record_step(step: Step, step_seconds: Mapping[str, float]) -> None:
            await sink.record_step(step=step.value, step_seconds=step_seconds)

        async def previous_manifest() -> Manifest | None:
            return await _fetch_previous(platform, claim)

        build = Build(
            claim=claim,
            workspace=workspace,
            log=BuildLog(sink, limit_bytes=limits.log_bytes),
            runner=runner,
            limits=limits,
            settings=platform.settings,
            objects=platform.objects,
            plugins=platform.plugins,
            blobs=ProjectBlobs(platform, claim.project.id),
            check_held=check_held,
            record_source=record_source,
            record_step=record_step,
            previous_manifest=previous_manifest,
        )
        return await run_build(build)

    return run


async def _fetch_previous(platform: Platform, claim: Claim) -> Manifest | None:
    """Return the manifest of the project's newest ready deployment, whose variants may be used again."""
    previous = await records.fetch_newest_ready(platform.db, claim.project.id)
    if previous is None:
        return None
    try:
        async with platform.objects.open(manifest_key(claim.project.id, previous.id)) as body:
            return decode_manifest(b"".join([chunk async for chunk in body.chunks]))
    except (NotFound, Invalid):
        # Only a saving is lost; the build goes on without it.
        return None
