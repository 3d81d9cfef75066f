"""Hosts that a team points at a deployment itself, besides those that move by themselves.

A chosen host below the base domain is an alias of the kind `branch` without a branch: it is protected and hidden from
search engines as a preview is, keeps its deployment from being removed, and no build moves it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from vclone_core.actions.announcing import announce_moves
from vclone_core.actions.domains import own_hosts
from vclone_core.actions.platform import Platform
from vclone_core.actions.publishing import move, wait_receipts
from vclone_core.actions.sites import lock_moves
from vclone_core.errors import Conflict, FieldProblem, InvalidFields, Limited, NotFound, WrongState
from vclone_core.models import Actor, Alias, AliasKind, Deployment, EdgeReceipt, State
from vclone_core.rules.access import require
from vclone_core.rules.aliases import is_below, parse_alias, read_label
from vclone_core.rules.publishing import Point
from vclone_core.stores import events, records
from vclone_core.stores.postgres import Transaction

ALIASES_LIMIT: Final = 100


async def set_alias(
    platform: Platform, actor: Actor, host: str, id_or_host: str
) -> tuple[Alias, tuple[EdgeReceipt, ...]]:
    """Point a host at a ready deployment: a free one below the base domain, or a proved domain of its project.

    The deployment is named by its id or by a host that shows it. A host that shows that deployment already stays as
    it is. Returns the alias, and what the connected edges said of the move within two seconds. Raises `InvalidFields`
    for a host that nobody can choose, `Conflict` for one that is taken, `WrongState` for a deployment that isn't ready.
    """
    require(actor, "change aliases")
    deployment = await records.fetch_deployment(platform.db, actor, id_or_host)
    if deployment is None:
        raise NotFound(what="deployment")
    host = parse_alias(host, platform.settings.base_domain)
    async with platform.db.transaction() as tx:
        await lock_moves(tx)
        found = await records.fetch_deployment_by_id(tx, deployment.id)
        if found is None or found.state is not State.READY:
            raise WrongState(state=(found or deployment).state.value, needed=State.READY.value)
        project = await records.fetch_project_by_id(tx, found.project_id)
        if project is None:
            raise NotFound(what="project")
        point = await _find_point(platform, tx, found, host)
        row = await tx.fetch_one("fetch_alias", host)
        if row is not None and row["deployment_id"] == found.id:
            return records.alias_from(row), ()
        moves = await move(tx, found, [point], reason="alias", actor_id=actor.user_id)
    await announce_moves(platform, project, moves)
    (moved,) = moves
    return moved.alias, await wait_receipts(platform, moved.alias.version)


async def remove_alias(platform: Platform, actor: Actor, host: str) -> Alias:
    """Take a chosen host away: it answers nothing from now on. Returns what it was.

    Raises `NotFound` for a host that shows nothing of the actor's team, `Conflict` for one that nobody chose.
    """
    require(actor, "change aliases")
    host = parse_alias(host, platform.settings.base_domain)
    async with platform.db.transaction() as tx:
        await lock_moves(tx)
        row = await tx.fetch_one("resolve_host", actor.team_id, host, actor.projects)
        if row is None:
            raise NotFound(what="alias")
        alias = await tx.fetch_one("fetch_alias", host)
        assert alias is not None
        if (alias["kind"], alias["branch"]) != (AliasKind.BRANCH, None):
            hint = "`vclone domains rm` removes a domain." if alias["kind"] == AliasKind.CUSTOM else ""
            raise Conflict(what=f"{host} was not set by `vclone alias set`: it comes with its project", hint=hint)
        gone = await tx.fetch_one("remove_alias", host, row["project_id"], "alias", actor.user_id)
        assert gone is not None
    await events.announce_moves(platform.redis, gone["version"])
    return replace(records.alias_from(alias), version=gone["version"])


async def _find_point(platform: Platform, tx: Transaction, deployment: Deployment, host: str) -> Point:
    """Return how `host` may show a deployment; raise where it may not."""
    settings = platform.settings
    if not is_below(host, settings.base_domain):
        return await _find_domain(tx, deployment, host)
    label = read_label(host, base_domain=settings.base_domain, own_hosts=own_hosts(settings))
    taken = Conflict(what=f"{host} is taken", hint="Choose another name.")
    if await tx.fetch_one("fetch_project_named", label) is not None:
        raise taken
    row = await tx.fetch_one("fetch_alias", host)
    if row is None:
        count = await tx.fetch_one("count_chosen_aliases", deployment.project_id)
        if count is not None and count["count"] >= ALIASES_LIMIT:
            raise Limited(what=f"a project has at most {ALIASES_LIMIT} aliases of its own")
    elif (row["project_id"], row["kind"], row["branch"]) != (deployment.project_id, AliasKind.BRANCH, None):
        raise taken
    return Point(host, AliasKind.BRANCH)


async def _find_domain(tx: Transaction, deployment: Deployment, host: str) -> Point:
    row = await tx.fetch_one("fetch_claim", deployment.project_id, host)
    if row is None:
        problem = "is no domain of the deployment's project: `vclone domains add` claims it"
        raise InvalidFields((FieldProblem("host", problem),))
    domain = records.domain_from(row)
    if not domain.is_held:
        raise Conflict(what=f"the domain {host} is not proved yet", hint=f"`vclone domains inspect {host}` says how.")
    if domain.redirect_to is not None:
        raise Conflict(what=f"{host} redirects to {domain.redirect_to}", hint="Point that host at the deployment.")
    return Point(host, AliasKind.CUSTOM, domain.branch)
