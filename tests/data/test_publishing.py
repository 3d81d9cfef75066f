"""Publishing, promoting and rolling back: aliases move in one transaction, and every move has its place in one row."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from vclone_core.actions import deployments, publishing
from vclone_core.actions.projects import create_project, find_project, update_project
from vclone_core.build.opening import fetch_previous_manifests
from vclone_core.errors import (
    Forbidden,
    NameTaken,
    NoEarlierDeployment,
    NotFound,
    PublishFailed,
    Unavailable,
    WrongState,
)
from vclone_core.models import Actor, AliasKind, Deployment, Project, State, Target
from vclone_core.rules.lifecycle import Event
from vclone_core.rules.manifests import decode_manifest
from vclone_core.rules.names import branch_host, deployment_host
from vclone_core.rules.objectkeys import manifest_key
from vclone_core.stores import buildlogs, events, queue, records
from vclone_core.stores.postgres import Database

from .conftest import World, add_actor, manifest_of
from .faults import Wire


async def live(world: World, project: Project) -> str | None:
    """The deployment that the project's production host shows."""
    site = await deployments.resolve_host(world.platform, f"{project.name}.localhost")
    return None if site is None else site.deployment_id


async def history(world: World, project: Project) -> list[tuple[str | None, str]]:
    """(previous, shown) of each move of the production host, oldest first."""
    async with world.platform.db._pool.acquire() as connection:
        rows = await connection.fetch(
            "select previous_deployment_id, deployment_id from alias_history"
            " where kind = 'production' and project_id = $1 order by version",
            project.id,
        )
    return [(row[0], row[1]) for row in rows]


@pytest.mark.product("B1.1")
async def test_a_finished_build_takes_its_hosts(world: World) -> None:
    project = await world.project("shop")
    deployment = await world.build(project)
    assert (deployment.state, deployment.file_count, deployment.size_bytes) == (State.READY, 1, 5)
    assert deployment.step_seconds["publish"] < 5
    aliases = await deployments.list_aliases(world.platform, world.actor, project, [deployment.id])
    assert {alias.host: alias.kind for alias in aliases} == {
        "shop.localhost": AliasKind.PRODUCTION,
        deployment_host("shop", deployment.id, "localhost"): AliasKind.DEPLOYMENT,
        branch_host("shop", "main", "localhost"): AliasKind.BRANCH,
    }
    for alias in aliases:
        site = await deployments.resolve_host(world.platform, alias.host)
        assert site is not None
        assert (site.deployment_id, site.kind, site.version) == (deployment.id, alias.kind, alias.version)
        assert site.manifest_key == manifest_key(project.id, deployment.id)
    lines = await buildlogs.read(world.platform.db, deployment.id)
    assert "Live at http://shop.localhost:8080" in [line.text for line in lines]
    found = await deployments.find_deployment(world.platform, world.actor, "shop.localhost")
    assert found.id == deployment.id


async def test_a_site_tells_what_its_host_showed_before(world: World) -> None:
    """B11: pages of it may still be open, also after a rollback."""
    project = await world.project("shop")
    start = await events.current_version(world.platform.db)
    first, second = await world.build(project), await world.build(project)
    await deployments.rollback(world.platform, world.actor, project)
    moves = await events.read_moves(world.platform.db, start)
    shown = [move.site for move in moves if move.host == "shop.localhost" and move.site is not None]
    assert [(site.deployment_id, site.previous_deployment_id) for site in shown] == [
        (first.id, None),
        (second.id, first.id),
        (first.id, second.id),
    ]
    assert await deployments.resolve_host(world.platform, "shop.localhost") == shown[-1]


