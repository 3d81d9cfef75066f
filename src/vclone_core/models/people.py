"""Who deploys: users, teams, what they are asked with and what they did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class User:
    id: str
    email: str
    name: str


@dataclass(frozen=True, slots=True)
class Team:
    id: str
    slug: str
    name: str
    is_personal: bool


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: a user within one team, with a role (`owner`, `admin`, `developer`, `viewer`). `scopes` None: all that
    the role allows. `projects`: the ids of the only ones seen, None: all of the team's."""

    user_id: str
    team_id: str
    role: str
    scopes: tuple[str, ...] | None = None
    projects: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """One user in one team. `projects` as an `Actor` has it."""

    team: Team
    user: User
    role: str
    projects: tuple[str, ...] | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Invitation:
    """An open invitation to a team; only the user with this address can accept it."""

    id: str
    team: Team
    email: str
    role: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in. `kind` is `browser` (a cookie) or `api` (access and refresh tokens)."""

    id: str
    kind: str
    user_agent: str
    address: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ApiToken:
    """An API token without its text. No scopes: it was made by a sign-in and may do what its user may."""

    id: str
    user: User
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change, as the audit log keeps it. `hash` covers everything here, and the hash of the team's entry before."""

    number: int
    at: datetime
    team_id: str
    actor_id: str | None
    action: str
    subject: str
    facts: Mapping[str, Any]
    request_id: str
    address: str
    previous_hash: str
    hash: str
