"""Projects, their blobs, and the deployments that uploads ask for."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from vclone_core.actions import deployments, projects
from vclone_core.errors import EmptySource, Invalid, InvalidFields, Limited, MissingBlobs, NameTaken, NotFound
from vclone_core.models import Source, SourceFile, State, Target
from vclone_core.rules.objectkeys import blob_key
from vclone_core.stores import records

from .conftest import World, add_actor


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def file(path: str, data: bytes) -> SourceFile:
    return SourceFile(path, sha(data), len(data))


async def store(world: World, project_id: str, *blobs: bytes) -> None:
    for data in blobs:
        await projects.store_blob(world.platform, project_id, sha(data), len(data), data)


async def test_a_project_is_found_by_name_and_id_within_its_team(world: World) -> None:
    project = await projects.create_project(world.platform, world.actor, "shop", git_url="https://git.example/shop")
    assert await projects.find_project(world.platform, world.actor, "shop") == project
    assert await projects.find_project(world.platform, world.actor, project.id) == project
    stranger = await add_actor(world.platform)
    for name in ("shop", project.id):
        with pytest.raises(NotFound):
            await projects.find_project(world.platform, stranger, name)
    with pytest.raises(NameTaken, match="The name shop is taken"):
        await projects.create_project(world.platform, stranger, "shop")
    assert await projects.list_projects(world.platform, stranger) == []


async def test_a_name_is_taken_once_by_many_at_once(world: World) -> None:
    results = await asyncio.gather(
        *(projects.create_project(world.platform, world.actor, "shop") for _ in range(10)), return_exceptions=True
    )
    assert sum(isinstance(result, NameTaken) for result in results) == 9


async def test_projects_come_in_pages(world: World) -> None:
    made = [await world.project() for _ in range(5)]
    first = await projects.list_projects(world.platform, world.actor, limit=3)
    rest = await projects.list_projects(world.platform, world.actor, limit=3, before=first[-1].id)
    assert sorted(first + rest, key=lambda project: project.id) == sorted(made, key=lambda project: project.id)
    assert (len(first), len(rest)) == (3, 2)


async def test_a_deleted_projects_name_is_free_again(world: World) -> None:
    project = await world.project("shop")
    await world.build(project)
    await projects.delete_project(world.platform, world.actor, project)
    with pytest.raises(NotFound):
        await projects.find_project(world.platform, world.actor, "shop")
    with pytest.raises(NotFound):
        await projects.delete_project(world.platform, world.actor, project)
    with pytest.raises(NotFound):
        await world.deploy(project)
    again = await world.project("shop")
    deployment = await world.build(again)
    site = await deployments.resolve_host(world.platform, "shop.localhost")
    assert site is not None and site.deployment_id == deployment.id


async def test_settings_change_by_field_and_problems_come_all_at_once(world: World) -> None:
    project = await world.project()
    changed = await projects.update_project(
        world.platform, world.actor, project, settings={"build_command": "make", "root_directory": "web"}
    )
    assert (changed.settings.build_command, changed.settings.root_directory) == ("make", "web")
    kept = await projects.update_project(world.platform, world.actor, changed, settings={"build_command": None})
    assert (kept.settings.build_command, kept.settings.root_directory) == (None, "web")
    with pytest.raises(InvalidFields) as caught:
        await projects.update_project(
            world.platform,
            world.actor,
            kept,
            settings={"colour": "red", "root_directory": None, "framework": 3, "build_network": "all"},
        )
    assert [problem.field for problem in caught.value.problems] == [
        "settings.colour",
        "settings.root_directory",
        "settings.framework",
        "settings.build_network",
    ]


async def test_overrides_hold_for_one_deployment(world: World) -> None:
    project = await world.project()
    deployment = await world.deploy(project, overrides={"build_command": "make once"})
    claim = await world.claim()
    assert claim.project.settings.build_command == "make once"
    assert (await projects.find_project(world.platform, world.actor, project.id)).settings.build_command is None
    again = await deployments.redeploy(world.platform, world.actor, deployment.id)
    assert (await world.claim(slots=2)).project.settings.build_command == "make once"
    assert again.sequence == deployment.sequence + 1


async def test_only_missing_blobs_are_named(world: World) -> None:
    project, other = await world.project(), await world.project()
    await store(world, project.id, b"one", b"two")
    hashes = [sha(b"three"), sha(b"one"), sha(b"four"), sha(b"three")]
    missing = await projects.missing_blobs(world.platform, world.actor, project, hashes)
    assert missing == [sha(b"three"), sha(b"four")]
    # What one project has is missing in every other.
    assert await projects.missing_blobs(world.platform, world.actor, other, [sha(b"one")]) == [sha(b"one")]


async def test_asking_counts_as_needing(world: World) -> None:
    project = await world.project()
    await store(world, project.id, b"old", b"unasked")
    async with world.platform.db._pool.acquire() as connection:
        await connection.execute("update blobs set last_needed_at = now() - interval '9 days'")
        await projects.missing_blobs(world.platform, world.actor, project, [sha(b"old")])
        fresh = await connection.fetch("select sha256 from blobs where last_needed_at > now() - interval '1 minute'")
    assert [row["sha256"] for row in fresh] == [sha(b"old")]


async def test_twenty_five_thousand_hashes_are_asked_at_once_and_not_one_more(world: World) -> None:
    project = await world.project()
    hashes = [f"{number:064x}" for number in range(25_001)]
    assert len(await projects.missing_blobs(world.platform, world.actor, project, hashes[:-1])) == 25_000
    with pytest.raises(Limited):
        await projects.missing_blobs(world.platform, world.actor, project, hashes)
    with pytest.raises(InvalidFields):
        await projects.missing_blobs(world.platform, world.actor, project, ["../etc/passwd"])


async def test_a_blob_with_another_hash_is_not_stored(world: World) -> None:
    project = await world.project()
    with pytest.raises(Invalid):
        await projects.store_blob(world.platform, project.id, sha(b"this"), 4, b"that")
    assert await projects.missing_blobs(world.platform, world.actor, project, [sha(b"this")]) == [sha(b"this")]
    assert await world.platform.objects.head(blob_key(project.id, sha(b"this"))) is None


async def test_an_upload_is_queued_with_its_list_and_the_first_is_for_production(world: World) -> None:
    project = await world.project()
    files = [file("index.html", b"<h1>hi"), file("a/b.css", b"b{}")]
    await store(world, project.id, b"<h1>hi", b"b{}")
    first = await deployments.request_deployment(world.platform, world.actor, project, Source("upload"), files=files)
    assert (first.state, first.target, first.sequence) == (State.QUEUED, Target.PRODUCTION, 1)
    assert set(await records.fetch_source_files(world.platform.db, first.id) or ()) == set(files)
    second = await deployments.request_deployment(world.platform, world.actor, project, Source("upload"), files=files)
    assert (second.target, second.sequence) == (Target.PREVIEW, 2)
    again = await deployments.redeploy(world.platform, world.actor, first.id)
    assert (again.target, again.source) == (Target.PRODUCTION, first.source)
    assert set(await records.fetch_source_files(world.platform.db, again.id) or ()) == set(files)
    stored = [info.key async for info in world.platform.objects.list(f"{project.id}/")]
    assert stored == sorted(blob_key(project.id, one.sha256) for one in files)


async def test_an_upload_whose_first_try_failed_is_for_production_again(world: World) -> None:
    project = await world.project()
    await store(world, project.id, b"x")
    for _ in range(2):
        deployment = await deployments.request_deployment(
            world.platform, world.actor, project, Source("upload"), files=[file("x", b"x")]
        )
        assert deployment.target is Target.PRODUCTION
        await deployments.cancel(world.platform, world.actor, deployment.id)


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ([], EmptySource),
        ([file("missing.txt", b"never sent")], MissingBlobs),
        ([SourceFile("../x", "0" * 64, 1)], InvalidFields),
    ],
)
async def test_an_upload_that_cannot_be_built_leaves_nothing(
    world: World, files: list[SourceFile], error: type[Exception]
) -> None:
    project = await world.project()
    with pytest.raises(error):
        await deployments.request_deployment(world.platform, world.actor, project, Source("upload"), files=files)
    assert await deployments.list_deployments(world.platform, world.actor) == []


async def test_deployments_are_listed_newest_first_by_project_and_state(world: World) -> None:
    project, other = await world.project(), await world.project()
    built = await world.build(project)
    queued = [await world.deploy(project) for _ in range(2)]
    await world.deploy(other)
    mine = await deployments.list_deployments(world.platform, world.actor, project=project)
    assert [deployment.id for deployment in mine] == [queued[1].id, queued[0].id, built.id]
    ready = await deployments.list_deployments(world.platform, world.actor, project=project, state=State.READY)
    assert [deployment.id for deployment in ready] == [built.id]
    page = await deployments.list_deployments(world.platform, world.actor, project=project, limit=1, before=mine[0].id)
    assert page == [mine[1]]


async def test_sequences_have_no_gap_under_concurrent_requests(world: World) -> None:
    project = await world.project()
    made = await asyncio.gather(*(world.deploy(project) for _ in range(30)))
    assert sorted(deployment.sequence for deployment in made) == list(range(1, 31))