async def test_a_site_tells_the_newest_that_its_host_showed(world: World) -> None:
    """B11: two steps back, and the pages of the newest build are still open."""
    project = await world.project("shop")
    built = [await world.build(project) for _ in range(3)]
    for _ in range(2):
        await deployments.rollback(world.platform, world.actor, project)
    site = await deployments.resolve_host(world.platform, "shop.localhost")
    assert site is not None
    assert (site.deployment_id, site.shown_before) == (built[0].id, (built[1].id, built[2].id))
    start = await events.current_version(world.platform.db)
    await deployments.promote(world.platform, world.actor, built[2].id)
    moves = await events.read_moves(world.platform.db, start)
    assert [move.site.shown_before for move in moves if move.site and move.host == "shop.localhost"] == [(built[0].id,)]
    branch = await deployments.resolve_host(world.platform, "shop-git-main.localhost")
    assert branch is not None and branch.newest_deployment_id is None


async def test_manifests_before_are_the_newest_and_those_that_are_shown(world: World) -> None:
    project = await world.project("shop")
    built = [await world.build(project) for _ in range(3)]
    await deployments.rollback(world.platform, world.actor, project, built[0].id)
    await world.deploy(project)
    claim = await world.claim(slots=64)
    found = await fetch_previous_manifests(world.platform, claim)
    assert [manifest.deployment_id for manifest in found] == [built[2].id, built[0].id]
    await world.platform.objects.delete([manifest_key(project.id, built[2].id)])
    found = await fetch_previous_manifests(world.platform, claim)
    assert [manifest.deployment_id for manifest in found] == [built[0].id]


async def test_the_newest_that_was_shown_counts_also_two_steps_back_and_a_preview_later(world: World) -> None:
    project = await world.project("shop")
    built = [await world.build(project) for _ in range(3)]
    for _ in range(2):
        await deployments.rollback(world.platform, world.actor, project)
    # Its build may have begun before the newest was ready: it need not know those files.
    preview = await world.build(project, "feature")
    await world.deploy(project)
    found = await fetch_previous_manifests(world.platform, await world.claim(slots=64))
    # The branch still shows the third.
    assert [manifest.deployment_id for manifest in found] == [preview.id, built[2].id, built[0].id]
    await world.deploy(project, "other")
    found = await fetch_previous_manifests(world.platform, await world.claim("w2", slots=64))
    assert built[2].id in {manifest.deployment_id for manifest in found}


async def test_what_is_live_has_its_manifest_in_the_store(world: World) -> None:
    project = await world.project()
    deployment = await world.build(project)
    async with world.platform.objects.open(manifest_key(project.id, deployment.id)) as body:
        data = b"".join([chunk async for chunk in body.chunks])
    assert decode_manifest(data).deployment_id == deployment.id


async def test_a_manifest_is_never_replaced_and_what_is_live_is_what_is_stored(world: World) -> None:
    project = await world.project()
    await world.deploy(project)
    claim = await world.claim()
    first, second = manifest_of(claim, "one"), manifest_of(claim, "longer")
    await publishing._store_manifest(world.platform, first)
    published = await deployments.publish(world.platform, claim, second)
    assert published.deployment.size_bytes == len("one")


async def test_a_preview_takes_no_production_host(world: World) -> None:
    project = await world.project()
    deployment = await world.build(project, "feat/x")
    assert deployment.target is Target.PREVIEW
    assert await live(world, project) is None
    assert len(await deployments.list_aliases(world.platform, world.actor, project)) == 2


async def test_an_older_deployment_never_overtakes_a_newer_one(world: World) -> None:
    project = await world.project()
    older, newer = await world.deploy(project), await world.deploy(project)
    claims = {claim.deployment.id: claim for claim in [await world.claim(slots=2) for _ in range(2)]}
    for deployment in (newer, older):
        claim = claims[deployment.id]
        published = await deployments.publish(world.platform, claim, manifest_of(claim))
        assert published.deployment.state is State.READY
    assert await live(world, project) == newer.id
    branch = await deployments.resolve_host(world.platform, branch_host(project.name, "main", "localhost"))
    assert branch is not None and branch.deployment_id == newer.id
    own = await deployments.resolve_host(world.platform, deployment_host(project.name, older.id, "localhost"))
    assert own is not None and own.deployment_id == older.id


