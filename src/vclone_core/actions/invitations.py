"""Invitations: a link that lets one address into one team, once, for a few days. Only the link's hash is kept."""

from __future__ import annotations

from typing import NamedTuple

from vclone_core.actions.accounts import DAY_S
from vclone_core.actions.newids import new_id
from vclone_core.actions.owners import new_token
from vclone_core.actions.platform import Platform
from vclone_core.errors import Conflict, FieldProblem, Forbidden, InvalidFields, NotFound
from vclone_core.models import Actor, Invitation, Team
from vclone_core.rules.access import ROLES, may_give, require
from vclone_core.rules.passwords import normalise_email
from vclone_core.rules.tokens import hash_token, is_token
from vclone_core.stores import records
from vclone_core.stores.postgres import Queries, Record


class Invited(NamedTuple):
    """A new invitation and the token of its link, shown this once."""

    invitation: Invitation
    token: str


async def invite(platform: Platform, actor: Actor, *, email: str, role: str) -> Invited:
    """Invite an address into the actor's team; an open invitation of it is replaced.

    Raises `Forbidden` for a role above the actor's own, `Conflict` when the address is a member's.
    """
    require(actor, "change the team")
    known_as = normalise_email(email)
    problems = []
    if known_as is None:
        problems.append(FieldProblem("email", "is not an e-mail address"))
    if role not in ROLES:
        problems.append(FieldProblem("role", f"is none of {', '.join(ROLES)}"))
    if problems:
        raise InvalidFields(tuple(problems))
    if not may_give(actor, role):
        raise Forbidden(what=f"a {actor.role} can't invite an {role}")
    team = await platform.db.fetch_one("fetch_team", actor.team_id)
    if team is None:
        raise NotFound(what="team")
    members = await platform.db.fetch("list_members", actor.team_id, None)
    if any(row["user_email"].lower() == known_as for row in members):
        raise Conflict(what=f"{known_as} is a member already")
    token = new_token("invitation")
    async with platform.db.transaction() as tx:
        await tx.execute("revoke_invitations_for", actor.team_id, known_as)
        row = await tx.fetch_one(
            "insert_invitation",
            new_id("invitation"),
            actor.team_id,
            known_as,
            role,
            hash_token(token),
            actor.user_id,
            platform.settings.invitation_days * DAY_S,
        )
    assert row is not None
    return Invited(_invitation_from(row, records.team_from(team)), token)


async def list_invitations(platform: Platform, actor: Actor) -> list[Invitation]:
    """Return the open invitations of the actor's team, newest first."""
    require(actor, "see the team")
    team = await platform.db.fetch_one("fetch_team", actor.team_id)
    if team is None:
        raise NotFound(what="team")
    rows = await platform.db.fetch("list_invitations", actor.team_id)
    return [_invitation_from(row, records.team_from(team)) for row in rows]


async def revoke_invitation(platform: Platform, actor: Actor, invitation_id: str) -> None:
    """Take an open invitation back; raise `NotFound` when there is none."""
    require(actor, "change the team")
    if not await platform.db.execute("revoke_invitation", invitation_id, actor.team_id):
        raise NotFound(what="invitation")


async def find_invitation(platform: Platform, token: str) -> Invitation:
    """Return the open invitation behind a link; raise `NotFound` when it was used, revoked, is too old or none.

    One whose inviter has left the team, or may not invite any more, counts as revoked.
    """
    row = None
    if is_token("invitation", token):
        row = await platform.db.fetch_one("fetch_invitation", hash_token(token))
    if row is None:
        raise NotFound(what="invitation", hint="It was used, taken back, or is too old: ask for a new one.")
    team = Team(id=row["team_id"], slug=row["team_slug"], name=row["team_name"], is_personal=row["is_personal"])
    return _invitation_from(row, team)


async def accept_invitation(platform: Platform, actor: Actor, token: str) -> Team:
    """Let the actor's user into the team; raise `Forbidden` when the invitation is for another address.

    A member already stays in the role they have, and the invitation is used up.
    """
    require(actor, "change one's account")
    invited = await find_invitation(platform, token)
    user = await platform.db.fetch_one("fetch_user", actor.user_id)
    if user is None or user["email"].lower() != invited.email:
        raise Forbidden(what="this invitation is for another address", hint="Sign in with the address it was made for.")
    async with platform.db.transaction() as tx:
        await use_invitation(tx, invited, actor.user_id)
    return invited.team


async def use_invitation(tx: Queries, invited: Invitation, user_id: str) -> None:
    """Use an invitation up and make its user a member; raise `NotFound` when somebody was faster."""
    if not await tx.execute("use_invitation", invited.id):
        raise NotFound(what="invitation", hint="It was used already.")
    await tx.execute("insert_member_if_none", invited.team.id, user_id, invited.role)


def _invitation_from(row: Record, team: Team) -> Invitation:
    return Invitation(
        id=row["id"],
        team=team,
        email=row["email"],
        role=row["role"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
    )
