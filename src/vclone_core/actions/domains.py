"""Custom domains of projects: claimed, listed, redirected, removed. `domain_checks.py` proves and watches them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlsplit

from vclone_core.actions.announcing import Moved, announce_moves
from vclone_core.actions.newids import new_id
from vclone_core.actions.platform import Platform
from vclone_core.actions.publishing import show_domain
from vclone_core.actions.sites import lock_moves
from vclone_core.errors import Conflict, Duplicate, FieldProblem, InvalidFields, Limited, NotFound
from vclone_core.models import Actor, AliasKind, DnsRecord, Domain, DomainState, Project
from vclone_core.rules.access import require
from vclone_core.rules.clones import check_git_ref
from vclone_core.rules.domains import list_records, parse_addresses, parse_domain, refuse_domain, refuse_redirect
from vclone_core.settings import Settings
from vclone_core.stores import events, records
from vclone_core.stores.postgres import Record, Transaction
from vclone_core.stores.suffixes import find_apex

DOMAINS_LIMIT: Final = 50
TOKEN_BYTES: Final = 16  # 128 bits: nobody guesses the record that another claim needs


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a host shows. `redirect_to`: it sends visitors there instead."""

    host: str
    kind: AliasKind
    project_id: str
    project_name: str
    deployment_id: str
    version: int
    redirect_to: str | None


@dataclass(slots=True)
class Shifts:
    """What a transaction did to aliases, told to edges and plugins once it is committed."""

    platform: Platform
    moves: list[Moved] = field(default_factory=list)
    version: int = 0

    async def show(self, tx: Transaction, domain: Domain, actor_id: str | None) -> None:
        """Have a domain, and those that redirect to it, show what they are to show now."""
        rows = await tx.fetch("list_redirecting", domain.project_id, domain.host)
        for one in (domain, *(records.domain_from(row) for row in rows)):
            moves, version = await show_domain(self.platform, tx, one, actor_id=actor_id)
            self.moves += moves
            self.version = max(self.version, version)

    async def tell(self) -> None:
        """Tell of them; after the commit."""
        platform = self.platform
        for project_id in dict.fromkeys(move.alias.project_id for move in self.moves):
            project = await records.fetch_project_by_id(platform.db, project_id)
            if project is not None:
                moves = [move for move in self.moves if move.alias.project_id == project_id]
                await announce_moves(platform, project, moves)
        if self.version:
            await events.announce_moves(platform.redis, self.version)


async def add_domain(
    platform: Platform,
    actor: Actor,
    project: Project,
    text: str,
    *,
    branch: str | None = None,
    redirect_to: str | None = None,
) -> Domain:
    """Claim a host name for a project and return the claim: `pending` until its TXT record is found.

    A name that another project holds can be claimed all the same: whoever proves it last has it. Raises
    `InvalidFields` for a name that nobody can claim, `Conflict` where the project has it already.
    """
    require(actor, "change domains")
    host = parse_domain(text)
    settings = platform.settings
    refuse_domain(host, base_domain=settings.base_domain, own_hosts=own_hosts(settings), apex=await find_apex(host))
    check_choice(branch, redirect_to)
    domain_id = new_id("domain")
    try:
        async with platform.db.transaction() as tx:
            await lock_moves(tx)
            siblings = await tx.fetch("list_siblings", project.id)
            if len(siblings) >= DOMAINS_LIMIT:
                raise Limited(what=f"a project has at most {DOMAINS_LIMIT} domains")
            target = _find_target(host, redirect_to, siblings)
            await tx.execute("insert_domain", domain_id, project.id, host, make_token(), branch, target)
    except Duplicate:
        raise Conflict(what=f"{project.name} has the domain {host} already") from None
    return await find_domain(platform, actor, domain_id)


async def list_domains(
    platform: Platform,
    actor: Actor,
    *,
    project: Project | None = None,
    limit: int = DOMAINS_LIMIT,
    before: str | None = None,
) -> list[Domain]:
    """Return the claims of a project, or of all that the actor sees; newest first, `before` as in other lists."""
    require(actor, "see domains")
    rows = await platform.db.fetch(
        "list_domains", actor.team_id, None if project is None else project.id, actor.projects, before, limit
    )
    return [records.domain_from(row) for row in rows]


