"""What clients may send about people: accounts, sessions, teams, invitations, tokens, the audit log."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from .bodies import Body, Line, PagedQuery, Query

Role = Literal["owner", "admin", "developer", "viewer"]
Scope = Literal["read", "deploy", "manage", "admin"]
# Longer than any that is taken: what is wrong with a password is said by the rule, not by the parser.
Password = Annotated[str, StringConstraints(max_length=4096)]
Secret = Annotated[str, StringConstraints(max_length=200)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
Email = Annotated[str, StringConstraints(min_length=3, max_length=254, pattern=r"^[^\x00-\x1f\x7f]*$")]


class SignUp(Body):
    """`invitation`: the token of an invitation's link."""

    email: Email
    password: Password
    name: Annotated[Line, Field(max_length=100)] = ""
    invitation: Secret | None = None


class SignIn(Body):
    email: Line
    password: Password


class RefreshBody(Body):
    refresh_token: Secret


class PasswordChange(Body):
    """`current_password` may be left out by an account that has none yet."""

    password: Password
    current_password: Password = ""


class AccountChange(Body):
    """A new address takes the password."""

    name: Annotated[Line, Field(max_length=100)] | None = None
    email: Email | None = None
    current_password: Password = ""


class DeviceStart(Body):
    """`client`: the name of the computer, for the person who confirms."""

    client: Annotated[Line, Field(max_length=100)] = ""


class DevicePoll(Body):
    device_code: Secret


class NewTeam(Body):
    name: Name
    slug: Line | None = None


class TeamChange(Body):
    name: Name | None = None
    slug: Line | None = None


class MemberChange(Body):
    """`projects`: the names or ids of the only projects the member sees; `sees_all_projects` lifts that."""

    role: Role | None = None
    projects: Annotated[list[Line], Field(max_length=500)] | None = None
    sees_all_projects: bool = False


class NewInvitation(Body):
    email: Email
    role: Role = "developer"


class Acceptance(Body):
    token: Secret


class NewTokenBody(Body):
    """`expires_days` null: the token doesn't expire."""

    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4)]
    expires_days: Annotated[float, Field(ge=0.001, le=366)] | None = 90.0


class AuditQuery(PagedQuery):
    """`by`: the id of a user."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    action: Annotated[Line, Field(max_length=100)] | None = None
    by: Annotated[Line, Field(max_length=100)] | None = None


class ExportQuery(Query):
    format: Literal["jsonl", "csv"] = "jsonl"
