"""Users and what opens the platform for them: API tokens, one-time sign-in links, sessions. Only hashes are stored."""

from __future__ import annotations

import secrets
from typing import Final, NamedTuple

from vclone_core.actions.platform import Platform, new_id
from vclone_core.errors import NotFound, Unauthorised
from vclone_core.models import Actor, Team, User
from vclone_core.rules.tokens import SPACE, build_token, hash_token, is_token
from vclone_core.stores import records
from vclone_core.stores.postgres import Queries

LINK_S: Final = 15 * 60
SESSION_S: Final = 30 * 24 * 3600
OWNER_EMAIL: Final = "owner@localhost"
# Held while the owner is looked for and made: any number of processes may start at once.
_OWNER_LOCK: Final = 0x76636C6F6E6502


class Owner(NamedTuple):
    """The first user, their personal team, and the text of a new API token when one was asked for."""

    user: User
    team: Team
    token: str | None


async def ensure_owner(platform: Platform, *, wants_token: bool = False, name: str = "vclone up") -> Owner:
    """Return the platform's owner, made on the first call; with `wants_token` also a new API token, shown this once."""
    async with platform.db.transaction() as tx:
        await tx.fetch_one("lock_accounts", _OWNER_LOCK)
        row = await tx.fetch_one("fetch_owner")
        if row is None:
            user_id, team_id = new_id("user"), new_id("team")
            await tx.execute("insert_user", user_id, OWNER_EMAIL, "Owner")
            await tx.execute("insert_team", team_id, "owner", "Owner", True)
            await tx.execute("insert_member", team_id, user_id, "owner")
            row = await tx.fetch_one("fetch_owner")
        assert row is not None
        user = records.user_from(row)
        team = Team(id=row["team_id"], slug=row["team_slug"], name=row["team_name"], is_personal=row["is_personal"])
        token = await _insert_token(tx, user.id, team.id, name, None) if wants_token else None
    return Owner(user, team, token)


async def create_token(platform: Platform, actor: Actor, *, name: str, expires_s: float | None = None) -> str:
    """Return the text of a new API token of the actor's; it is shown this once and stored as a hash."""
    return await _insert_token(platform.db, actor.user_id, actor.team_id, name, expires_s)


async def revoke_token(platform: Platform, actor: Actor, token_id: str) -> None:
    """End an API token of the actor's team; it opens nothing from now on. Raises `NotFound` when there is none."""
    if not await platform.db.execute("revoke_api_token", token_id, actor.team_id):
        raise NotFound(what="token")


async def actor_from_token(platform: Platform, text: str) -> Actor:
    """Return who an API token speaks for; raise `Unauthorised` when it is none, expired or revoked."""
    if not is_token("api", text):
        raise Unauthorised()
    row = await platform.db.fetch_one("fetch_actor_by_api_token", hash_token(text))
    if row is None:
        raise Unauthorised()
    if row["is_touch_due"]:
        await platform.db.execute("touch_api_token", row["token_id"])
    return Actor(user_id=row["user_id"], team_id=row["team_id"], role=row["role"])


async def sign_in_link(platform: Platform, user_id: str) -> str:
    """Return the token of a new link that signs `user_id` in, once, within 15 minutes."""
    token = _new_token("link")
    await platform.db.execute("insert_sign_in_link", hash_token(token), user_id, LINK_S)
    return token


async def redeem_sign_in_link(platform: Platform, text: str, *, user_agent: str = "", address: str = "") -> str:
    """Use a sign-in link up and return a session token; raise `Unauthorised` when it is used, too old or none."""
    if not is_token("link", text):
        raise Unauthorised()
    token = _new_token("session")
    async with platform.db.transaction() as tx:
        row = await tx.fetch_one("use_sign_in_link", hash_token(text))
        if row is None:
            raise Unauthorised(hint="This link was used or is too old; `vclone open` makes a new one.")
        await tx.execute(
            "insert_session", new_id("session"), row["user_id"], hash_token(token), SESSION_S, user_agent, address
        )
    return token


async def actor_from_session(platform: Platform, text: str, *, team_id: str | None = None) -> Actor:
    """Return who a session belongs to, in `team_id` or in their own team; raise `Unauthorised` when it doesn't hold."""
    if not is_token("session", text):
        raise Unauthorised()
    row = await platform.db.fetch_one("fetch_actor_by_session", hash_token(text), team_id)
    if row is None:
        raise Unauthorised()
    return Actor(user_id=row["user_id"], team_id=row["team_id"], role=row["role"])


async def end_session(platform: Platform, text: str) -> None:
    """Sign a session out; it opens nothing from now on."""
    await platform.db.execute("revoke_session", hash_token(text))


async def find_user(platform: Platform, actor: Actor) -> tuple[User, Team]:
    """Return the actor's user and team."""
    user = await platform.db.fetch_one("fetch_user", actor.user_id)
    team = await platform.db.fetch_one("fetch_team", actor.team_id)
    if user is None or team is None:
        raise NotFound(what="user")
    return records.user_from(user), records.team_from(team)


async def _insert_token(db: Queries, user_id: str, team_id: str, name: str, expires_s: float | None) -> str:
    token = _new_token("api")
    await db.execute("insert_api_token", new_id("token"), user_id, team_id, name, hash_token(token), expires_s)
    return token


def _new_token(kind: str) -> str:
    return build_token(kind, random=secrets.randbelow(SPACE))
