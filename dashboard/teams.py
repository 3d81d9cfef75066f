"""Pages of the team one stands in: members, invitations, API tokens, the audit log; and going over to another team."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vclone_core.actions import audit, invitations, projects, sessions, teams, tokens
from vclone_core.errors import Invalid, NotFound, VcloneError
from vclone_core.models import Actor, AuditEntry, Membership
from vclone_core.rules.access import ROLES, SCOPES, covers, may, may_give

from .visit import Go, Page, Show, Visit

TOKENS_SHOWN: Final = 100
ENTRIES_SHOWN: Final = 50
LIFETIMES: Final = {"7": "7 days", "30": "30 days", "90": "90 days", "366": "1 year", "": "no end"}


@dataclass(frozen=True, slots=True)
class MemberRow:
    member: Membership
    is_oneself: bool
    can_be_changed: bool
    can_be_removed: bool


async def show_team(visit: Visit) -> Show:
    """Who is in the team, who is invited."""
    return Show("team.html", await team_facts(visit))


async def team_facts(visit: Visit) -> Mapping[str, Any]:
    actor = visit.actor
    members = await teams.list_members(visit.platform, actor)
    may_change = may(actor, "change the team")
    return {
        "members": [to_row(actor, member) for member in members],
        "invitations": await invitations.list_invitations(visit.platform, actor),
        "projects": await projects.list_projects(visit.platform, actor),
        "may_change": may_change,
        "roles": [role for role in ROLES if may_give(actor, role)],
        "may_delete": may(actor, "delete the team") and visit.team is not None and not visit.team.is_personal,
    }


def to_row(actor: Actor, member: Membership) -> MemberRow:
    can_be_changed = may(actor, "change the team") and may_give(actor, member.role)
    is_oneself = member.user.id == actor.user_id
    return MemberRow(member, is_oneself, can_be_changed, can_be_changed or is_oneself)


async def change_team(visit: Visit) -> Show | Go:
    """Rename the team."""
    name, slug = visit.form.get("name", "").strip()[:100], visit.form.get("slug", "").strip()
    try:
        if not name:
            raise Invalid(what="a team needs a name")
        team = await teams.change_team(visit.platform, visit.actor, name=name, slug=slug or None)
    except VcloneError as error:
        return Show("team.html", {**await team_facts(visit), "failed": "team"}, error)
    visit.change.subject, visit.change.facts["name"] = team.id, team.name
    return Go("/team")


async def delete_team(visit: Visit) -> Show | Go:
    """Delete the team, once its slug was typed."""
    team = await teams.find_team(visit.platform, visit.actor)
    try:
        if visit.form.get("slug", "").strip() != team.slug:
            raise Invalid(what=f"type {team.slug} to delete the team")
        visit.change.team_id = await teams.delete_team(visit.platform, visit.actor)
    except VcloneError as error:
        return Show("team.html", {**await team_facts(visit), "failed": "delete"}, error)
    visit.change.subject, visit.change.facts["name"] = team.id, team.name
    return Go("/teams")


async def invite(visit: Visit) -> Show:
    """Invite an address; the link is shown this once."""
    try:
        invited = await invitations.invite(
            visit.platform,
            visit.actor,
            email=visit.form.get("email", ""),
            role=visit.form.get("role", ""),
        )
    except VcloneError as error:
        return Show(
            "team.html",
            {**await team_facts(visit), "failed": "invite", "email": visit.form.get("email", "")},
            error,
        )
    visit.change.subject = invited.invitation.id
    visit.change.facts |= {"email": invited.invitation.email, "role": invited.invitation.role}
    url = f"{visit.platform.settings.api_url}/invitations/{invited.token}"
    return Show("team.html", {**await team_facts(visit), "invited": invited.invitation, "url": url})


async def revoke_invitation(visit: Visit, invitation: str) -> Go:
    """Take an invitation back."""
    await invitations.revoke_invitation(visit.platform, visit.actor, invitation)
    return Go("/team")


async def show_member(visit: Visit, user: str) -> Show:
    """One member: role, and which projects they see."""
    return Show("member.html", await member_facts(visit, user))


async def member_facts(visit: Visit, user: str) -> Mapping[str, Any]:
    members = await teams.list_members(visit.platform, visit.actor)
    found = next((member for member in members if member.user.id == user), None)
    if found is None:
        raise NotFound(what="member")
    return {
        "row": to_row(visit.actor, found),
        "projects": await projects.list_projects(visit.platform, visit.actor),
        "roles": [role for role in ROLES if may_give(visit.actor, role)],
    }


async def change_member(visit: Visit, user: str) -> Show | Go:
    """Give a member another role, or restrict them to the projects that are ticked."""
    form = visit.form
    role, is_restricted = form.get("role"), form.get("access") == "some"
    chosen = [name.removeprefix("project:") for name in form if name.startswith("project:")]
    try:
        member = await teams.change_member(
            visit.platform,
            visit.actor,
            user,
            role=role,
            projects=chosen if is_restricted else None,
            sees_all=not is_restricted,
        )
    except VcloneError as error:
        return Show("member.html", await member_facts(visit, user), error)
    visit.change.facts |= {"email": member.user.email, "role": member.role}
    if is_restricted:
        visit.change.facts["projects"] = chosen
    return Go("/team")


async def remove_member(visit: Visit, user: str) -> Show | Go:
    """Take a member out of the team, or leave it."""
    try:
        await teams.remove_member(visit.platform, visit.actor, user)
    except VcloneError as error:
        return Show("member.html", await member_facts(visit, user), error)
    return Go("/teams" if user == visit.actor.user_id else "/team")


async def show_teams(visit: Visit) -> Show:
    """One's teams; go over to one, or make one."""
    return Show("teams.html", {"teams": await teams.list_teams(visit.platform, visit.actor)})


