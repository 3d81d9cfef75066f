"""A claim and the platform -> the `Build` that the pipeline runs. The one place where a build meets the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vclone_core.actions.platform import Platform
from vclone_core.actions.projects import missing_of, note_blobs
from vclone_core.build.buildlog import BuildLog, Sink
from vclone_core.build.context import Build
from vclone_core.errors import Invalid, NotFound
from vclone_core.models import BuildLimits, Claim, Manifest, State
from vclone_core.protocols import BuildRunner
from vclone_core.rules.manifests import decode_manifest
from vclone_core.rules.objectkeys import manifest_key


@dataclass(frozen=True, slots=True)
class ProjectBlobs:
    """The blobs of one project."""

    platform: Platform
    project_id: str

    async def missing(self, hashes: Sequence[str]) -> Sequence[str]:
        """Return which of these SHA-256 are not stored; the others count as needed now."""
        return await missing_of(self.platform, self.project_id, hashes)

    async def note(self, stored: Sequence[tuple[str, int]]) -> None:
        """Remember what was stored."""
        await note_blobs(self.platform, self.project_id, stored)


def open_build(
    platform: Platform, claim: Claim, *, workspace: Path, sink: Sink, runner: BuildRunner, limits: BuildLimits
) -> Build:
    """Return what `run_build` needs for one attempt."""

    async def fetch_previous() -> Manifest | None:
        return await fetch_newest_manifest(platform, claim)

    return Build(
        claim=claim,
        workspace=workspace,
        log=BuildLog(sink, limit_bytes=limits.log_bytes),
        runner=runner,
        limits=limits,
        settings=platform.settings,
        objects=platform.objects,
        plugins=platform.plugins,
        blobs=ProjectBlobs(platform, claim.project.id),
        previous_manifest=fetch_previous,
    )


async def fetch_newest_manifest(platform: Platform, claim: Claim) -> Manifest | None:
    """Return the manifest of the project's newest ready deployment; None where there is none to be read."""
    project = claim.project
    rows = await platform.db.fetch("list_deployments", project.team_id, project.id, State.READY.value, None, 1)
    if not rows:
        return None
    try:
        async with platform.objects.open(manifest_key(project.id, rows[0]["id"])) as body:
            return decode_manifest(b"".join([chunk async for chunk in body.chunks]))
    except (NotFound, Invalid):
        # It only saves work.
        return None
