"""API tokens as people handle them: made with a name, scopes and an end; and the CLI's sign-in by code."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from vclone_core.actions.accounts import DAY_S
from vclone_core.actions.newids import new_id
from vclone_core.actions.owners import insert_token, new_token
from vclone_core.actions.platform import Platform
from vclone_core.errors import FieldProblem, Forbidden, InvalidFields, NotFound
from vclone_core.models import Actor, ApiToken, User
from vclone_core.rules.access import SCOPES, covers, may, require
from vclone_core.rules.tokens import USER_CODE_ALPHABET, USER_CODE_LENGTH, hash_token, is_token, parse_user_code
from vclone_core.stores.postgres import Record

CODE_S: Final = 600
POLL_S: Final = 2
TOKEN_DAYS: Final = 366.0
SIGN_IN_DAYS: Final = 90.0


class NewToken(NamedTuple):
    """A new API token and its text, shown this once."""

    token: ApiToken
    text: str


class DeviceLogin(NamedTuple):
    """A sign-in by code that waits for a person: what asked, from where, since when."""

    user_code: str
    client: str
    address: str
    created_at: datetime


async def make_token(
    platform: Platform, actor: Actor, *, name: str, scopes: Sequence[str], expires_days: float | None
) -> NewToken:
    """Make an API token of the actor's team with some of `SCOPES`; None: it doesn't expire.

    Raises `InvalidFields`, or `Forbidden` for a scope that the actor's own token hasn't.
    """
    require(actor, "make tokens")
    problems = []
    if not scopes or not set(scopes) <= set(SCOPES):
        problems.append(FieldProblem("scopes", f"name one or more of {', '.join(SCOPES)}"))
    if expires_days is not None and not 0 < expires_days <= TOKEN_DAYS:
        problems.append(FieldProblem("expires_days", f"is not between 0 and {TOKEN_DAYS:.0f}"))
    if problems:
        raise InvalidFields(tuple(problems))
    if not all(covers(actor.scopes, scope) for scope in scopes):
        raise Forbidden(what="a token makes no token that may do more than itself")
    token_id = new_id("token")
    held = tuple(scope for scope in SCOPES if scope in scopes)
    expires_s = None if expires_days is None else expires_days * DAY_S
    text = await insert_token(
        platform.db, actor.user_id, actor.team_id, name=name, expires_s=expires_s, scopes=held, token_id=token_id
    )
    made = next(token for token in await list_tokens(platform, actor, limit=500) if token.id == token_id)
    return NewToken(made, text)


async def list_tokens(
    platform: Platform, actor: Actor, *, limit: int = 100, before: str | None = None
) -> list[ApiToken]:
    """Return the actor's API tokens of their team, newest first; everybody's for those who may change the team."""
    require(actor, "see one's account")
    owner = None if may(actor, "change the team") else actor.user_id
    rows = await platform.db.fetch("list_api_tokens", actor.team_id, owner, before, limit)
    return [_token_from(row) for row in rows]


async def revoke(platform: Platform, actor: Actor, token_id: str) -> None:
    """End an API token: one's own, or anybody's of the team for those who may change it. Raises `NotFound`."""
    require(actor, "make tokens")
    owner = None if may(actor, "change the team") else actor.user_id
    if not await platform.db.execute("revoke_api_token", token_id, actor.team_id, owner):
        raise NotFound(what="token")


async def revoke_own(platform: Platform, token_id: str) -> None:
    """End the token that signed a request: signing out."""
    await platform.db.execute("revoke_api_token_by_id", token_id)


async def begin_device_login(platform: Platform, *, client: str, address: str) -> tuple[str, str]:
    """Return (device code, user code): the one to ask with, the other to show to a person. Good for ten minutes."""
    device = new_token("device")
    code = "".join(secrets.choice(USER_CODE_ALPHABET) for _ in range(USER_CODE_LENGTH))
    await platform.db.execute("delete_old_device_logins")
    await platform.db.execute("insert_device_login", hash_token(device), code, client, address, CODE_S)
    return device, code


async def find_device_login(platform: Platform, actor: Actor, code: str) -> DeviceLogin:
    """Return the sign-in that waits under a user code, however it is typed; raise `NotFound` otherwise."""
    require(actor, "change one's account")
    row = await platform.db.fetch_one("fetch_device_login", parse_user_code(code))
    if row is None:
        raise NotFound(what="code", hint="It is misspelt, was used, or is too old: run `vclone login` again.")
    return DeviceLogin(**row)


async def decide_device_login(platform: Platform, actor: Actor, code: str, *, is_approved: bool) -> None:
    """Let a waiting sign-in act as the actor's user, or refuse it; raise `NotFound` when none waits."""
    found = await find_device_login(platform, actor, code)
    if is_approved:
        done = await platform.db.execute("approve_device_login", found.user_code, actor.user_id, actor.team_id)
    else:
        done = await platform.db.execute("deny_device_login", found.user_code)
    if not done:
        raise NotFound(what="code")


async def poll_device_login(platform: Platform, device: str) -> tuple[str, str | None]:
    """Return (`pending`, `denied`, `expired` or `approved`, the text of the API token when approved, once)."""
    if not is_token("device", device):
        return "expired", None
    async with platform.db.transaction() as tx:
        row = await tx.fetch_one("lock_device_login", hash_token(device))
        if row is None or row["is_used"] or row["is_over"]:
            return "expired", None
        if row["is_denied"]:
            return "denied", None
        if row["user_id"] is None:
            return "pending", None
        await tx.execute("use_device_login", hash_token(device))
        name = f"vclone login on {row['client'] or 'a computer'}"
        text = await insert_token(tx, row["user_id"], row["team_id"], name=name, expires_s=SIGN_IN_DAYS * DAY_S)
    return "approved", text


def _token_from(row: Record) -> ApiToken:
    return ApiToken(
        id=row["id"],
        user=User(id=row["user_id"], email=row["user_email"], name=row["user_name"]),
        name=row["name"],
        scopes=tuple(row["scopes"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"],
    )
