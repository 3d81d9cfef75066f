"""The JSON of accounts, teams, tokens and the audit log: each shape as a type, with the function that makes it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from typing_extensions import TypedDict

from vclone_core.models import ApiToken, AuditEntry, Invitation, Membership, Session, Team
from vclone_core.rules.audit import entry_json

from .shapes import Moment, TeamShape, UserShape, moment, optional_moment


class TokensShape(TypedDict):
    """What signs requests: `Authorization: Bearer ACCESS_TOKEN`. `expires_in` is in seconds."""

    access_token: str
    refresh_token: str
    token_type: str
    expires_in: int


class SignedIn(TokensShape):
    user: UserShape


class ProviderShape(TypedDict):
    name: str
    label: str
    url: str


class Ways(TypedDict):
    """How one may sign in here, and who may sign up: `open`, `invite` or `closed`."""

    sign_up: str
    providers: list[ProviderShape]


class SessionShape(TypedDict):
    id: str
    kind: str
    user_agent: str
    address: str
    is_current: bool
    created_at: Moment
    seen_at: Moment
    expires_at: Moment


class SessionList(TypedDict):
    items: list[SessionShape]
    next_cursor: str | None


class LinkShape(TypedDict):
    url: str


class DeviceShape(TypedDict):
    """RFC 8628 §3.2's fields: poll with `device_code`, show the other two to the person."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


class DeviceState(TypedDict):
    """`state`: `pending`, `approved`, `denied` or `expired`; the token is there once, when approved."""

    state: str
    token: str | None


class MyTeam(TeamShape):
    role: str


class TeamList(TypedDict):
    items: list[MyTeam]
    next_cursor: str | None


class MemberShape(TypedDict):
    """`projects` null: the member sees all of the team's."""

    user: UserShape
    role: str
    projects: list[str] | None
    created_at: Moment


class MemberList(TypedDict):
    items: list[MemberShape]
    next_cursor: str | None


class InvitationShape(TypedDict):
    id: str
    email: str
    role: str
    created_at: Moment
    expires_at: Moment


class NewInvitationShape(InvitationShape):
    """The link is shown this once."""

    token: str
    url: str


class InvitationList(TypedDict):
    items: list[InvitationShape]
    next_cursor: str | None


class TokenShape(TypedDict):
    """No scopes: the token was made by a sign-in and may do what its user may."""

    id: str
    name: str
    user: UserShape
    scopes: list[str]
    created_at: Moment
    expires_at: Moment | None
    last_used_at: Moment | None


class NewTokenShape(TokenShape):
    """The token's text is shown this once."""

    token: str


class TokenList(TypedDict):
    items: list[TokenShape]
    next_cursor: str | None


class AuditShape(TypedDict):
    number: int
    at: Moment
    team_id: str
    actor_id: str | None
    action: str
    subject: str
    facts: dict[str, Any]
    request_id: str
    address: str
    previous_hash: str
    hash: str


class AuditList(TypedDict):
    items: list[AuditShape]
    next_cursor: str | None


def shape_user(user: Any) -> UserShape:
    who: Any = asdict(user)
    return who  # type: ignore[no-any-return]


def shape_team(team: Team) -> TeamShape:
    what: Any = asdict(team)
    return what  # type: ignore[no-any-return]


def shape_session(session: Session, *, current: str) -> SessionShape:
    return {
        "id": session.id,
        "kind": session.kind,
        "user_agent": session.user_agent,
        "address": session.address,
        "is_current": session.id == current,
        "created_at": moment(session.created_at),
        "seen_at": moment(session.seen_at),
        "expires_at": moment(session.expires_at),
    }


def shape_member(member: Membership) -> MemberShape:
    return {
        "user": shape_user(member.user),
        "role": member.role,
        "projects": None if member.projects is None else [*member.projects],
        "created_at": moment(member.created_at),
    }


def shape_invitation(invitation: Invitation) -> InvitationShape:
    return {
        "id": invitation.id,
        "email": invitation.email,
        "role": invitation.role,
        "created_at": moment(invitation.created_at),
        "expires_at": moment(invitation.expires_at),
    }


def shape_token(token: ApiToken) -> TokenShape:
    return {
        "id": token.id,
        "name": token.name,
        "user": shape_user(token.user),
        "scopes": [*token.scopes],
        "created_at": moment(token.created_at),
        "expires_at": optional_moment(token.expires_at),
        "last_used_at": optional_moment(token.last_used_at),
    }


def shape_entry(entry: AuditEntry) -> AuditShape:
    what: Any = entry_json(entry)
    return what  # type: ignore[no-any-return]
