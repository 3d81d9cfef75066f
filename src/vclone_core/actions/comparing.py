"""Two deployments side by side: what they serve, and what lies between them."""

from __future__ import annotations

from vclone_core.actions.deployments import find_deployment
from vclone_core.actions.platform import Platform
from vclone_core.errors import Invalid, WrongState
from vclone_core.models import Actor, Deployment, Manifest, State
from vclone_core.rules.diffs import FileChange, diff_manifests
from vclone_core.rules.manifests import decode_manifest
from vclone_core.rules.objectkeys import manifest_key
from vclone_core.stores import records


async def diff(platform: Platform, actor: Actor, before: str, after: str) -> tuple[FileChange, ...]:
    """Return what `after` serves otherwise than `before`, each an id or a host; raise `WrongState` unless ready."""
    return diff_manifests(
        await _read_manifest(platform, await find_deployment(platform, actor, before)),
        await _read_manifest(platform, await find_deployment(platform, actor, after)),
    )


async def between(platform: Platform, actor: Actor, one: str, other: str) -> list[Deployment]:
    """Return the ready deployments of a project from one to the other, both included, in the order of requests.

    Raises `Invalid` when they belong to different projects.
    """
    ends = [await find_deployment(platform, actor, text) for text in (one, other)]
    if ends[0].project_id != ends[1].project_id:
        raise Invalid(what="these are deployments of two projects")
    for end in ends:
        _require_ready(end)
    first, last = sorted(end.sequence for end in ends)
    rows = await platform.db.fetch("list_between", ends[0].project_id, first, last)
    return [records.deployment_from(row) for row in rows]


async def _read_manifest(platform: Platform, deployment: Deployment) -> Manifest:
    _require_ready(deployment)
    async with platform.objects.open(manifest_key(deployment.project_id, deployment.id)) as body:
        return decode_manifest(b"".join([chunk async for chunk in body.chunks]))


def _require_ready(deployment: Deployment) -> None:
    if deployment.state is not State.READY:
        raise WrongState(state=deployment.state.value, needed=State.READY.value)