async def find_domain(platform: Platform, actor: Actor, id_or_host: str) -> Domain:
    """Return a claim of the actor's team by its id or host; raise `NotFound` otherwise."""
    require(actor, "see domains")
    row = await platform.db.fetch_one("fetch_domain", actor.team_id, _spell(id_or_host), actor.projects)
    if row is None:
        raise NotFound(what="domain")
    return records.domain_from(row)


async def change_domain(
    platform: Platform, actor: Actor, domain: Domain, *, redirect_to: str | None, branch: str | None
) -> Domain:
    """Have a domain redirect (308, with path and query) to another of its project, or show a branch, or production."""
    require(actor, "change domains")
    check_choice(branch, redirect_to)
    shifts = Shifts(platform)
    async with platform.db.transaction() as tx:
        await lock_moves(tx)
        row = await tx.fetch_one("lock_domain", domain.id)
        if row is None:
            raise NotFound(what="domain")
        siblings = await tx.fetch("list_siblings", domain.project_id)
        target = _find_target(domain.host, redirect_to, siblings)
        await tx.execute("change_domain", domain.id, target, branch)
        changed = replace(records.domain_from(row), redirect_to=target, branch=branch)
        await shifts.show(tx, changed, actor.user_id)
    await shifts.tell()
    return await find_domain(platform, actor, domain.id)


async def remove_domain(platform: Platform, actor: Actor, domain: Domain) -> int:
    """End a claim: its host shows nothing at once, and its token proves nothing any more.

    Returns the version of the move that took the host away, 0 where it showed nothing.
    """
    require(actor, "change domains")
    shifts = Shifts(platform)
    async with platform.db.transaction() as tx:
        await lock_moves(tx)
        row = await tx.fetch_one("lock_domain", domain.id)
        if row is None:
            raise NotFound(what="domain")
        found = records.domain_from(row)
        await tx.execute("delete_domain", domain.id)
        if found.is_held:
            await shifts.show(tx, replace(found, state=DomainState.LAPSED), actor.user_id)
        await tx.execute("forget_redirects", domain.project_id, domain.host)
    await shifts.tell()
    return shifts.version


async def resolve_host(platform: Platform, actor: Actor, host: str) -> Resolved:
    """Return what a host of the actor's team shows; raise `NotFound` otherwise."""
    require(actor, "see domains")
    row = await platform.db.fetch_one("resolve_host", actor.team_id, _spell(host), actor.projects)
    if row is None:
        raise NotFound(what="host")
    return Resolved(**{**row, "kind": AliasKind(row["kind"])})


async def records_of(platform: Platform, domain: Domain) -> tuple[DnsRecord, ...]:
    """Return the DNS records that the owner of a domain sets."""
    settings = platform.settings
    return list_records(
        domain.host,
        domain.token,
        apex=await find_apex(domain.host),
        target=target_of(settings),
        addresses=parse_addresses(settings.domain_addresses),
    )


def target_of(settings: Settings) -> str:
    """Return the host that domains are to be a CNAME of."""
    return settings.domain_target or settings.base_domain


def own_hosts(settings: Settings) -> frozenset[str]:
    """Return the platform's own names besides those below its base domain."""
    return frozenset({target_of(settings), urlsplit(settings.api_url).hostname or ""})


def make_token() -> str:
    """Return what proves a claim, for one claim."""
    return secrets.token_hex(TOKEN_BYTES)


def _spell(id_or_host: str) -> str:
    try:
        return parse_domain(id_or_host)
    except InvalidFields:
        return id_or_host  # an id, or nothing that there can be


def check_choice(branch: str | None, redirect_to: str | None) -> None:
    """Raise `InvalidFields` for what a domain can't show: a branch that is none, or a branch and a redirect."""
    if branch is not None and redirect_to is not None:
        raise InvalidFields((FieldProblem("branch", "and redirect_to can't both be given"),))
    if branch is not None and (problem := check_git_ref(branch)):
        raise InvalidFields((FieldProblem("branch", problem),))


def _find_target(host: str, text: str | None, siblings: Sequence[Record]) -> str | None:
    if text is None:
        return None
    try:
        target = parse_domain(text)
    except InvalidFields as error:
        problem: str | None = error.problems[0].message
    else:
        problem = refuse_redirect(host, target, redirects={row["host"]: row["redirect_to"] for row in siblings})
    if problem:
        raise InvalidFields((FieldProblem("redirect_to", problem),))
    return target
