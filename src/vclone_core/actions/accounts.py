"""Users, and what opens the platform for them: API tokens, sign-in links, sessions. Only hashes are stored."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from vclone_core.actions.newids import new_id
from vclone_core.actions.owners import insert_token, new_token
from vclone_core.actions.platform import Platform
from vclone_core.errors import NotFound, Unauthorised
from vclone_core.models import Actor, Team, User
from vclone_core.rules.tokens import hash_token, is_token
from vclone_core.stores import records
from vclone_core.stores.postgres import Queries

DAY_S: Final = 24 * 3600


class Entry(NamedTuple):
    """Who was let in, and by what: `kind` is `token`, `session` (a cookie) or `access` (an access token).

    `id` is of the API token or of the session.
    """

    actor: Actor
    kind: str
    id: str


async def create_token(platform: Platform, actor: Actor, *, name: str, expires_s: float | None = None) -> str:
    """Return the text of a new API token that may do what its user may; it is shown this once and stored as a hash."""
    return await insert_token(platform.db, actor.user_id, actor.team_id, name=name, expires_s=expires_s)


async def revoke_token(platform: Platform, actor: Actor, token_id: str) -> None:
    """End an API token of the actor's team; it opens nothing from now on. Raises `NotFound` when there is none."""
    if not await platform.db.execute("revoke_api_token", token_id, actor.team_id, None):
        raise NotFound(what="token")


async def enter_by_token(platform: Platform, text: str, *, team: str | None = None) -> Entry:
    """Return who an API token speaks for; raise `Unauthorised` when it is none, expired or revoked.

    `team` (id or slug) asks for another team than the token's own: `NotFound` unless it may act there.
    """
    if not is_token("api", text):
        raise Unauthorised()
    row = await _find_actor(platform, "fetch_actor_by_api_token", hash_token(text), team)
    if row["is_touch_due"]:
        await platform.db.execute("touch_api_token", row["entry_id"])
    return Entry(actor_from(row, scopes=row["scopes"]), "token", row["entry_id"])


async def enter_by_session(platform: Platform, text: str, *, team: str | None = None) -> Entry:
    """Return who a session belongs to, in `team` (id or slug), else in the team it chose, else in their own.

    Raises `Unauthorised` when it doesn't hold, `NotFound` when `team` is none of theirs.
    """
    if not is_token("session", text):
        raise Unauthorised()
    row = await _find_actor(platform, "fetch_actor_by_session", hash_token(text), team)
    await touch_session(platform, row)
    return Entry(actor_from(row), "session", row["entry_id"])


async def enter_by_session_id(platform: Platform, session_id: str, user_id: str, *, team: str | None = None) -> Entry:
    """Return who an access token that was found genuine speaks for, as its session stands at this moment."""
    row = await _find_actor(platform, "fetch_actor_by_session_id", session_id, team, user_id)
    await touch_session(platform, row)
    return Entry(actor_from(row), "access", row["entry_id"])


async def _find_actor(platform: Platform, query: str, key: Any, team: str | None, *more: Any) -> Any:
    row = await platform.db.fetch_one(query, key, team, *more)
    if row is not None:
        return row
    if team is not None and await platform.db.fetch_one(query, key, None, *more) is not None:
        raise NotFound(what="team")
    raise Unauthorised()


def actor_from(row: Any, *, scopes: list[str] | None = None) -> Actor:
    projects = row["projects"]
    return Actor(
        user_id=row["user_id"],
        team_id=row["team_id"],
        role=row["role"],
        scopes=tuple(scopes) if scopes else None,
        projects=None if projects is None else tuple(projects),
    )


async def touch_session(platform: Platform, row: Any) -> None:
    """Let a session that is in use live on; written every few minutes at most."""
    if row["is_touch_due"]:
        settings = platform.settings
        await platform.db.execute(
            "touch_session", row["entry_id"], settings.session_days * DAY_S, settings.session_max_days * DAY_S
        )


async def actor_from_token(platform: Platform, text: str) -> Actor:
    """Return who an API token speaks for; raise `Unauthorised` when it is none, expired or revoked."""
    return (await enter_by_token(platform, text)).actor


async def actor_from_session(platform: Platform, text: str, *, team_id: str | None = None) -> Actor:
    """Return who a session belongs to, in `team_id` or in their own team; raise `Unauthorised` when it doesn't hold."""
    return (await enter_by_session(platform, text, team=team_id)).actor


async def redeem_sign_in_link(platform: Platform, text: str, *, user_agent: str = "", address: str = "") -> str:
    """Use a sign-in link up and return a session token; raise `Unauthorised` when it is used, too old or none."""
    if not is_token("link", text):
        raise Unauthorised()
    async with platform.db.transaction() as tx:
        row = await tx.fetch_one("use_sign_in_link", hash_token(text))
        if row is None:
            raise Unauthorised(hint="This link was used or is too old; `vclone dashboard` makes a new one.")
        return await open_session(platform, tx, row["user_id"], user_agent=user_agent, address=address)


async def open_session(
    platform: Platform, db: Queries, user_id: str, *, user_agent: str = "", address: str = ""
) -> str:
    """Sign a user's browser in: return the text of a new session token."""
    token = new_token("session")
    length_s = min(platform.settings.session_days, platform.settings.session_max_days) * DAY_S
    await db.execute("delete_old_sessions", user_id)
    await db.execute(
        "insert_session", new_id("session"), user_id, hash_token(token), length_s, user_agent, address, "browser"
    )
    return token


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
