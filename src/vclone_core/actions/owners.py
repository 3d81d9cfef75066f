"""The first user, and the rows that make any user and token. Needs the database alone: `vclone up` starts with it."""

from __future__ import annotations

import secrets
from typing import Final, NamedTuple

from vclone_core.actions.newids import new_id
from vclone_core.models import Team, User
from vclone_core.rules.names import slug_of
from vclone_core.rules.tokens import SPACE, build_token, hash_token
from vclone_core.stores import records
from vclone_core.stores.postgres import Database, Queries

LINK_S: Final = 15 * 60
OWNER_EMAIL: Final = "owner@localhost"
# Held while the owner is looked for and made: any number of processes may start at once.
_OWNER_LOCK: Final = 0x76636C6F6E6502


class Owner(NamedTuple):
    """The first user, their personal team, and the text of a new API token when one was asked for."""

    user: User
    team: Team
    token: str | None


async def ensure_owner(db: Database, *, wants_token: bool = False, name: str = "vclone up") -> Owner:
    """Return the platform's owner, made on the first call; with `wants_token` also a new API token, shown this once."""
    async with db.transaction() as tx:
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


async def sign_in_link(db: Queries, user_id: str) -> str:
    """Return the token of a new link that signs `user_id` in, once, within 15 minutes."""
    token = new_token("link")
    await db.execute("insert_sign_in_link", hash_token(token), user_id, LINK_S)
    return token


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