async def test_builds_that_finish_at_once_leave_the_newest_in_production(world: World) -> None:
    project = await world.project()
    wanted = [await world.deploy(project) for _ in range(20)]
    claims = [await world.claim(slots=20) for _ in wanted]
    random.Random(7).shuffle(claims)
    await asyncio.gather(*(deployments.publish(world.platform, claim, manifest_of(claim)) for claim in claims))
    assert await live(world, project) == wanted[-1].id
    moves = await history(world, project)
    sequences = {deployment.id: deployment.sequence for deployment in wanted}
    shown = [sequences[deployment_id] for _, deployment_id in moves]
    assert shown == sorted(shown)


async def test_fifty_promotes_at_once_leave_one_production_and_a_linear_history(world: World) -> None:
    project = await world.project()
    built = [await world.build(project) for _ in range(5)]
    counts: list[int] = []

    async def count() -> None:
        async with world.platform.db._pool.acquire() as connection:
            while True:
                counts.append(
                    await connection.fetchval(
                        "select count(*) from aliases where project_id = $1 and kind = 'production'", project.id
                    )
                )

    counter = asyncio.create_task(count())
    await asyncio.gather(
        *(deployments.promote(world.platform, world.actor, built[number % 5].id) for number in range(40)),
        *(deployments.rollback(world.platform, world.actor, project, built[number % 5].id) for number in range(10)),
    )
    counter.cancel()
    await asyncio.wait({counter})
    assert set(counts) == {1}
    moves = await history(world, project)
    assert moves[0][0] is None
    assert [previous for previous, _ in moves[1:]] == [shown for _, shown in moves[:-1]]
    assert all(previous != shown for previous, shown in moves)
    assert await live(world, project) == moves[-1][1]


async def test_rollback_goes_back_step_by_step_and_pauses_publishing(world: World) -> None:
    project = await world.project()
    first, second, third = [await world.build(project) for _ in range(3)]
    await deployments.rollback(world.platform, world.actor, project)
    assert await live(world, project) == second.id
    assert (await find_project(world.platform, world.actor, project.name)).is_publishing_paused
    fourth = await world.build(project)
    assert await live(world, project) == second.id
    await deployments.rollback(world.platform, world.actor, project)
    assert await live(world, project) == first.id
    with pytest.raises(NoEarlierDeployment):
        await deployments.rollback(world.platform, world.actor, project)
    assert await live(world, project) == first.id
    await deployments.rollback(world.platform, world.actor, project, to=third.id)
    assert await live(world, project) == third.id
    # Promoting undoes the pause.
    await deployments.promote(world.platform, world.actor, fourth.id)
    assert not (await find_project(world.platform, world.actor, project.name)).is_publishing_paused
    fifth = await world.build(project)
    assert await live(world, project) == fifth.id


async def test_the_pause_can_be_lifted_by_hand(world: World) -> None:
    project = await world.project()
    await world.build(project)
    await world.build(project)
    await deployments.rollback(world.platform, world.actor, project)
    paused = await find_project(world.platform, world.actor, project.id)
    assert not (
        await update_project(world.platform, world.actor, paused, is_publishing_paused=False)
    ).is_publishing_paused
    newest = await world.build(project)
    assert await live(world, project) == newest.id


async def test_rollback_with_nothing_before_says_so(world: World) -> None:
    project = await world.project()
    with pytest.raises(NoEarlierDeployment, match="no earlier production deployment"):
        await deployments.rollback(world.platform, world.actor, project)
    await world.build(project)
    with pytest.raises(NoEarlierDeployment):
        await deployments.rollback(world.platform, world.actor, project)
    assert not (await find_project(world.platform, world.actor, project.id)).is_publishing_paused


