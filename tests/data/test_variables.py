"""Environment variables in the database: sealed, bound to their row, and sealed anew while others write."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from vclone_core.actions import gittokens, variables
from vclone_core.actions.keys import count_by_key, ring_of, seal_anew
from vclone_core.actions.platform import Platform
from vclone_core.actions.projects import delete_project
from vclone_core.errors import BadSettings, Forbidden, Invalid, InvalidFields, NotFound, VariablesUnreadable
from vclone_core.models import Project, Source
from vclone_core.rules.variables import TOTAL_BYTES, NewVariable

from .conftest import World

CANARY = "canary-51c9d2e7-in-the-database"


def new_key(name: str) -> str:
    return f"{name}:{base64.b64encode(secrets.token_bytes(32)).decode()}"


def with_keys(world: World, keys: str) -> World:
    settings = world.platform.settings.model_copy(update={"encryption_keys": SecretStr(keys)})
    return replace(world, platform=replace(world.platform, settings=settings))


@pytest.fixture
def keyed(world: World) -> World:
    return with_keys(world, new_key("k1"))


async def save(world: World, project: Project, key: str, value: str, *targets: str, **more: object) -> None:
    asked = NewVariable(key, value, targets or ("preview",), **more)  # type: ignore[arg-type]
    await variables.save_variables(world.platform, world.actor, project, [asked], replaces=True)


async def values(world: World, project: Project, target: str = "preview", branch: str | None = None) -> dict[str, str]:
    return (await variables.read_values(world.platform, world.actor, project, target=target, branch=branch))[0]


async def test_nothing_readable_is_in_the_database(keyed: World, database_url: str) -> None:
    project = await keyed.project()
    await save(keyed, project, "A", CANARY, "production", "preview", is_sensitive=True)
    await save(keyed, project, "A", CANARY + "2", "preview")
    connection = await asyncpg.connect(database_url)
    try:
        tables = await connection.fetch("select tablename from pg_tables where schemaname = 'public'")
        dump = b""
        for (table,) in tables:
            for row in await connection.fetch(f'select * from "{table}"'):
                dump += b"\n".join(item if isinstance(item, bytes) else str(item).encode() for item in row)
    finally:
        await connection.close()
    assert project.id.encode() in dump
    for spelling in (CANARY.encode(), CANARY.encode().hex().encode(), base64.b64encode(CANARY.encode())[:-4]):
        assert spelling not in dump
    assert await values(keyed, project) == {"A": CANARY + "2"}
    assert await values(keyed, project, "production") == {}  # sensitive


async def test_a_value_moved_to_another_row_does_not_open(keyed: World, database_url: str) -> None:
    project = await keyed.project()
    await save(keyed, project, "A", "one")
    await save(keyed, project, "B", "two")
    connection = await asyncpg.connect(database_url)
    swap = """update environment_variables a set value = b.value from environment_variables b
        where a.project_id = b.project_id and a.id <> b.id"""
    assert await connection.execute(swap) == "UPDATE 2"
    await connection.close()
    assert [one.value for one in await variables.list_variables(keyed.platform, keyed.actor, project)] == [None, None]
    await keyed.deploy(project, "next")
    with pytest.raises(VariablesUnreadable) as caught:
        await variables.read_build_variables(keyed.platform, await keyed.claim())
    assert "belongs to another row" in caught.value.sentence
    # What can't be read can be set anew.
    await save(keyed, project, "A", "three")
    await save(keyed, project, "B", "four")
    assert await values(keyed, project) == {"A": "three", "B": "four"}


async def test_an_old_value_put_back_does_not_open(keyed: World, database_url: str) -> None:
    project = await keyed.project()
    await save(keyed, project, "A", "old")
    connection = await asyncpg.connect(database_url)
    old = await connection.fetchval("select value from environment_variables")
    await save(keyed, project, "A", "new")
    await connection.execute("update environment_variables set value = $1", old)
    await connection.close()
    assert (await variables.list_variables(keyed.platform, keyed.actor, project))[0].value is None


async def test_a_build_gets_its_target_s_and_branch_s_build_variables(keyed: World) -> None:
    project = await keyed.project()
    await save(keyed, project, "A", "production", "production")
    await save(keyed, project, "A", "preview", "preview", is_sensitive=True)
    await save(keyed, project, "A", "of next", "preview", branch="next")
    await save(keyed, project, "RUN", "x", "preview", "production", is_build=False)
    await save(keyed, project, "DEV", "x", "development")
    found = {}
    for branch in ("main", "next", "other"):
        await keyed.deploy(project, branch)
        claim = await keyed.claim(slots=64)
        found[branch] = await variables.read_build_variables(keyed.platform, claim)
    assert found == {"main": {"A": "production"}, "next": {"A": "of next"}, "other": {"A": "preview"}}
    foreign = replace(claim.deployment, source=replace(claim.deployment.source, fork="eve/x"))
    assert await variables.read_build_variables(keyed.platform, replace(claim, deployment=foreign)) == {}


async def test_all_or_none(keyed: World) -> None:
    project = await keyed.project()
    await save(keyed, project, "A", "1")
    asked = [NewVariable("B", "2"), NewVariable("A", "2")]
    with pytest.raises(InvalidFields) as caught:
        await variables.save_variables(keyed.platform, keyed.actor, project, asked)
    assert [(one.field, one.message) for one in caught.value.problems] == [
        ("variables.1.key", "is there already for preview")
    ]
    assert await values(keyed, project) == {"A": "1"}
    await variables.save_variables(keyed.platform, keyed.actor, project, asked, replaces=True)
    assert await values(keyed, project) == {"A": "2", "B": "2"}


async def test_one_deployment_s_variables_have_a_limit(keyed: World) -> None:
    project = await keyed.project()
    half = "x" * (TOTAL_BYTES // 2)
    await save(keyed, project, "A", half)
    await save(keyed, project, "B", half, "production")
    with pytest.raises(InvalidFields) as caught:
        await save(keyed, project, "B", half)
    assert "65,538 bytes for preview" in caught.value.problems[0].message
    assert await values(keyed, project) == {"A": half}


async def test_two_that_write_at_once_do_not_pass_the_limit_together(keyed: World) -> None:
    project = await keyed.project()
    third = "x" * (TOTAL_BYTES * 2 // 5)
    results = await asyncio.gather(*(save(keyed, project, f"K{n}", third) for n in range(4)), return_exceptions=True)
    assert sum(one is None for one in results) == 2
    assert len(await values(keyed, project)) == 2


async def test_a_sensitive_variable_is_not_made_readable(keyed: World) -> None:
    project = await keyed.project()
    await save(keyed, project, "A", "secret", is_sensitive=True)
    (one,) = await variables.list_variables(keyed.platform, keyed.actor, project)
    assert one.value is None
    arguments = (keyed.platform, keyed.actor, project, one.id)
    with pytest.raises(InvalidFields):
        await variables.change_variable(*arguments, is_sensitive=False)
    changed = await variables.change_variable(*arguments, is_build=False)
    assert (changed.value, changed.is_build, changed.version) == (None, False, 2)
    changed = await variables.change_variable(*arguments, is_sensitive=False, value="plain")
    assert (changed.value, changed.version) == ("plain", 3)


async def test_viewers_see_names_and_change_nothing(keyed: World) -> None:
    project = await keyed.project()
    await save(keyed, project, "A", "1")
    viewer = replace(keyed.actor, role="viewer")
    (one,) = await variables.list_variables(keyed.platform, viewer, project)
    assert (one.key, one.value) == ("A", None)
    for refused in (
        variables.read_values(keyed.platform, viewer, project, target="preview"),
        variables.save_variables(keyed.platform, viewer, project, [NewVariable("B", "1")]),
        variables.change_variable(keyed.platform, viewer, project, one.id, value="2"),
        variables.delete_variable(keyed.platform, viewer, project, one.id),
    ):
        with pytest.raises(Forbidden):
            await refused


async def test_a_variable_of_another_project_is_none(keyed: World) -> None:
    project, other = await keyed.project(), await keyed.project()
    await save(keyed, project, "A", "1")
    (one,) = await variables.list_variables(keyed.platform, keyed.actor, project)
    with pytest.raises(NotFound):
        await variables.delete_variable(keyed.platform, keyed.actor, other, one.id)
    with pytest.raises(NotFound):
        await variables.change_variable(keyed.platform, keyed.actor, other, one.id, value="2")
    assert await variables.delete_variable(keyed.platform, keyed.actor, project, one.id) == "A"
    assert await values(keyed, project) == {}


async def test_a_deleted_project_s_variables_are_gone(keyed: World) -> None:
    project = await keyed.project()
    await save(keyed, project, "A", "1")
    await delete_project(keyed.platform, keyed.actor, project)
    assert await keyed.platform.db.fetch("list_variables", project.id) == []
    with pytest.raises(NotFound):
        await save(keyed, project, "A", "1")


async def test_keys_change_while_others_write(world: World, tmp_path: Path) -> None:
    """The file of keys is changed under processes that go on writing; afterwards the old key is needed by nothing."""
    path, first, second = tmp_path / "secrets.json", new_key("k1"), new_key("k2")
    path.write_text(json.dumps({"encryption_keys": first}))
    settings = world.platform.settings.model_copy(update={"secrets_path": path})
    world = replace(world, platform=replace(world.platform, settings=settings))
    projects = [await world.project() for _ in range(2)]
    for number in range(60):
        await save(world, projects[number % 2], f"OLD{number}", f"value {number}")
    await gittokens.save_token(world.platform, world.actor, "git.example", "ghp_0123456789")
    rotated, written = asyncio.Event(), [0, 0]

    async def write(which: int) -> None:
        while not rotated.is_set():
            written[which] += 1
            await save(world, projects[which], f"K{written[which] % 7}", str(written[which]))
            await asyncio.sleep(0)

    writers = [asyncio.create_task(write(which)) for which in range(2)]
    async with asyncio.timeout(60):
        while min(written) < 3:
            await asyncio.sleep(0.01)
        draft = tmp_path / "draft"
        draft.write_text(json.dumps({"encryption_keys": f"{second},{first}"}))
        draft.replace(path)
        before = min(written)
        done = await seal_anew(world.platform.db, ring_of(settings))
        while min(written) < before + 3:
            await asyncio.sleep(0.01)
        rotated.set()
        await asyncio.gather(*writers)
    done_after = await seal_anew(world.platform.db, ring_of(settings))
    assert done.sealed + done_after.sealed >= 61
    assert done.unreadable == done_after.unreadable == ()
    assert set(await count_by_key(world.platform.db)) == {"k2"}
    path.write_text(json.dumps({"encryption_keys": second}))
    access = await gittokens.find_access(
        world.platform, world.actor.team_id, Source("git", url="https://git.example/x.git")
    )
    assert access is not None
    assert access.token == "ghp_0123456789"
    for which, project in enumerate(projects):
        found = await values(world, project)
        assert found[f"K{written[which] % 7}"] == str(written[which])
        assert {found[f"OLD{number}"] for number in range(which, 60, 2)} == {f"value {n}" for n in range(which, 60, 2)}


async def test_what_no_key_opens_is_left_and_named(keyed: World) -> None:
    project = await keyed.project()
    await save(keyed, project, "A", "1")
    lost = with_keys(keyed, new_key("k9"))
    await save(lost, project, "B", "2")
    done = await seal_anew(lost.platform.db, ring_of(lost.platform.settings))
    assert (done.sealed, len(done.unreadable)) == (0, 1)
    assert await count_by_key(keyed.platform.db) == {"k1": 1, "k9": 1}


async def test_keys_that_cannot_be_read(world: World, tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"

    def platform(text: str | None) -> Platform:
        if text is not None:
            path.write_text(text)
        return replace(world.platform, settings=world.platform.settings.model_copy(update={"secrets_path": path}))

    for text, error in (
        (None, BadSettings),
        ("[]", BadSettings),
        ("{", BadSettings),
        ('{"encryption_keys": "x"}', Invalid),
    ):
        with pytest.raises(error):
            ring_of(platform(text).settings)
