"""Teams and their members. A change of role or of projects holds from the next request on."""

from __future__ import annotations

from collections.abc import Sequence

from vclone_core.actions.newids import new_id
from vclone_core.actions.platform import Platform
from vclone_core.actions.protection import end_passes_of_members
from vclone_core.errors import (
    Conflict,
    Duplicate,
    FieldProblem,
    Forbidden,
    InvalidFields,
    LastOwner,
    NameTaken,
    NotFound,
)
from vclone_core.models import Actor, Membership, Team, User
from vclone_core.rules.access import ROLES, may_give, require
from vclone_core.rules.names import parse_team_slug, slug_of
from vclone_core.stores import events, records
from vclone_core.stores.postgres import Queries, Record


async def list_teams(platform: Platform, actor: Actor) -> list[tuple[Team, str]]:
    """Return the teams of the actor's user with their role in each, their own first.

    A token with scopes is of one team, and sees that one.
    """
    require(actor, "see one's account")
    rows = await platform.db.fetch("list_teams", actor.user_id)
    return [(records.team_from(row), row["role"]) for row in rows if actor.scopes is None or row["id"] == actor.team_id]


async def create_team(platform: Platform, actor: Actor, *, name: str, slug: str | None = None) -> Team:
    """Make a team whose owner is the actor's user; raise `NameTaken` when the slug is another team's."""
    require(actor, "create a team")
    slug = parse_team_slug(slug_of(name) if slug is None else slug)
    team_id = new_id("team")
    try:
        async with platform.db.transaction() as tx:
            await tx.execute("insert_team", team_id, slug, name, False)
            await tx.execute("insert_member", team_id, actor.user_id, "owner")
    except Duplicate as error:
        raise NameTaken(name=slug) from error
    return Team(team_id, slug, name, is_personal=False)


async def find_team(platform: Platform, actor: Actor) -> Team:
    """Return the team the actor stands in."""
    row = await platform.db.fetch_one("fetch_team", actor.team_id)
    if row is None:
        raise NotFound(what="team")
    return records.team_from(row)


async def change_team(platform: Platform, actor: Actor, *, name: str | None, slug: str | None) -> Team:
    """Rename the actor's team; raise `NameTaken` when the slug is another team's."""
    require(actor, "change the team")
    team = await find_team(platform, actor)
    wanted = team.slug if slug is None else parse_team_slug(slug)
    try:
        row = await platform.db.fetch_one("update_team", team.id, team.name if name is None else name, wanted)
    except Duplicate as error:
        raise NameTaken(name=wanted) from error
    if row is None:
        raise NotFound(what="team")
    return records.team_from(row)


async def delete_team(platform: Platform, actor: Actor) -> str | None:
    """Delete the actor's team: its tokens and invitations end. `Conflict` if it has projects, or is personal.

    Returns the id of the team its owner is left with, where the audit log tells of it: nobody reads the deleted one's.
    """
    require(actor, "delete the team")
    async with platform.db.transaction() as tx:
        team = await _lock_team(tx, actor)
        if team["is_personal"]:
            raise Conflict(what="a personal team stays as long as its user")
        projects = await tx.fetch_one("count_projects", actor.team_id)
        if projects is not None and projects["count"]:
            raise Conflict(what=f"the team still has {projects['count']} project(s)", hint="Delete them first.")
        await tx.execute("revoke_tokens_of_team", actor.team_id)
        await tx.execute("revoke_invitations_of_team", actor.team_id)
        await tx.execute("forget_team_choice", actor.team_id, None)
        await tx.execute("delete_members", actor.team_id)
        await tx.execute("delete_team", actor.team_id)
        left = await tx.fetch_one("list_teams", actor.user_id)
    return None if left is None else str(left["id"])


async def list_members(platform: Platform, actor: Actor) -> list[Membership]:
    """Return the members of the actor's team, owners first."""
    require(actor, "see the team")
    team = await find_team(platform, actor)
    return [_membership_from(row, team) for row in await platform.db.fetch("list_members", actor.team_id, None)]


