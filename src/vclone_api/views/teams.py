"""Teams, members, invitations, API tokens and the audit log."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator

from quart import Response

from vclone_core.actions import audit, invitations, teams, tokens
from vclone_core.models import AuditEntry
from vclone_core.rules.access import ROLES
from vclone_core.rules.audit import FIELDS, entry_json

from .. import people_bodies as bodies
from ..guard import Call
from ..paging import cut_page, position_of, slice_page
from .people_shapes import (
    AuditList,
    InvitationList,
    MemberList,
    MemberShape,
    MyTeam,
    NewInvitationShape,
    NewTokenShape,
    TeamList,
    TokenList,
    shape_entry,
    shape_invitation,
    shape_member,
    shape_team,
    shape_token,
)
from .shapes import TeamShape


async def list_teams(call: Call) -> TeamList:
    """One's teams, one's own first, with one's role in each."""
    found = await teams.list_teams(call.platform, call.actor)
    own = found[0][0].id if found else ""
    page, cursor = slice_page(call, found, key=lambda one: (one[0].id != own, one[0].name, one[0].id))
    return {"items": [{**shape_team(team), "role": role} for team, role in page], "next_cursor": cursor}


async def create_team(call: Call) -> TeamShape:
    """Make a team, and be its owner."""
    body: bodies.NewTeam = call.body
    team = await teams.create_team(call.platform, call.actor, name=body.name, slug=body.slug)
    call.change.team_id, call.change.facts = team.id, {"name": team.name, "slug": team.slug}
    return shape_team(team)


async def show_team(call: Call, team: str) -> MyTeam:
    """One team, by slug or id."""
    return {**shape_team(await teams.find_team(call.platform, call.actor)), "role": call.actor.role}


async def change_team(call: Call, team: str) -> TeamShape:
    """Rename a team, or change its slug."""
    body: bodies.TeamChange = call.body
    changed = await teams.change_team(call.platform, call.actor, name=body.name, slug=body.slug)
    call.change.subject, call.change.facts = changed.id, body.model_dump(exclude_none=True)
    return shape_team(changed)


async def delete_team(call: Call, team: str) -> None:
    """Delete a team without projects."""
    found = await teams.find_team(call.platform, call.actor)
    call.change.team_id = await teams.delete_team(call.platform, call.actor)
    call.change.subject, call.change.facts = found.id, {"name": found.name, "slug": found.slug}


async def list_members(call: Call, team: str) -> MemberList:
    """The members of a team, owners first."""
    found = await teams.list_members(call.platform, call.actor)
    page, cursor = slice_page(call, found, key=lambda one: (ROLES.index(one.role), one.user.email.lower()))
    return {"items": [shape_member(member) for member in page], "next_cursor": cursor}


async def change_member(call: Call, team: str, user: str) -> MemberShape:
    """Give a member another role, or restrict them to some projects; it holds from their next request on."""
    body: bodies.MemberChange = call.body
    member = await teams.change_member(
        call.platform,
        call.actor,
        user,
        role=body.role,
        projects=body.projects,
        sees_all=body.sees_all_projects,
    )
    call.change.facts = {"email": member.user.email, **body.model_dump(exclude_unset=True)}
    return shape_member(member)


async def remove_member(call: Call, team: str, user: str) -> None:
    """Take a member out of a team, or leave it; their tokens of it are revoked."""
    await teams.remove_member(call.platform, call.actor, user)


async def list_invitations(call: Call, team: str) -> InvitationList:
    """The open invitations of a team."""
    found = await invitations.list_invitations(call.platform, call.actor)
    page, cursor = slice_page(call, found, key=lambda invitation: invitation.id, newest_first=True)
    return {"items": [shape_invitation(invitation) for invitation in page], "next_cursor": cursor}


