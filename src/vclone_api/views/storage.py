"""What is kept and what goes: retention, pins and collection; and what differs between two deployments."""

from __future__ import annotations

from vclone_core.actions import comparing, projects, retention
from vclone_core.rules.diffs import sum_changes

from ..bodies import Collection, DiffQuery, RetentionChange
from ..guard import Call
from ..paging import slice_page
from .described import describe, describe_all
from .shapes import CollectedShape, DeploymentPath, DeploymentShape, Diff, RetentionShape, shape_retention


async def show_retention(call: Call, project: str) -> RetentionShape:
    """How long a project's deployments are kept, and how many."""
    found = await projects.find_project(call.platform, call.actor, project)
    return shape_retention(await retention.show_retention(call.platform, call.actor, found))


async def change_retention(call: Call, project: str) -> RetentionShape:
    """Change what is given of a project's retention."""
    body: RetentionChange = call.body
    found = await projects.find_project(call.platform, call.actor, project)
    changes = body.model_dump(exclude_none=True)
    return shape_retention(await retention.change_retention(call.platform, call.actor, found, changes))


async def collect_storage(call: Call, project: str) -> CollectedShape:
    """Remove deployments that the rules let go, and free the storage that nothing needs any more."""
    body: Collection = call.body
    found = await projects.find_project(call.platform, call.actor, project)
    done = await retention.collect(call.platform, call.actor, found, is_dry_run=body.dry_run)
    return {
        "project": done.project,
        "deployments": [{"id": one.id, "reason": one.reason} for one in done.deployments],
        "objects": done.objects,
        "bytes": done.bytes,
        "problem": done.problem,
        "is_dry_run": body.dry_run,
    }


async def pin_deployment(call: Call, deployment: str) -> DeploymentShape:
    """Keep a deployment whatever its project's retention says."""
    return await describe(call, await retention.pin(call.platform, call.actor, deployment, is_pinned=True))


async def unpin_deployment(call: Call, deployment: str) -> DeploymentShape:
    """Let retention decide about a deployment again."""
    return await describe(call, await retention.pin(call.platform, call.actor, deployment, is_pinned=False))


async def show_diff(call: Call, deployment: str) -> Diff:
    """What another deployment serves otherwise than this one: files added, changed and removed."""
    query: DiffQuery = call.query
    changes = await comparing.diff(call.platform, call.actor, deployment, query.to)
    counts = sum_changes(changes)
    page, cursor = slice_page(call, changes, key=lambda change: change.path)
    return {
        "items": [
            {
                "path": one.path,
                "kind": one.kind,
                "size_before": one.size_before,
                "size_after": one.size_after,
                "bytes": one.bytes,
            }
            for one in page
        ],
        "next_cursor": cursor,
        "added": counts["added"],
        "changed": counts["changed"],
        "removed": counts["removed"],
        "bytes": sum(one.bytes for one in changes),
    }


async def show_path(call: Call, deployment: str) -> DeploymentPath:
    """The ready deployments from this one to another, in the order they were asked for."""
    query: DiffQuery = call.query
    found = await comparing.between(call.platform, call.actor, deployment, query.to)
    page, cursor = slice_page(call, found, key=lambda one: one.sequence)
    return {"items": await describe_all(call, page), "next_cursor": cursor}