async def change_member(
    platform: Platform,
    actor: Actor,
    user_id: str,
    *,
    role: str | None = None,
    projects: Sequence[str] | None = None,
    sees_all: bool = False,
) -> Membership:
    """Give a member another role, or restrict them to `projects` (names or ids); `sees_all` lifts that again.

    Raises `LastOwner`, `Forbidden` for a role above the actor's own, `NotFound` for a member or a project that isn't
    the team's.
    """
    require(actor, "change the team")
    if role is not None and role not in ROLES:
        raise InvalidFields((FieldProblem("role", f"is none of {', '.join(ROLES)}"),))
    async with platform.db.transaction() as tx:
        await _lock_team(tx, actor)
        before = await tx.fetch_one("list_members", actor.team_id, user_id)
        if before is None:
            raise NotFound(what="member")
        wanted = role or before["role"]
        if not (may_give(actor, wanted) and may_give(actor, before["role"])):
            raise Forbidden(what=f"a {actor.role} can't change an owner, or make one")
        is_restricted = projects is not None or (before["is_restricted"] and not sees_all)
        if is_restricted and wanted in ("owner", "admin"):
            raise Conflict(
                what=f"an {wanted} sees every project", hint="Make them a developer or a viewer, or let them see all."
            )
        if before["role"] == "owner" and wanted != "owner":
            await _check_other_owners(tx, actor.team_id, user_id)
        await tx.execute("update_member", actor.team_id, user_id, wanted, is_restricted)
        if projects is not None or not is_restricted:
            await tx.execute("delete_member_projects", actor.team_id, user_id)
        if projects is not None:
            names = list(dict.fromkeys(projects))
            if await tx.execute("insert_member_projects", actor.team_id, user_id, names) != len(names):
                raise NotFound(what="project", hint="One of the projects named is none of the team's.")
        after = await tx.fetch_one("list_members", actor.team_id, user_id)
        told = 0
        if is_restricted:
            told = await end_passes_of_members(tx, actor.team_id, actor_id=actor.user_id)
    await _tell(platform, told)
    assert after is not None
    return _membership_from(after, await find_team(platform, actor))


async def remove_member(platform: Platform, actor: Actor, user_id: str) -> None:
    """Take a member out of the actor's team, or leave it; their tokens of it end. Raises `LastOwner`."""
    is_oneself = user_id == actor.user_id
    require(actor, "leave the team" if is_oneself else "change the team")
    async with platform.db.transaction() as tx:
        team = await _lock_team(tx, actor)
        before = await tx.fetch_one("list_members", actor.team_id, user_id)
        if before is None:
            raise NotFound(what="member")
        if not is_oneself and not may_give(actor, before["role"]):
            raise Forbidden(what=f"a {actor.role} can't remove an owner")
        if before["role"] == "owner":
            await _check_other_owners(tx, actor.team_id, user_id)
        if team["personal_of"] == user_id:
            raise Conflict(what="a personal team stays with its user")
        await tx.execute("delete_member", actor.team_id, user_id)
        await tx.execute("revoke_tokens_of_member", actor.team_id, user_id)
        await tx.execute("forget_team_choice", actor.team_id, user_id)
        told = await end_passes_of_members(tx, actor.team_id, actor_id=actor.user_id)
    await _tell(platform, told)


async def _tell(platform: Platform, version: int) -> None:
    if version:
        await events.announce_moves(platform.redis, version)


async def _lock_team(tx: Queries, actor: Actor) -> Record:
    row = await tx.fetch_one("lock_team", actor.team_id)
    if row is None:
        raise NotFound(what="team")
    return row


async def _check_other_owners(tx: Queries, team_id: str, user_id: str) -> None:
    row = await tx.fetch_one("count_owners", team_id, user_id)
    if row is None or not row["count"]:
        raise LastOwner()


def _membership_from(row: Record, team: Team) -> Membership:
    return Membership(
        team=team,
        user=User(id=row["user_id"], email=row["user_email"], name=row["user_name"]),
        role=row["role"],
        projects=tuple(row["projects"]) if row["is_restricted"] else None,
        created_at=row["created_at"],
    )