async def invite(call: Call, team: str) -> NewInvitationShape:
    """Invite an address into a team; the link is shown this once, for you to send."""
    body: bodies.NewInvitation = call.body
    invited = await invitations.invite(call.platform, call.actor, email=body.email, role=body.role)
    call.change.facts = {"email": invited.invitation.email, "role": body.role}
    url = f"{call.platform.settings.api_url}/invitations/{invited.token}"
    return {**shape_invitation(invited.invitation), "token": invited.token, "url": url}


async def revoke_invitation(call: Call, team: str, invitation: str) -> None:
    """Take an open invitation back."""
    await invitations.revoke_invitation(call.platform, call.actor, invitation)


async def accept_invitation(call: Call) -> TeamShape:
    """Join the team of an invitation made for one's own address."""
    body: bodies.Acceptance = call.body
    team = await invitations.accept_invitation(call.platform, call.actor, body.token)
    call.change.team_id, call.change.subject = team.id, call.actor.user_id
    return shape_team(team)


async def list_tokens(call: Call) -> TokenList:
    """One's API tokens of the team, newest first; everybody's for those who may change the team."""
    found = await tokens.list_tokens(call.platform, call.actor, limit=call.query.limit + 1, before=position_of(call))
    page, cursor = cut_page(call, found, key=lambda token: token.id)
    return {"items": [shape_token(token) for token in page], "next_cursor": cursor}


async def create_token(call: Call) -> NewTokenShape:
    """Make an API token of the team; its text is shown this once."""
    body: bodies.NewTokenBody = call.body
    made = await tokens.make_token(
        call.platform, call.actor, name=body.name, scopes=body.scopes, expires_days=body.expires_days
    )
    call.change.facts = {"name": body.name, "scopes": body.scopes}
    return {**shape_token(made.token), "token": made.text}


async def revoke_token(call: Call, token: str) -> None:
    """Revoke an API token: it opens nothing from now on."""
    await tokens.revoke(call.platform, call.actor, token)


async def list_audit(call: Call) -> AuditList:
    """What was changed in the team, newest first: by whom, from where, in which request."""
    query: bodies.AuditQuery = call.query
    found = await audit.list_entries(
        call.platform, call.actor, limit=query.limit + 1, before=position_of(call), action=query.action, by=query.by
    )
    page, cursor = cut_page(call, found, key=lambda entry: entry.number)
    return {"items": [shape_entry(entry) for entry in page], "next_cursor": cursor}


async def export_audit(call: Call) -> Response:
    """The team's whole audit log, oldest first, as JSON lines or CSV, with the hashes that chain it."""
    query: bodies.ExportQuery = call.query
    write = WRITERS[query.format]
    entries = audit.read_all(call.platform, call.actor)

    async def lines() -> AsyncIterator[str]:
        if query.format == "csv":
            yield write_row(FIELDS)
        async for entry in entries:
            yield write(entry)

    response = Response(lines(), content_type=TYPES[query.format])
    response.headers["content-disposition"] = f'attachment; filename="audit.{query.format}"'
    response.timeout = None
    return response


def write_json(entry: AuditEntry) -> str:
    return json.dumps(entry_json(entry), ensure_ascii=False, sort_keys=True) + "\n"


def write_csv(entry: AuditEntry) -> str:
    plain = entry_json(entry)
    plain["facts"] = json.dumps(plain["facts"], ensure_ascii=False, sort_keys=True)
    return write_row([plain[name] for name in FIELDS])


def write_row(cells: object) -> str:
    """Return one line of CSV. A cell that a spreadsheet would run as a formula is quoted as text."""
    out = io.StringIO()
    row = [f"'{cell}" if isinstance(cell, str) and cell[:1] in "=+-@\t\r" and cell else cell for cell in cells]  # type: ignore[attr-defined]
    csv.writer(out).writerow(row)
    return out.getvalue()


WRITERS = {"jsonl": write_json, "csv": write_csv}
TYPES = {"jsonl": "application/jsonl; charset=utf-8", "csv": "text/csv; charset=utf-8"}
