"""Protection kept in PostgreSQL: what edges are told of each host, when, and what survives what."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import SecretStr

from vclone_core.actions import deployments, keys, projects, protection, publishing, teams
from vclone_core.errors import Conflict, Forbidden, InvalidFields, Limited, NotFound
from vclone_core.models import Actor, Covers, Project, Protection
from vclone_core.rules.passes import Way, hash_bypass, hash_secret, read_pass
from vclone_core.rules.sealing import parse_ring
from vclone_core.settings import Settings
from vclone_core.stores import events

from .conftest import World, add_actor


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"secret_key": SecretStr("s" * 40)})


async def told(world: World, host: str) -> Protection | None:
    """What an edge is told of a host that asks; the same must have been pushed."""
    site = await deployments.resolve_host(world.platform, host)
    assert site is not None
    moves = await events.read_moves(world.platform.db, site.version - 1)
    pushed = moves[0].site
    assert pushed is not None
    assert (pushed.host, pushed.version, pushed.deployment_id) == (host, site.version, site.deployment_id)
    assert pushed == site
    return site.protection


async def hosts_of(world: World, project: Project) -> dict[str, str]:
    aliases = await deployments.list_aliases(world.platform, world.actor, project)
    return {alias.kind.value: alias.host for alias in aliases}


async def test_the_switch_is_told_host_by_host(world: World) -> None:
    project = await world.project()
    await world.build(project)
    hosts = await hosts_of(world, project)
    other = await world.project()
    await world.build(other)
    quiet = (await hosts_of(world, other))["production"]
    before = await events.current_version(world.platform.db)
    assert {await told(world, host) for host in hosts.values()} == {None}
    for covers, covered in [
        (Covers.PREVIEWS, {"branch", "deployment"}),
        (Covers.EVERYTHING, {"branch", "deployment", "production"}),
        (Covers.OFF, set()),
    ]:
        policy, _ = await protection.set_covers(world.platform, world.actor, project, covers)
        assert policy.covers is covers
        assert {kind for kind, host in hosts.items() if await told(world, host)} == covered
        assert await told(world, quiet) is None
    # Each host once a change, and nobody else's.
    moves = await events.read_moves(world.platform.db, before)
    assert [move.host for move in moves] == sorted(hosts.values()) * 3


async def test_what_is_published_later_is_protected_from_its_first_moment(world: World) -> None:
    project = await world.project()
    await protection.set_covers(world.platform, world.actor, project, Covers.PREVIEWS)
    before = await events.current_version(world.platform.db)
    deployment = await world.build(project, "feature")
    moves = await events.read_moves(world.platform.db, before)
    assert len(moves) == 2
    for move in moves:
        assert move.site is not None and move.site.protection is not None
        assert move.site.protection.members == 1 and move.site.protection.password is None
        assert await told(world, move.host) == move.site.protection
    await publishing.promote(world.platform, world.actor, deployment.id)
    assert await told(world, f"{project.name}.localhost") is None


async def test_a_change_of_protection_is_no_step_of_the_history(world: World) -> None:
    project = await world.project()
    first, second, third = [(await world.build(project)).id for _ in range(3)]
    await publishing.rollback(world.platform, world.actor, project)
    host = f"{project.name}.localhost"
    before = await deployments.resolve_host(world.platform, host)
    for covers in (Covers.EVERYTHING, Covers.OFF):
        await protection.set_covers(world.platform, world.actor, project, covers)
    after = await deployments.resolve_host(world.platform, host)
    assert before is not None and after is not None
    assert (after.previous_deployment_id, after.newest_deployment_id) == (third, third)
    assert after.version > before.version
    assert after.deployment_id == before.deployment_id == second
    await publishing.rollback(world.platform, world.actor, project)
    shown = await deployments.resolve_host(world.platform, host)
    assert shown is not None and shown.deployment_id == first


async def test_generations_end_what_was_opened(world: World) -> None:
    platform, actor, project = world.platform, world.actor, await world.project()
    await world.build(project)
    host = (await hosts_of(world, project))["deployment"]
    await protection.set_covers(platform, actor, project, Covers.PREVIEWS)
    seen = []
    for change in (
        lambda: protection.set_password(platform, actor, project, "open-sesame"),
        lambda: protection.set_password(platform, actor, project, "open-sesame"),
        lambda: protection.end_passes(platform, actor, project),
        lambda: protection.set_password(platform, actor, project, None),
        lambda: protection.set_password(platform, actor, project, "open-sesame"),
    ):
        await change()
        found = await told(world, host)
        assert found is not None
        seen.append((found.members, found.password))
    assert seen == [(1, 2), (1, 3), (2, 4), (2, None), (2, 6)]
    with pytest.raises(InvalidFields):
        await protection.set_password(platform, actor, project, "short")


async def test_a_pass_is_signed_for_host_and_browser(world: World) -> None:
    platform, project = world.platform, await world.project()
    await world.build(project)
    host = (await hosts_of(world, project))["deployment"]
    await protection.set_covers(platform, world.actor, project, Covers.PREVIEWS)
    entrance = await protection.find_entrance(platform, host)
    url = await protection.enter_as_member(platform, entrance, world.actor.user_id, visitor="v" * 43, path="/a?b")
    assert url.startswith(f"http://{host}:8080/.well-known/vclone/enter?grant=")
    grant, _, to = url.partition("grant=")[2].partition("&to=")
    found = await told(world, host)
    assert found is not None and to == "%2Fa%3Fb"
    made = read_pass(found.key, grant)
    assert made is not None
    assert (made.way, made.host, made.generation, made.visitor) == (Way.MEMBER, host, 1, "v" * 43)
    assert made.ends_s - made.made_s == 12 * 3600


async def test_who_may_see_the_project_is_let_in_and_nobody_else(world: World) -> None:
    platform, project = world.platform, await world.project()
    await world.build(project)
    hidden = await world.project()
    host = (await hosts_of(world, project))["deployment"]
    await protection.set_covers(platform, world.actor, project, Covers.PREVIEWS)
    entrance = await protection.find_entrance(platform, host)

    async def is_let_in(user: Actor) -> bool:
        try:
            await protection.enter_as_member(platform, entrance, user.user_id, visitor="v" * 43)
        except Forbidden as error:
            assert project.name not in error.sentence + error.advice
            return False
        return True

    member = await add_actor(platform)
    assert not await is_let_in(member)
    await platform.db.execute("insert_member", world.actor.team_id, member.user_id, "viewer")
    assert await is_let_in(member)
    before = await told(world, host)
    await teams.change_member(platform, world.actor, member.user_id, projects=[hidden.name])
    assert not await is_let_in(member)
    between = await told(world, host)
    await teams.change_member(platform, world.actor, member.user_id, projects=[hidden.name, project.name])
    assert await is_let_in(member)
    await teams.remove_member(platform, world.actor, member.user_id)
    assert not await is_let_in(member)
    after = await told(world, host)
    # What a member opened while it was allowed is closed with the access.
    assert before is not None and between is not None and after is not None
    assert before.members is not None and between.members is not None and after.members is not None
    assert before.members < between.members < after.members
    assert await is_let_in(world.actor)
    assert not await is_let_in(Actor("usr_none", world.actor.team_id, "owner"))


async def test_share_links_are_told_to_their_host_alone(world: World) -> None:
    platform, actor, project = world.platform, world.actor, await world.project()
    one, two = await world.build(project, "feature"), await world.build(project, "feature")
    aliases = await deployments.list_aliases(platform, actor, project, [one.id, two.id])
    branch = next(alias.host for alias in aliases if alias.kind == "branch")
    with pytest.raises(Conflict):
        await protection.create_link(platform, actor, project, of="feature")
    await protection.set_covers(platform, actor, project, Covers.PREVIEWS)
    with pytest.raises(NotFound):
        await protection.create_link(platform, actor, project, of="none")
    with pytest.raises(InvalidFields):
        await protection.create_link(platform, actor, project, of="feature", days=0)
    link, url = await protection.create_link(platform, actor, project, of="feature", name="Ann")
    assert link.host == branch
    assert url.startswith(f"http://{branch}:8080/?_vclone_share=")
    own, _ = await protection.create_link(platform, actor, project, of=one.id)
    found = {alias.host: await told(world, alias.host) for alias in aliases}
    assert {host: told.links for host, told in found.items() if told} == {
        alias.host: (link.id,) if alias.host == branch else (own.id,) if alias.host == own.host else ()
        for alias in aliases
    }
    told_of_branch = found[branch]
    assert told_of_branch is not None
    made = read_pass(told_of_branch.key, url.partition("=")[2])
    assert made is not None and (made.way, made.host, made.link) == (Way.LINK, branch, link.id)
    assert [one.id for one in await protection.list_links(platform, actor, project)] == [own.id, link.id]
    assert (await protection.delete_link(platform, actor, project, link.id))[0] == branch
    after = await told(world, branch)
    assert after is not None and after.links == ()
    with pytest.raises(NotFound):
        await protection.delete_link(platform, actor, project, link.id)
    # Another build of the branch keeps the link of the branch; another team's project has none of it.
    again, _ = await protection.create_link(platform, actor, project, of=branch)
    await world.build(project, "feature")
    kept = await told(world, branch)
    assert kept is not None and kept.links == (again.id,)
    stranger, theirs = await world.team_project()
    with pytest.raises(NotFound):
        await protection.create_link(platform, stranger, theirs, of=branch)
    with pytest.raises(NotFound):
        await protection.delete_link(platform, stranger, theirs, again.id)


async def test_links_are_limited_and_gone_with_their_host(world: World) -> None:
    platform, actor, project = world.platform, world.actor, await world.project()
    kept, gone = await world.build(project, "feature"), await world.build(project, "other")
    await world.build(project, "other")
    await protection.set_covers(platform, actor, project, Covers.PREVIEWS)
    for _ in range(protection.LINKS_OF_HOST):
        await protection.create_link(platform, actor, project, of=kept.id)
    with pytest.raises(Limited):
        await protection.create_link(platform, actor, project, of=kept.id)
    await protection.create_link(platform, actor, project, of=gone.id)
    assert len(await protection.list_links(platform, actor, project)) == protection.LINKS_OF_HOST + 1
    assert await publishing.remove_deployment(platform, gone.id)
    assert len(await protection.list_links(platform, actor, project)) == protection.LINKS_OF_HOST
    await projects.delete_project(platform, actor, project)
    assert await platform.db.fetch("list_share_links", project.id) == []
    assert await platform.db.fetch_one("fetch_policy", project.id) is None


async def test_automations_secret_is_kept_hashed_and_replaced(world: World) -> None:
    platform, actor, project = world.platform, world.actor, await world.project()
    await world.build(project)
    host = (await hosts_of(world, project))["deployment"]
    await protection.set_covers(platform, actor, project, Covers.PREVIEWS)
    first, _ = await protection.make_bypass(platform, actor, project)
    second, _ = await protection.make_bypass(platform, actor, project)
    found = await told(world, host)
    assert first != second and found is not None
    assert found.bypass == hash_bypass(hash_secret(second))
    async with platform.db._pool.acquire() as connection:
        row = await connection.fetchrow("select * from project_protection where project_id = $1", project.id)
    assert second not in str(dict(row)) and hash_secret(second) not in str(dict(row))
    await protection.remove_bypass(platform, actor, project)
    found = await told(world, host)
    assert found is not None and found.bypass is None


async def test_signing_keys_are_sealed_and_sealed_anew(world: World) -> None:
    platform, actor, project = world.platform, world.actor, await world.project()
    await world.build(project)
    await protection.set_covers(platform, actor, project, Covers.PREVIEWS)
    ring = parse_ring("new:" + "A" * 43 + "=", fallback=platform.settings.secret_key.get_secret_value())
    before = await platform.db.fetch_one("fetch_signing_key", project.id)
    rotation = await keys.seal_anew(platform.db, ring)
    after = await platform.db.fetch_one("fetch_signing_key", project.id)
    assert rotation.sealed >= 1 and not rotation.unreadable
    assert before is not None and after is not None
    assert bytes(after["signing_key"]).startswith(b"v1.new.") and before != after


async def test_visitors_are_sent_where_the_api_says_it_is(world: World) -> None:
    """Not where a worker, which publishes, takes it to be."""
    platform, project = world.platform, await world.project()
    await world.build(project)
    host = (await hosts_of(world, project))["deployment"]
    await protection.set_covers(platform, world.actor, project, Covers.PREVIEWS)
    found = await told(world, host)
    assert found is not None and found.enter_url == "http://127.0.0.1:9000/enter"
    moved = platform.settings.model_copy(update={"api_url": "https://vclone.example/"})
    await protection.note_enter_url(replace(platform, settings=moved))
    site = await deployments.resolve_host(platform, host)
    assert site is not None and site.protection is not None
    assert site.protection.enter_url == "https://vclone.example/enter"
    await world.build(project, "feature")
    later = await told(world, f"{project.name}-git-feature.localhost")
    assert later is not None and later.enter_url == "https://vclone.example/enter"


async def test_viewers_change_nothing(world: World) -> None:
    platform, project = world.platform, await world.project()
    viewer = Actor(world.actor.user_id, world.actor.team_id, "viewer")
    for refused in (
        protection.set_covers(platform, viewer, project, Covers.OFF),
        protection.set_password(platform, viewer, project, "open-sesame"),
        protection.end_passes(platform, viewer, project),
        protection.make_bypass(platform, viewer, project),
        protection.remove_bypass(platform, viewer, project),
        protection.create_link(platform, viewer, project, of="main"),
        protection.delete_link(platform, viewer, project, "shr_x"),
    ):
        with pytest.raises(Forbidden):
            await refused
    assert (await protection.show_policy(platform, viewer, project)).covers is Covers.OFF
