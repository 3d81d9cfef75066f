"""The last arrow of a deploy: aliases move in one transaction, then the edges are told. Promoting and rolling back
move aliases too, and build nothing.

Every move takes the lock of `sites.py` until its commit: no edge that has seen version n can have missed an earlier
one.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vclone_core.actions.announcing import Moved, announce_change, announce_moves
from vclone_core.actions.platform import Platform
from vclone_core.actions.sites import build_site, lock_moves
from vclone_core.errors import Cancelled, NoEarlierDeployment, NotFound, PublishFailed, StaleAttempt, WrongState
from vclone_core.models import (
    Actor,
    Alias,
    AliasKind,
    Claim,
    Deployment,
    Domain,
    EdgeReceipt,
    Manifest,
    Project,
    State,
    Step,
)
from vclone_core.rules.access import require
from vclone_core.rules.lifecycle import Event, decide_state
from vclone_core.rules.manifests import decode_manifest, encode_manifest
from vclone_core.rules.names import branch_host
from vclone_core.rules.objectkeys import manifest_key
from vclone_core.rules.publishing import PastMove, Point, decide_points, decide_previous, production_points
from vclone_core.rules.sites import encode_site
from vclone_core.stores import buildlogs, events, records
from vclone_core.stores.postgres import Record, Transaction
from vclone_core.stores.redis import deployment_channel


@dataclass(frozen=True, slots=True)
class Published:
    """A deployment that just went live: its row, and every alias that now points at it."""

    deployment: Deployment
    aliases: tuple[Alias, ...]

    @property
    def version(self) -> int:
        return max((alias.version for alias in self.aliases), default=0)


async def publish(platform: Platform, claim: Claim, manifest: Manifest) -> Published:
    """Make a finished build ready and point its aliases at it: all of it, or nothing.

    Raises `StaleAttempt` when another worker took the build over, `Cancelled` when somebody called it off,
    `PublishFailed` when a host belongs to another project. After `Unavailable` it may be called again: what was
    committed without an answer is found.
    """
    started = time.monotonic()
    stored, sha256 = await _store_manifest(platform, manifest)
    async with platform.db.transaction() as tx:
        await lock_moves(tx)
        row = await _lock_held(tx, claim)
        project = await _fetch_project(tx, row["project_id"])
        if row["state"] == State.READY:
            # Committed by an earlier call that heard no answer; nobody was told of it.
            deployment = records.deployment_from(row)
            aliases = await records.list_aliases(tx, project.id, [deployment.id])
            moves = [Moved(alias, None) for alias in sorted(aliases, key=lambda alias: alias.version)]
        else:
            points = await _decide_points(platform, tx, project, records.deployment_from(row))
            deployment = await _make_ready(platform, tx, claim, points, stored, sha256, started)
            moves = await move(tx, deployment, points, reason="publish", actor_id=row["created_by"])
    await announce_moves(platform, project, moves)
    await announce_change(platform, deployment, project)
    return Published(deployment, tuple(move.alias for move in moves))


async def promote(platform: Platform, actor: Actor, deployment_id: str) -> tuple[EdgeReceipt, ...]:
    """Show a ready deployment on the project's production hosts; automatic publishing goes on from there.

    Returns what the connected edges said of it within two seconds. Raises `WrongState` when it isn't ready.
    """
    require(actor, "promote a deployment")
    deployment = await records.fetch_deployment(platform.db, actor, deployment_id)
    if deployment is None:
        raise NotFound(what="deployment")
    async with platform.db.transaction() as tx:
        await lock_moves(tx)
        project = await _fetch_project(tx, deployment.project_id)
        await tx.execute("pause_publishing", project.id, False)
        moves = await _show_in_production(platform, tx, project, deployment.id, reason="promote", actor=actor)
    return await _tell(platform, project, moves)


async def rollback(
    platform: Platform, actor: Actor, project: Project, to: str | None = None
) -> tuple[EdgeReceipt, ...]:
    """Show an earlier deployment on the project's production hosts, and pause automatic publishing.

    Without `to` it is the one that was in production before. Raises `NoEarlierDeployment` when there is none, and
    `WrongState` when it isn't ready. Returns what the connected edges said of it within two seconds.
    """
    require(actor, "roll back")
    async with platform.db.transaction() as tx:
        await lock_moves(tx)
        project = await _fetch_project(tx, project.id, team_id=actor.team_id)
        if to is None:
            to = await _find_previous(tx, project)
        await tx.execute("pause_publishing", project.id, True)
        moves = await _show_in_production(platform, tx, project, to, reason="rollback", actor=actor)
    return await _tell(platform, project, moves)


async def remove_aliases(platform: Platform, actor: Actor, project: Project) -> None:
    """Delete a project's row, its aliases and its domains in one transaction; raise `NotFound` when it is gone."""
    async with platform.db.transaction() as tx:
        await lock_moves(tx)
        if not await tx.execute("delete_project", project.id, actor.team_id):
            raise NotFound(what="project")
        gone = await tx.fetch("remove_aliases", project.id, "delete", actor.user_id)
        await tx.execute("delete_domains", project.id)
    if gone:
        await events.announce_moves(platform.redis, max(row["version"] for row in gone))


