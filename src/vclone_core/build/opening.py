"""A claim and the platform -> the `Build` that the pipeline runs. The one place where a build meets the database."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vclone_core.actions.deploykeys import find_key, learn_hosts
from vclone_core.actions.gitapps import find_app_access
from vclone_core.actions.gittokens import find_access
from vclone_core.actions.platform import Platform
from vclone_core.actions.projects import missing_of, note_blobs
from vclone_core.actions.variables import read_build_variables
from vclone_core.build.buildlog import BuildLog, Sink
from vclone_core.build.context import Build
from vclone_core.errors import Invalid, NotFound
from vclone_core.models import BuildLimits, Claim, Manifest, SourceFile, State
from vclone_core.protocols import BuildRunner
from vclone_core.rules.clones import GitAccess
from vclone_core.rules.deploykeys import DeployKey
from vclone_core.rules.manifests import decode_manifest
from vclone_core.rules.objectkeys import manifest_key
from vclone_core.stores import records


@dataclass(frozen=True, slots=True)
class ProjectBlobs:
    """The blobs of one project."""

    platform: Platform
    project_id: str

    async def missing(self, hashes: Sequence[str]) -> Sequence[str]:
        """Return which of these SHA-256 are not stored; the others count as needed now."""
        return await missing_of(self.platform, self.project_id, hashes)

    async def sizes(self, hashes: Sequence[str]) -> Mapping[str, int]:
        """Return the sizes of those of these SHA-256 that are stored; they count as needed now."""
        return await records.touch_blobs(self.platform.db, self.project_id, hashes)

    async def note(self, stored: Sequence[tuple[str, int]], *, since_s: float) -> None:
        """Remember what was stored; raises `BlobsCollected`."""
        await note_blobs(self.platform, self.project_id, stored, since_s=since_s)


async def open_build(
    platform: Platform, claim: Claim, *, workspace: Path, sink: Sink, runner: BuildRunner, limits: BuildLimits
) -> Build:
    """Return what `run_build` needs for one attempt. Raises `VariablesUnreadable`."""

    async def fetch_previous() -> Sequence[Manifest]:
        return await fetch_previous_manifests(platform, claim)

    async def fetch_previous_sha() -> str | None:
        deployment, settings = claim.deployment, claim.project.settings
        arguments = (claim.project.id, deployment.source.ref, settings.production_branch, deployment.sequence)
        row = await platform.db.fetch_one("fetch_previous_commit", *arguments)
        return row["sha"] if row is not None else None

    async def fetch_source_files() -> Sequence[SourceFile] | None:
        return await records.fetch_source_files(platform.db, claim.deployment.id)

    async def fetch_access() -> GitAccess | DeployKey | None:
        source = claim.deployment.source
        key = await find_key(platform, claim.project, source)
        token = key or await find_access(platform, claim.project.team_id, source)
        return token or await find_app_access(platform, claim.project.id, source)

    async def learn(key: DeployKey, known_hosts: str) -> None:
        await learn_hosts(platform, claim.project, key, known_hosts)

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
        previous_manifests=fetch_previous,
        previous_sha=fetch_previous_sha,
        source_files=fetch_source_files,
        git_access=fetch_access,
        learn_hosts=learn,
        environment=await read_build_variables(platform, claim),
    )


async def fetch_previous_manifests(platform: Platform, claim: Claim) -> list[Manifest]:
    """Return what `Build.previous_manifests` promises, but for what can't be read."""
    project = claim.project
    newest = await platform.db.fetch("list_deployments", project.team_id, project.id, State.READY.value, None, 1, None)
    branch = claim.deployment.source.ref or project.settings.production_branch
    shown = await platform.db.fetch("list_shown", project.id, branch)
    found = []
    for deployment_id in sorted({row["id"] for row in (*newest, *shown)}, reverse=True):
        # What is missing only costs work, and files that few pages still ask for.
        with contextlib.suppress(NotFound, Invalid):
            async with platform.objects.open(manifest_key(project.id, deployment_id)) as body:
                found.append(decode_manifest(b"".join([chunk async for chunk in body.chunks])))
    return found
