"""Deployments: asking for one, calling it off, looking at it; what makes one live is in `publishing`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from vclone_core.actions.announcing import announce_change
from vclone_core.actions.newids import new_id
from vclone_core.actions.platform import Platform
from vclone_core.actions.projects import change_settings, missing_of
from vclone_core.actions.publishing import promote, publish, rollback, wait_receipts
from vclone_core.actions.sites import resolve_host
from vclone_core.errors import EmptySource, MissingBlobs, NotFound
from vclone_core.models import (
    Actor,
    Alias,
    BuildLimits,
    Deployment,
    LogLine,
    Project,
    QueuePlace,
    Source,
    SourceFile,
    State,
    Target,
    Trigger,
)
from vclone_core.rules.access import require
from vclone_core.rules.lifecycle import FINAL
from vclone_core.rules.publishing import decide_target
from vclone_core.rules.skips import find_marker
from vclone_core.rules.sources import check_files
from vclone_core.stores import buildlogs, queue, records
from vclone_core.stores.postgres import Transaction
from vclone_core.stores.redis import deployment_channel

__all__ = [
    "cancel",
    "find_deployment",
    "find_place",
    "list_aliases",
    "list_deployments",
    "promote",
    "publish",
    "read_log",
    "redeploy",
    "request_deployment",
    "resolve_host",
    "rollback",
    "wait_receipts",
    "watch",
]


async def request_deployment(
    platform: Platform,
    actor: Actor,
    project: Project,
    source: Source,
    *,
    target: Target | None = None,
    files: Sequence[SourceFile] | None = None,
    overrides: Mapping[str, Any] | None = None,
    trigger: Trigger = Trigger.REQUEST,
    beside: Callable[[Transaction, Deployment], Awaitable[None]] | None = None,
) -> Deployment:
    """Queue a deployment of `source` and wake a worker for it.

    `files` lists an upload's or a prebuilt output's files; their blobs must be stored already, or `MissingBlobs` is
    raised. `overrides` are settings for this deployment alone. A push or the call of a hook takes the place of the
    older ones of its branch that wait or are being built; a push whose commit message says so is `skipped` at once.
    `beside` writes what is to be committed together with it, or raises.
    """
    require(actor, "deploy")
    change_settings(project.settings, overrides or {})
    if source.kind != "git":
        await _check_files(platform, project, files or ())

    async def keep_files(tx: Transaction, deployment: Deployment) -> None:
        if source.kind != "git":
            await records.insert_source_files(tx, deployment.id, files or ())
        if beside is not None:
            await beside(tx, deployment)

    return await _insert(
        platform, actor, project, source, keep_files, target=target, overrides=overrides or {}, trigger=trigger
    )


async def redeploy(
    platform: Platform, actor: Actor, deployment_id: str, *, overrides: Mapping[str, Any] | None = None
) -> Deployment:
    """Queue the same source, for the same target, as a new deployment.

    `overrides` are settings for the new one alone, beside those that the old one had.
    """
    require(actor, "deploy")
    row = await platform.db.fetch_one("fetch_deployment", actor.team_id, deployment_id, actor.projects)
    if row is None:
        raise NotFound(what="deployment")
    old = records.deployment_from(row)
    changed = {**row["overrides"], **(overrides or {})}
    project = await _fetch_project(platform, actor, old.project_id)
    change_settings(project.settings, changed)
    # They count as needed from now on, also when the old deployment goes the next moment.
    listed = await records.fetch_source_files(platform.db, old.id) or ()
    if listed:
        await _check_files(platform, project, listed)

    async def copy_files(tx: Transaction, new: Deployment) -> None:
        if old.source.kind != "git" and not await tx.execute("copy_source_files", old.id, new.id):
            raise NotFound(what="list of the uploaded files")

    return await _insert(
        platform,
        actor,
        project,
        old.source,
        copy_files,
        target=old.target,
        overrides=changed,
        trigger=Trigger.REDEPLOY,
    )


async def cancel(platform: Platform, actor: Actor, deployment_id: str) -> Deployment:
    """Call a deployment off: a queued one is cancelled when this returns, a building one within seconds.

    Raises `WrongState` when it is final already.
    """
    require(actor, "cancel a deployment")
    found = await find_deployment(platform, actor, deployment_id)
    deployment = await queue.cancel(platform.db, found.id)
    if deployment.state in FINAL:
        await announce_change(platform, deployment)
    else:
        await platform.redis.publish(deployment_channel(deployment.id), "cancel")
    return deployment


async def find_deployment(platform: Platform, actor: Actor, id_or_host: str) -> Deployment:
    """Return a deployment of the actor's team by its id or by a host that points at it; raise `NotFound` otherwise."""
    require(actor, "see a deployment")
    deployment = await records.fetch_deployment(platform.db, actor, id_or_host)
    if deployment is None:
        raise NotFound(what="deployment")
    return deployment


