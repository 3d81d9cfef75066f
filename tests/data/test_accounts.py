"""Who opens the platform, and with what: tokens, links and sessions are shown once and stored as hashes."""

from __future__ import annotations

import asyncio

import pytest

from vclone_core.actions import accounts, owners
from vclone_core.actions.platform import Platform, open_platform
from vclone_core.errors import BadSettings, NotFound, Unauthorised
from vclone_core.models import Actor
from vclone_core.settings import Settings


async def test_eight_starts_make_one_owner(settings: Settings) -> None:
    async def start() -> owners.Owner:
        async with open_platform(settings) as platform:
            return await owners.ensure_owner(platform.db, wants_token=True)

    made = await asyncio.gather(*(start() for _ in range(8)))
    assert len({(owner.user.id, owner.team.id) for owner in made}) == 1
    assert len({owner.token for owner in made}) == 8
    assert made[0].team.is_personal


async def test_a_token_opens_and_a_fresh_one_comes_only_when_asked(platform: Platform) -> None:
    user, team, nothing = await owners.ensure_owner(platform.db)
    assert nothing is None
    token = (await owners.ensure_owner(platform.db, wants_token=True)).token
    assert token is not None and token.startswith("vct_") and len(token) == 50
    actor = await accounts.actor_from_token(platform, token)
    assert actor == Actor(user.id, team.id, "owner")
    assert await accounts.find_user(platform, actor) == (user, team)
    async with platform.db._pool.acquire() as connection:
        row = await connection.fetchrow("select * from api_tokens")
    assert token.encode() not in b"".join(value for value in row.values() if isinstance(value, bytes))
    assert token not in str(dict(row))
    assert row["last_used_at"] is not None


async def test_what_is_no_token_opens_nothing(platform: Platform) -> None:
    token = (await owners.ensure_owner(platform.db, wants_token=True)).token
    assert token is not None
    flipped = token[:-1] + ("0" if token[-1] != "0" else "1")
    for text in ("", "vct_", flipped, token + " ", token.upper(), "é" * 50):
        with pytest.raises(Unauthorised):
            await accounts.actor_from_token(platform, text)
        with pytest.raises(Unauthorised):
            await accounts.actor_from_session(platform, text)
    with pytest.raises(Unauthorised):
        await accounts.actor_from_session(platform, token)


async def test_a_token_ends_by_time_by_hand_and_with_its_user(platform: Platform) -> None:
    user, team, token = await owners.ensure_owner(platform.db, wants_token=True)
    assert token is not None
    actor = await accounts.actor_from_token(platform, token)
    short = await accounts.create_token(platform, actor, name="short", expires_s=0)
    with pytest.raises(Unauthorised):
        await accounts.actor_from_token(platform, short)
    async with platform.db._pool.acquire() as connection:
        token_id = await connection.fetchval("select id from api_tokens where name = 'vclone up'")
    with pytest.raises(NotFound):
        await accounts.revoke_token(platform, Actor(user.id, "tem_other", "owner"), token_id)
    await accounts.revoke_token(platform, actor, token_id)
    with pytest.raises(Unauthorised):
        await accounts.actor_from_token(platform, token)
    late = await accounts.create_token(platform, actor, name="late")
    async with platform.db._pool.acquire() as connection:
        await connection.execute("update users set disabled_at = now()")
    with pytest.raises(Unauthorised):
        await accounts.actor_from_token(platform, late)
    assert team.slug == "owner"


async def test_a_sign_in_link_opens_once(platform: Platform) -> None:
    owner = await owners.ensure_owner(platform.db)
    link = await owners.sign_in_link(platform.db, owner.user.id)
    results = await asyncio.gather(
        *(accounts.redeem_sign_in_link(platform, link) for _ in range(10)), return_exceptions=True
    )
    (session,) = [result for result in results if isinstance(result, str)]
    assert sum(isinstance(result, Unauthorised) for result in results) == 9
    assert await accounts.actor_from_session(platform, session) == Actor(owner.user.id, owner.team.id, "owner")
    with pytest.raises(NotFound, match="team"):
        await accounts.actor_from_session(platform, session, team_id="tem_other")
    await accounts.end_session(platform, session)
    with pytest.raises(Unauthorised):
        await accounts.actor_from_session(platform, session)


async def test_a_sign_in_link_is_too_old_after_its_time(platform: Platform) -> None:
    owner = await owners.ensure_owner(platform.db)
    link = await owners.sign_in_link(platform.db, owner.user.id)
    async with platform.db._pool.acquire() as connection:
        await connection.execute("update sign_in_links set expires_at = now() - interval '1 second'")
    with pytest.raises(Unauthorised, match="Nobody is signed in"):
        await accounts.redeem_sign_in_link(platform, link)


async def test_a_platform_without_addresses_says_which_are_missing(settings: Settings) -> None:
    with pytest.raises(BadSettings, match=r"VCLONE_DATABASE_URL is not set\. VCLONE_REDIS_URL is not set\."):
        async with open_platform(Settings(data_dir=settings.data_dir, store=settings.store)):
            pass
