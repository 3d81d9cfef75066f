"""Sessions: the browser's cookie, and for programs an access token (JWT, minutes) with a refresh token (weeks).

Each access token names its session, and the session's row is read with every request: what ends a session ends its
tokens at once.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import jwt

from vclone_core.actions.accounts import DAY_S, Entry, enter_by_session_id
from vclone_core.actions.newids import new_id
from vclone_core.actions.owners import new_token
from vclone_core.actions.platform import Platform
from vclone_core.errors import BadSettings, NotFound, ReusedToken, Unauthorised
from vclone_core.log import get_log
from vclone_core.models import Actor, Session
from vclone_core.rules import sessions as rules
from vclone_core.rules.access import require
from vclone_core.rules.tokens import hash_token, is_token
from vclone_core.stores.postgres import Queries

log = get_log(__name__)

# No access token of ours is longer: what is, isn't even parsed.
ACCESS_TOKEN_BYTES: Final = 2048


class Tokens(NamedTuple):
    """What a program signs its requests with, and what it gets the next of that with."""

    session_id: str
    user_id: str
    access: str
    refresh: str
    expires_in_s: int


def signing_keys(platform: Platform) -> Mapping[str, bytes]:
    """Return the keys of access tokens by id, the newest first. Raises `BadSettings` without a key worth the name."""
    settings = platform.settings
    newest = settings.secret_key.get_secret_value()
    if len(newest) < rules.KEY_LENGTH:
        raise BadSettings(problems=f"VCLONE_SECRET_KEY has fewer than {rules.KEY_LENGTH} characters.")
    return rules.derive_keys(newest, settings.secret_key_previous.get_secret_value())


async def open_api_session(platform: Platform, user_id: str, *, user_agent: str, address: str) -> Tokens:
    """Sign a program in."""
    session_id = new_id("session")
    length_s = min(platform.settings.session_days, platform.settings.session_max_days) * DAY_S
    async with platform.db.transaction() as tx:
        await tx.execute("delete_old_sessions", user_id)
        await tx.execute("insert_session", session_id, user_id, None, length_s, user_agent, address, "api")
        now = (await tx.fetch_one("fetch_now") or {})["now"]
        refresh = await _insert_refresh(platform, tx, session_id, now=now, made_at=now)
    return Tokens(session_id, user_id, *_sign(platform, session_id, user_id, refresh))


async def refresh_session(platform: Platform, text: str) -> Tokens:
    """Return new tokens for a refresh token, which is used up.

    The same one again within ten seconds gets new tokens too: an answer may be lost, and two tabs may ask at once.
    Later it means that somebody else has it: the session ends, and `ReusedToken` is raised.
    """
    if not is_token("refresh", text):
        raise Unauthorised()
    token_hash = hash_token(text)
    async with platform.db.transaction() as tx:
        row = await tx.fetch_one("lock_refresh_token", token_hash)
        if row is None:
            raise Unauthorised()
        fate = rules.judge_refresh(
            now=row["now"],
            expires_at=row["expires_at"],
            used_at=row["used_at"],
            session_ends_at=row["session_ends_at"],
            is_revoked=row["is_revoked"],
        )
        refresh = ""
        if fate is rules.Refresh.REUSED:
            await tx.execute("revoke_session_by_id", row["session_id"], row["user_id"])
        elif fate is rules.Refresh.ROTATE:
            await tx.execute("use_refresh_token", token_hash)
            await tx.execute("delete_old_refresh_tokens", row["session_id"])
            settings = platform.settings
            await tx.execute(
                "touch_session", row["session_id"], settings.session_days * DAY_S, settings.session_max_days * DAY_S
            )
            refresh = await _insert_refresh(platform, tx, row["session_id"], now=row["now"], made_at=row["made_at"])
    if fate is rules.Refresh.REUSED:
        log.warning("refresh.reused", session=row["session_id"], user=row["user_id"])
        raise ReusedToken()
    if fate is rules.Refresh.REFUSE:
        raise Unauthorised(hint="This session has ended: sign in again.")
    return Tokens(row["session_id"], row["user_id"], *_sign(platform, row["session_id"], row["user_id"], refresh))


async def enter_by_access(platform: Platform, text: str, *, team: str | None = None) -> Entry:
    """Return who an access token speaks for; raise `Unauthorised` when it isn't ours, is old, or its session ended."""
    claims = read_access_token(platform, text)
    return await enter_by_session_id(platform, claims["sid"], claims["sub"], team=team)


def is_access_token(text: str) -> bool:
    """Say whether a text has the shape of a JWT."""
    return text.count(".") == 2


def read_access_token(platform: Platform, text: str) -> Mapping[str, Any]:
    """Return the claims of a genuine access token; raise `Unauthorised` for anything else.

    The algorithm is ours, never the token's; the key is looked up among ours; every claim has to be there.
    """
    if len(text) > ACCESS_TOKEN_BYTES:
        raise Unauthorised()
    try:
        header = jwt.get_unverified_header(text)
        key = signing_keys(platform).get(str(header.get("kid")))
        if key is None or header.get("typ") != rules.ACCESS_TYPE or header.get("alg") != rules.ALGORITHM:
            raise Unauthorised()
        claims: Mapping[str, Any] = jwt.decode(
            text,
            key,
            algorithms=[rules.ALGORITHM],
            audience=rules.AUDIENCE,
            issuer=platform.settings.api_url,
            leeway=rules.LEEWAY_S,
            options={"require": [*rules.REQUIRED_CLAIMS]},
        )
    except (jwt.PyJWTError, ValueError, TypeError):
        raise Unauthorised() from None
    if not all(isinstance(claims[name], str) for name in ("sid", "sub", "jti")):
        raise Unauthorised()
    return claims


async def list_sessions(platform: Platform, actor: Actor) -> list[Session]:
    """Return where the actor's user is signed in, the latest used first."""
    require(actor, "see one's account")
    rows = await platform.db.fetch("list_sessions", actor.user_id)
    return [Session(**row) for row in rows]


async def end_session_by_id(platform: Platform, actor: Actor, session_id: str) -> None:
    """End one of the user's sessions; raise `NotFound` when there is none."""
    require(actor, "change one's account")
    if not await platform.db.execute("revoke_session_by_id", session_id, actor.user_id):
        raise NotFound(what="session")


async def choose_team(platform: Platform, session_id: str, team_id: str) -> None:
    """Let a session stand in another of its user's teams from now on."""
    await platform.db.execute("choose_team", session_id, team_id)


async def _insert_refresh(platform: Platform, tx: Queries, session_id: str, *, now: datetime, made_at: datetime) -> str:
    settings = platform.settings
    token = new_token("refresh")
    ends = rules.sliding_end(now, made_at=made_at, days=settings.session_days, max_days=settings.session_max_days)
    await tx.execute("insert_refresh_token", hash_token(token), session_id, ends)
    return token


def _sign(platform: Platform, session_id: str, user_id: str, refresh: str) -> tuple[str, str, int]:
    kid, key = next(iter(signing_keys(platform).items()))
    length_s = int(platform.settings.access_token_s)
    now = int(time.time())
    claims = {
        "iss": platform.settings.api_url,
        "aud": rules.AUDIENCE,
        "sub": user_id,
        "sid": session_id,
        "jti": secrets.token_urlsafe(12),
        "iat": now,
        "exp": now + length_s,
    }
    access = jwt.encode(claims, key, algorithm=rules.ALGORITHM, headers={"kid": kid, "typ": rules.ACCESS_TYPE})
    return access, refresh, length_s