async def remove_deployment(platform: Platform, deployment_id: str) -> bool:
    """Delete a deployment's row and its own hosts, unless it is pinned, unfinished, or shown by a host of others."""
    async with platform.db.transaction() as tx:
        await lock_moves(tx)
        if await tx.fetch_one("lock_removable", deployment_id) is None:
            return False
        gone = await tx.fetch("remove_deployment_aliases", deployment_id, "retention")
        await tx.execute("delete_deployment", deployment_id)
    if gone:
        await events.announce_moves(platform.redis, max(row["version"] for row in gone))
    return True


async def retire_branch(platform: Platform, project: Project, ref: str, *, reason: str) -> bool:
    """Take a branch's host away and call off its unfinished previews; False where it had none.

    Both in one transaction: a build that is about to publish either did before it, or never does.
    """
    cancelled = decide_state(State.QUEUED, Event.CANCEL).value
    async with platform.db.transaction() as tx:
        await lock_moves(tx)
        ended = await tx.fetch("cancel_unfinished_of_ref", project.id, ref, reason, cancelled)
        gone = await tx.fetch("remove_branch_alias", project.id, ref, reason)
    if gone:
        await events.announce_moves(platform.redis, max(row["version"] for row in gone))
    for row in ended:
        deployment = records.deployment_from(row)
        if deployment.state is State.CANCELLED:
            await announce_change(platform, deployment, project)
        else:
            await platform.redis.publish(deployment_channel(deployment.id), "cancel")
    return bool(gone)


async def show_on_branch(platform: Platform, project: Project, deployment_id: str) -> None:
    """Point the host of a ready deployment's branch at it, where that host is gone."""
    async with platform.db.transaction() as tx:
        await lock_moves(tx)
        deployment = await records.fetch_deployment_by_id(tx, deployment_id)
        if deployment is None or deployment.state is not State.READY or deployment.source.ref is None:
            return
        standing = await _fetch_standing(tx, project, deployment.source.ref)
        if standing["branch_sequence"] is not None:
            return
        ref = deployment.source.ref
        point = Point(branch_host(project.name, ref, platform.settings.base_domain), AliasKind.BRANCH, ref)
        moves = await move(tx, deployment, [point], reason="reopen", actor_id=None)
    await announce_moves(platform, project, moves)


async def show_domain(
    platform: Platform, tx: Transaction, domain: Domain, *, actor_id: str | None
) -> tuple[list[Moved], int]:
    """Make a domain show what it is to show: production, its branch, or nothing while it isn't held.

    Within `lock_moves`. Returns the alias that moved, and the version of that or of its removal (0: neither).
    """
    project = await _fetch_project(tx, domain.project_id)
    standing = await _fetch_standing(tx, project, domain.branch)
    shown = standing["branch_id"] if domain.branch else standing["production_id"]
    deployment = await records.fetch_deployment_by_id(tx, shown) if domain.is_held and shown else None
    if deployment is None:
        gone = await tx.fetch_one("remove_alias", domain.host, project.id, "domain", actor_id)
        return [], 0 if gone is None else gone["version"]
    point = Point(domain.host, AliasKind.CUSTOM, domain.branch)
    moves = await move(tx, deployment, [point], reason="domain", actor_id=actor_id)
    return moves, moves[-1].alias.version


async def wait_receipts(platform: Platform, version: int) -> tuple[EdgeReceipt, ...]:
    """Return what the connected edges say of `version` within two seconds; () for no version."""
    edges = await events.connected_edges(platform.redis) if version else ()
    return await events.wait_receipts(platform.redis, version, edges)


async def _tell(platform: Platform, project: Project, moves: Sequence[Moved]) -> tuple[EdgeReceipt, ...]:
    await announce_moves(platform, project, moves)
    return await wait_receipts(platform, max((move.alias.version for move in moves), default=0))


async def _lock_held(tx: Transaction, claim: Claim) -> Record:
    """Return the row of a claim's deployment, locked: `building`, or `ready` through this very claim."""
    row = await tx.fetch_one("lock_deployment", claim.deployment.id)
    if row is None or (row["attempt"], row["worker_id"]) != (claim.attempt, claim.worker_id):
        raise StaleAttempt()
    if row["state"] not in (State.BUILDING, State.READY):
        raise StaleAttempt()
    if row["state"] == State.BUILDING and row["cancel_requested_at"] is not None:
        raise Cancelled()
    return row


