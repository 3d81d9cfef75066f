"""Users, and what opens the platform for them: API tokens, sign-in links, sessions. Only hashes are stored."""

from __future__ import annotations

import secrets
from typing import Any, Final, NamedTuple

from vclone_core.actions.platform import Platform, new_id
from vclone_core.errors import NotFound, Unauthorised
from vclone_core.models import Actor, Team, User
from vclone_core.rules.names import slug_of
from vclone_core.rules.tokens import SPACE, build_token, hash_token, is_token
from vclone_core.stores import records
from vclone_core.stores.postgres import Queries

LINK_S: Final = 15 * 60
DAY_S: Final = 24 * 3600
OWNER_EMAIL: Final = "owner@localhost"
# Held while the owner is looked for and made: any number of processes may start at once.
_OWNER_LOCK: Final = 0x76636C6F6E6502


class Owner(NamedTuple):
    """The first user, their personal team, and the text of a new API token when one was asked for."""

    user: User
    team: Team
    token: str | None


class Entry(NamedTuple):
    """Who was let in, and by what: `kind` is `token`, `session` (a cookie) or `access` (an access token).

    `id` is of the API token or of the session.
    """

    actor: Actor
    kind: str
    id: str


async def ensure_owner(platform: Platform, *, wants_token: bool = False, name: str = "vclone up") -> Owner:
    """Return the platform's owner, made on the first call; with `wants_token` also a new API token, shown this once."""
    async with platform.db.transaction() as tx:
        await tx.fetch_one("lock_accounts", _OWNER_LOCK)
        row = await tx.fetch_one("fetch_owner")
        if row is None:
            await insert_user(tx, email=OWNER_EMAIL, name="Owner", slug="owner")
            row = await tx.fetch_one("fetch_owner")
        assert row is not None
        user = records.user_from(row)
        team = Team(id=row["team_id"], slug=row["team_slug"], name=row["team_name"], is_personal=row["is_personal"])
        token = await insert_token(tx, user.id, team.id, name=name) if wants_token else None
    return Owner(user, team, token)


async def insert_user(tx: Queries, *, email: str, name: str, slug: str | None = None) -> str:
    """Make a user with a team of their own, and return the user's id; raise `Duplicate` when the address has one."""
    user_id, team_id = new_id("user"), new_id("team")
    called = name or email.partition("@")[0]
    await tx.execute("insert_user", user_id, email, name)
    # Two people of one name: the ending keeps their teams apart.
    own = slug or f"{slug_of(called) or 'team'}-{secrets.token_hex(3)}"
    await tx.execute("insert_team", team_id, own, called, True)
    await tx.execute("own_team", team_id, user_id)
    await tx.execute("insert_member", team_id, user_id, "owner")
    return user_id


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


async def sign_in_link(platform: Platform, user_id: str) -> str:
    """Return the token of a new link that signs `user_id` in, once, within 15 minutes."""
    token = new_token("link")
    await platform.db.execute("insert_sign_in_link", hash_token(token), user_id, LINK_S)
    return token


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


async def insert_token(
    db: Queries,
    user_id: str,
    team_id: str,
    *,
    name: str,
    expires_s: float | None = None,
    scopes: tuple[str, ...] = (),
    token_id: str | None = None,
) -> str:
    """Store a new API token and return its text. No scopes: it may do what its user may, in all of their teams."""
    token = new_token("api")
    await db.execute(
        "insert_api_token", token_id or new_id("token"), user_id, team_id, name, hash_token(token), expires_s, [*scopes]
    )
    return token


def new_token(kind: str) -> str:
    """Return a new random token of `kind`, a key of `rules.tokens.PREFIXES`."""
    return build_token(kind, random=secrets.randbelow(SPACE))