async def test_only_what_is_ready_is_promoted(world: World) -> None:
    project = await world.project()
    good = await world.build(project)
    queued = await world.deploy(project)
    with pytest.raises(WrongState, match="is queued; this needs it to be ready"):
        await deployments.promote(world.platform, world.actor, queued.id)
    claim = await world.claim()
    await queue.finish(world.platform.db, claim, Event.FAIL)
    with pytest.raises(WrongState, match="is failed"):
        await deployments.rollback(world.platform, world.actor, project, to=queued.id)
    assert await live(world, project) == good.id


async def test_another_teams_deployment_is_none(world: World) -> None:
    project = await world.project()
    deployment = await world.build(project)
    stranger = await add_actor(world.platform)
    with pytest.raises(NotFound):
        await deployments.promote(world.platform, stranger, deployment.id)
    with pytest.raises(NotFound):
        await deployments.rollback(world.platform, stranger, project)
    with pytest.raises(NotFound):
        await deployments.find_deployment(world.platform, stranger, deployment.id)
    with pytest.raises(NotFound):
        await deployments.find_deployment(world.platform, stranger, f"{project.name}.localhost")
    other = await world.build(await world.project())
    with pytest.raises(NotFound):
        await deployments.rollback(world.platform, world.actor, project, to=other.id)


async def test_a_viewer_only_looks(world: World) -> None:
    project = await world.project()
    deployment = await world.build(project)
    viewer = Actor(world.actor.user_id, world.actor.team_id, "viewer")
    assert (await deployments.find_deployment(world.platform, viewer, deployment.id)).id == deployment.id
    for forbidden in (
        deployments.promote(world.platform, viewer, deployment.id),
        deployments.rollback(world.platform, viewer, project),
        deployments.cancel(world.platform, viewer, deployment.id),
        deployments.redeploy(world.platform, viewer, deployment.id),
        create_project(world.platform, viewer, "more"),
    ):
        with pytest.raises(Forbidden):
            await forbidden


async def test_a_host_of_another_project_is_not_taken(world: World) -> None:
    shop = await world.project("shop")
    deployment = await world.build(shop)
    own = deployment_host("shop", deployment.id, "localhost").removesuffix(".localhost")
    with pytest.raises(NameTaken):
        await create_project(world.platform, world.actor, own)
    # Where the other project was there first, publishing says so and changes nothing.
    squatter = await world.project("shop-git-x")
    await world.build(squatter)
    await world.deploy(shop, "x")
    claim = await world.claim()
    with pytest.raises(PublishFailed, match=r"shop-git-x\.localhost belongs to another project"):
        await deployments.publish(world.platform, claim, manifest_of(claim))
    assert (await records.fetch_deployment_by_id(world.platform.db, claim.deployment.id)) == claim.deployment
    assert await live(world, squatter) != claim.deployment.id


async def test_publishing_again_after_a_lost_answer_finds_what_was_committed(
    world: World, wire: Wire, wired_db: Database
) -> None:
    project = await world.project()
    await world.deploy(project)
    claim = await world.claim()
    wired = replace(world.platform, db=wired_db)
    wire.set("cut")
    with pytest.raises(Unavailable):
        await deployments.publish(wired, claim, manifest_of(claim))
    assert await live(world, project) is None
    wire.set("pass")
    wire.swallow_commit = True
    with pytest.raises(Unavailable):
        await deployments.publish(wired, claim, manifest_of(claim))
    wire.set("pass")
    assert await live(world, project) == claim.deployment.id
    first = await deployments.publish(wired, claim, manifest_of(claim))
    again = await deployments.publish(wired, claim, manifest_of(claim))
    assert again.deployment == first.deployment
    assert again.version == first.version
    assert await live(world, project) == claim.deployment.id
    assert len(await history(world, project)) == 1


async def test_promoting_what_is_live_moves_nothing(world: World) -> None:
    project = await world.project()
    deployment: Deployment = await world.build(project)
    assert await deployments.promote(world.platform, world.actor, deployment.id) == ()
    assert len(await history(world, project)) == 1