async def create_team(visit: Visit) -> Show | Go:
    """Make a team and stand in it."""
    name = visit.form.get("name", "").strip()[:100]
    try:
        team = await teams.create_team(visit.platform, visit.actor, name=name)
    except VcloneError as error:
        found = await teams.list_teams(visit.platform, visit.actor)
        return Show("teams.html", {"teams": found, "name": name}, error)
    visit.change.team_id, visit.change.subject, visit.change.facts["name"] = team.id, team.id, team.name
    await sessions.choose_team(visit.platform, visit.entry_id, team.id)
    return Go("/team")


async def choose_team(visit: Visit, slug: str) -> Go:
    """Go over to another of one's teams."""
    found = [team for team, _ in await teams.list_teams(visit.platform, visit.actor) if team.slug == slug]
    if not found:
        raise NotFound(what="team")
    await sessions.choose_team(visit.platform, visit.entry_id, found[0].id)
    return Go("/")


async def show_tokens(visit: Visit) -> Show:
    """API tokens of the team, and a form for a new one."""
    return Show("tokens.html", await token_facts(visit))


async def token_facts(visit: Visit) -> Mapping[str, Any]:
    before = visit.query.get("before")
    found = await tokens.list_tokens(visit.platform, visit.actor, limit=TOKENS_SHOWN + 1, before=before)
    shown = found[:TOKENS_SHOWN]
    return {
        "tokens": shown,
        "older": shown[-1].id if len(found) > len(shown) else None,
        "scopes": [scope for scope in SCOPES if covers(visit.actor.scopes, scope)],
        "lifetimes": LIFETIMES,
    }


async def create_token(visit: Visit) -> Show:
    """Make an API token; its text is shown this once."""
    form = visit.form
    name, scope, days = form.get("name", "").strip()[:100], form.get("scope", ""), form.get("days", "90")
    try:
        if not name or days not in LIFETIMES:
            raise Invalid(what="a token needs a name" if not name else "choose when the token ends")
        made = await tokens.make_token(
            visit.platform, visit.actor, name=name, scopes=[scope], expires_days=float(days) if days else None
        )
    except VcloneError as error:
        return Show("tokens.html", {**await token_facts(visit), "name": name}, error)
    visit.change.subject, visit.change.facts = made.token.id, {"name": name, "scopes": [scope]}
    return Show("tokens.html", {**await token_facts(visit), "made": made})


async def revoke_token(visit: Visit, token: str) -> Go:
    """Revoke an API token."""
    await tokens.revoke(visit.platform, visit.actor, token)
    return Go("/tokens")


async def show_audit(visit: Visit) -> Show:
    """What was changed in the team, newest first."""
    before = visit.query.get("before", "")
    action = visit.query.get("action", "")[:100] or None
    entries = await audit.list_entries(
        visit.platform,
        visit.actor,
        limit=ENTRIES_SHOWN + 1,
        before=int(before) if before.isdecimal() and len(before) < 19 else None,
        action=action,
    )
    members = {member.user.id: member.user for member in await teams.list_members(visit.platform, visit.actor)}
    shown = entries[:ENTRIES_SHOWN]
    return Show(
        "audit.html",
        {
            "entries": shown,
            "who": {entry.actor_id: members[entry.actor_id] for entry in shown if entry.actor_id in members},
            "words": {entry.number: facts_in_words(entry) for entry in shown},
            "older": shown[-1].number if len(entries) > len(shown) else None,
            "action": action,
        },
    )


def facts_in_words(entry: AuditEntry) -> str:
    """Return an entry's facts on one line, without how its actor was let in."""
    facts = ((name, fact) for name, fact in entry.facts.items() if name not in ("via", "via_id"))
    return ", ".join(f"{name} {', '.join(map(str, fact)) if isinstance(fact, list) else fact}" for name, fact in facts)


SEE: Final = "see the team"
CHANGE: Final = "change the team"

PAGES: Final[tuple[Page, ...]] = (
    Page("GET", "/team", show_team, SEE),
    Page("POST", "/team", change_team, CHANGE),
    Page("POST", "/team/delete", delete_team, "delete the team"),
    Page("POST", "/team/invitations", invite, CHANGE),
    Page("POST", "/team/invitations/<invitation>/revoke", revoke_invitation, CHANGE),
    Page("GET", "/team/members/<user>", show_member, SEE),
    Page("POST", "/team/members/<user>", change_member, CHANGE),
    Page("POST", "/team/members/<user>/remove", remove_member, "leave the team"),
    Page("GET", "/teams", show_teams, "see one's account"),
    Page("POST", "/teams", create_team, "create a team"),
    Page("POST", "/teams/<slug>/choose", choose_team, "see one's account", is_audited=False),
    Page("GET", "/tokens", show_tokens, "see one's account"),
    Page("POST", "/tokens", create_token, "make tokens"),
    Page("POST", "/tokens/<token>/revoke", revoke_token, "make tokens"),
    Page("GET", "/audit", show_audit, "see the audit log"),
)
