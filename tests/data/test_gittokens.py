"""Tokens for private repositories: sealed in the database, given to the team's own builds alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import SecretStr

from vclone_core.actions.gittokens import delete_token, find_access, list_tokens, save_token
from vclone_core.errors import Forbidden, Invalid, InvalidFields, NotFound
from vclone_core.models import Actor, Source

from .conftest import World, add_actor

TOKEN = "ghp_0123456789abcdef"
SOURCE = Source("git", url="https://git.example:8443/me/x.git")


@pytest.fixture
def keyed(world: World) -> World:
    settings = world.platform.settings.model_copy(update={"secret_key": SecretStr("k" * 40)})
    return replace(world, platform=replace(world.platform, settings=settings))


async def test_a_token_is_kept_sealed_and_opens_for_the_team_s_builds(keyed: World) -> None:
    platform, actor = keyed.platform, keyed.actor
    await save_token(platform, actor, "Git.example:8443", TOKEN, account="bot")
    row = await platform.db.fetch_one("fetch_git_token", actor.team_id, "git.example:8443")
    assert row is not None
    assert TOKEN.encode() not in bytes(row["value"])
    access = await find_access(platform, actor.team_id, SOURCE)
    assert access is not None
    assert (access.origin, access.account, access.token) == ("https://git.example:8443", "bot", TOKEN)
    assert [(one["host"], one["account"]) for one in await list_tokens(platform, actor)] == [
        ("git.example:8443", "bot")
    ]


async def test_nobody_else_s_build_gets_it(keyed: World) -> None:
    platform, actor = keyed.platform, keyed.actor
    await save_token(platform, actor, "git.example:8443", TOKEN)
    stranger = await add_actor(platform)
    assert await find_access(platform, stranger.team_id, SOURCE) is None
    for source in (
        replace(SOURCE, fork="eve/x"), replace(SOURCE, url="https://git.example/me/x.git"), Source("upload"),
        replace(SOURCE, url="https://evil.git.example:8443/x"),
    ):  # fmt: skip
        assert await find_access(platform, actor.team_id, source) is None
    with pytest.raises(NotFound):
        await delete_token(platform, stranger, "git.example:8443")
    with pytest.raises(Forbidden):
        await save_token(platform, Actor(actor.user_id, actor.team_id, "developer"), "git.example", TOKEN)


async def test_a_value_moved_to_another_row_does_not_open(keyed: World) -> None:
    platform, actor = keyed.platform, keyed.actor
    await save_token(platform, actor, "git.example:8443", TOKEN)
    row = await platform.db.fetch_one("fetch_git_token", actor.team_id, "git.example:8443")
    assert row is not None
    await platform.db.fetch_one("save_git_token", "gtk_other", actor.team_id, "git.example:8443", "x", row["value"])
    with pytest.raises(Invalid, match="another row"):
        await find_access(platform, actor.team_id, SOURCE)


async def test_a_newer_token_takes_its_place_and_is_forgotten(keyed: World) -> None:
    platform, actor = keyed.platform, keyed.actor
    for token in (TOKEN, "newer-token"):
        await save_token(platform, actor, "git.example:8443", token)
    access = await find_access(platform, actor.team_id, SOURCE)
    assert access is not None
    assert access.token == "newer-token"
    await delete_token(platform, actor, "git.example:8443")
    assert await find_access(platform, actor.team_id, SOURCE) is None
    assert await list_tokens(platform, actor) == []


async def test_what_can_t_be_a_token_is_refused_field_by_field(keyed: World) -> None:
    with pytest.raises(InvalidFields) as caught:
        await save_token(keyed.platform, keyed.actor, "a/b", "short", account="a b")
    assert [problem.field for problem in caught.value.problems] == ["host", "token", "account"]
    assert "short" not in str(caught.value)