async def _make_ready(
    platform: Platform,
    tx: Transaction,
    claim: Claim,
    points: Sequence[Point],
    manifest: Manifest,
    sha256: str,
    started_s: float,
) -> Deployment:
    lines = [
        buildlogs.platform_line(Step.PUBLISH, f"Live at {platform.settings.site_url(point.host)}") for point in points
    ]
    await buildlogs.append(tx, claim.fence, lines, cap_bytes=0)
    row = await tx.fetch_one(
        "publish_deployment",
        *claim.fence,
        decide_state(State.BUILDING, Event.PUBLISH).value,
        manifest.framework,
        len(manifest.files),
        sum(entry.size for entry in manifest.files.values()),
        sha256,
        Step.PUBLISH.value,
        round(time.monotonic() - started_s, 3),
    )
    if row is None:
        raise StaleAttempt()
    return records.deployment_from(row)


async def _store_manifest(platform: Platform, manifest: Manifest) -> tuple[Manifest, str]:
    """Store the manifest, or take the one that is there: one attempt that died after this point has written it.

    It must never be replaced: a worker that was given up and wakes late could do that to a live deployment. What is
    there is as good, since a manifest is stored after every blob it names.
    """
    key = manifest_key(manifest.project_id, manifest.deployment_id)
    data = encode_manifest(manifest)
    digest = hashlib.sha256(data).hexdigest()
    if not await platform.objects.put(key, data, size=len(data), sha256=digest, content_type="application/json"):
        async with platform.objects.open(key) as body:
            data = b"".join([chunk async for chunk in body.chunks])
        manifest = decode_manifest(data)
    return manifest, hashlib.sha256(data).hexdigest()


async def _fetch_project(tx: Transaction, project_id: str, *, team_id: str | None = None) -> Project:
    row = await tx.fetch_one("fetch_project_by_id", project_id)
    if row is None or (team_id is not None and row["team_id"] != team_id):
        raise NotFound(what="project")
    return records.project_from(row)


async def _fetch_standing(tx: Transaction, project: Project, branch: str | None) -> Record:
    row = await tx.fetch_one("fetch_standing", project.id, branch)
    assert row is not None
    return row


async def _decide_points(
    platform: Platform, tx: Transaction, project: Project, deployment: Deployment
) -> tuple[Point, ...]:
    branch = deployment.source.ref or project.settings.production_branch
    standing = await _fetch_standing(tx, project, branch)
    return decide_points(
        project,
        deployment,
        base_domain=platform.settings.base_domain,
        production_sequence=standing["production_sequence"],
        branch_sequence=standing["branch_sequence"],
        custom_hosts=standing["custom_hosts"],
        branch_hosts=standing["branch_hosts"],
    )


async def _find_previous(tx: Transaction, project: Project) -> str:
    standing = await _fetch_standing(tx, project, None)
    rows = await tx.fetch("list_production_history", project.id)
    history = [PastMove(row["deployment_id"], row["reason"]) for row in rows]
    current = standing["production_id"]
    previous = None if current is None else decide_previous(history, current)
    if previous is None:
        raise NoEarlierDeployment()
    return previous


async def _show_in_production(
    platform: Platform, tx: Transaction, project: Project, deployment_id: str, *, reason: str, actor: Actor
) -> list[Moved]:
    deployment = await records.fetch_deployment_by_id(tx, deployment_id)
    if deployment is None or deployment.project_id != project.id:
        raise NotFound(what="deployment")
    if deployment.state is not State.READY:
        raise WrongState(state=deployment.state.value, needed=State.READY.value)
    standing = await _fetch_standing(tx, project, None)
    if standing["production_id"] == deployment.id:
        return []
    points = production_points(
        project, base_domain=platform.settings.base_domain, custom_hosts=standing["custom_hosts"]
    )
    return await move(tx, deployment, points, reason=reason, actor_id=actor.user_id)


async def move(
    tx: Transaction, deployment: Deployment, points: Sequence[Point], *, reason: str, actor_id: str | None
) -> list[Moved]:
    """Point hosts at a deployment; within `lock_moves`. Raises `PublishFailed` for a host of another project."""
    policy = await records.fetch_policy(tx, deployment.project_id)
    moves = []
    for point in points:
        alias = Alias(point.host, deployment.project_id, deployment.id, point.kind, version=0)
        row = await tx.fetch_one(
            "move_alias",
            alias.host,
            alias.project_id,
            alias.deployment_id,
            alias.kind.value,
            point.branch,
            encode_site(build_site(alias, point.branch, policy)),
            reason,
            actor_id,
        )
        if row is None:
            raise PublishFailed(what=f"the host {point.host} belongs to another project", hint="Rename one of the two.")
        moves.append(Moved(replace(alias, version=row["version"]), row["previous_deployment_id"]))
    return moves