async def list_deployments(
    platform: Platform,
    actor: Actor,
    *,
    project: Project | None = None,
    state: State | None = None,
    limit: int = 20,
    before: str | None = None,
) -> list[Deployment]:
    """Return deployments of the actor's team, newest first; `before` is the last id of the page before."""
    require(actor, "see a deployment")
    rows = await platform.db.fetch(
        "list_deployments",
        actor.team_id,
        None if project is None else project.id,
        None if state is None else state.value,
        before,
        limit,
        actor.projects,
    )
    return [records.deployment_from(row) for row in rows]


async def list_aliases(
    platform: Platform, actor: Actor, project: Project, deployment_ids: Sequence[str] | None = None
) -> list[Alias]:
    """Return a project's aliases by host: all of them, or those that point at one of `deployment_ids`."""
    require(actor, "see a project")
    return await records.list_aliases(platform.db, project.id, deployment_ids)


async def find_place(platform: Platform, deployment: Deployment) -> QueuePlace | None:
    """Return where a queued deployment stands; None when it isn't queued."""
    if deployment.state is not State.QUEUED:
        return None
    return await queue.fetch_place(platform.db, deployment.id, project_slots=platform.settings.project_slots)


async def read_log(
    platform: Platform, actor: Actor, deployment_id: str, *, after: int = 0, limit: int = buildlogs.PAGE
) -> list[LogLine]:
    """Return at most `limit` lines of a deployment's log with a number above `after`."""
    deployment = await find_deployment(platform, actor, deployment_id)
    return await buildlogs.read(platform.db, deployment.id, after, limit)


async def watch(
    platform: Platform, actor: Actor, deployment_id: str, *, after: int = 0
) -> AsyncIterator[LogLine | Deployment]:
    """Yield the deployment as it is, each line of its log above `after`, and the deployment again on each change.

    Ends with the final deployment, behind its last line.
    """
    deployment = await find_deployment(platform, actor, deployment_id)
    yield deployment
    async with platform.redis.subscribe(deployment_channel(deployment.id)) as wakes:
        while True:
            # The deployment before its lines: behind a final state there is no line that was not read.
            current = await records.fetch_deployment_by_id(platform.db, deployment.id) or deployment
            lines = await buildlogs.read(platform.db, deployment.id, after)
            for line in lines:
                after = line.number
                yield line
            if len(lines) == buildlogs.PAGE:
                continue
            if current != deployment:
                deployment = current
                yield deployment
            if deployment.state in FINAL:
                return
            await wakes.wait(buildlogs.POLL_S)


async def _insert(
    platform: Platform,
    actor: Actor,
    project: Project,
    source: Source,
    keep_files: Callable[[Transaction, Deployment], Awaitable[None]],
    *,
    target: Target | None,
    overrides: Mapping[str, Any],
    trigger: Trigger,
) -> Deployment:
    async with platform.db.transaction() as tx:
        row = await tx.fetch_one("take_sequence", project.id)
        if row is None:
            raise NotFound(what="project")
        settings = records.settings_from(row["settings"])
        deployment = await records.insert_deployment(
            tx,
            deployment_id=new_id("deployment"),
            project_id=project.id,
            target=decide_target(
                source,
                asked=target,
                production_branch=settings.production_branch,
                has_production=row["has_production"],
            ),
            source=source,
            overrides=overrides,
            sequence=row["last_sequence"],
            created_by=actor.user_id or None,
            trigger=trigger,
        )
        await keep_files(tx, deployment)
        if trigger is Trigger.PUSH and (reason := find_marker(source.message)):
            deployment = await queue.skip(tx, deployment, reason=reason)
    # After the commit, or a worker could look for a row that isn't there yet.
    if deployment.state is State.QUEUED:
        await platform.redis.ring(deployment.id, project.id, high=deployment.target is Target.PRODUCTION)
        if trigger in _SUPERSEDING and source.kind == "git":
            await _supersede(platform, project, deployment, production_branch=settings.production_branch)
    await announce_change(platform, deployment, project)
    return deployment


# A person who asks for a branch twice gets it twice.
_SUPERSEDING: Final = frozenset({Trigger.PUSH, Trigger.HOOK})


async def _supersede(platform: Platform, project: Project, newer: Deployment, *, production_branch: str) -> None:
    """Call off the older ones of a branch. A claim may wait for the locks of the newer one's transaction: after it."""
    for older in await queue.cancel_superseded(platform.db, newer, production_branch=production_branch):
        if older.state in FINAL:
            await announce_change(platform, older, project)
        else:
            await platform.redis.publish(deployment_channel(older.id), "cancel")


async def _check_files(platform: Platform, project: Project, files: Sequence[SourceFile]) -> None:
    if not files:
        raise EmptySource()
    check_files(files, BuildLimits())
    missing = await missing_of(platform, project.id, [file.sha256 for file in files])
    if missing:
        path = next(file.path for file in files if file.sha256 == missing[0])
        raise MissingBlobs(count=len(missing), path=path)


async def _fetch_project(platform: Platform, actor: Actor, project_id: str) -> Project:
    project = await records.fetch_project(platform.db, actor, project_id)
    if project is None:
        raise NotFound(what="project")
    return project
