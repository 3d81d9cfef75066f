"""Migrations under any number of starts, under a kill, and on a database of another version."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import asyncpg
import pytest

from vclone_core.errors import ChangedMigration, NewerDatabase
from vclone_core.stores.migrations import Migration, load_migrations, plan_migrations
from vclone_core.stores.postgres import migrate

RUN = "import asyncio, sys; from vclone_core.stores.postgres import migrate; print(asyncio.run(migrate(sys.argv[1])))"
# A second migration that takes long enough to be killed in its middle.
SLOW = textwrap.dedent(
    """
    import asyncio, sys
    from vclone_core.stores.migrations import Migration, load_migrations, migrate
    slow = Migration("9999_slow", "create table half_made (n int); select pg_sleep(600);")
    asyncio.run(migrate(sys.argv[1], known=(*load_migrations(), slow)))
    """
)


@pytest.fixture
async def empty_url(postgres_url: str) -> AsyncIterator[str]:
    name = f"vclone_empty_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(postgres_url)
    await admin.execute(f"create database {name}")
    yield f"{postgres_url.rpartition('/')[0]}/{name}"
    await admin.execute(f"drop database {name} with (force)")
    await admin.close()


async def start(code: str, url: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


async def ask(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_eight_processes_start_on_an_empty_database(empty_url: str) -> None:
    processes = [await start(RUN, empty_url) for _ in range(8)]
    outputs = [await process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, outputs
    told = sorted(stdout.decode().splitlines()[-1] for stdout, _ in outputs)
    assert told == sorted([str([one.version for one in load_migrations()]), *["[]"] * 7])
    assert await migrate(empty_url) == []
    assert await ask(empty_url, "select count(*) from schema_migrations") == len(load_migrations())


async def test_a_kill_in_mid_migration_leaves_nothing_and_the_next_start_goes_on(empty_url: str) -> None:
    process = await start(SLOW, empty_url)
    try:
        async with asyncio.timeout(20):
            while not await ask(
                empty_url,
                "select count(*) from pg_stat_activity where query like '%pg_sleep(600)%'"
                " and pid <> pg_backend_pid() and datname = current_database()",
            ):
                await asyncio.sleep(0.05)
        waiting = [asyncio.create_task(migrate(empty_url, known=with_second())) for _ in range(4)]
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in waiting)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        assert sorted(await asyncio.gather(*waiting)) == [[], [], [], ["9999_second"]]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
    assert await ask(empty_url, "select to_regclass('half_made')") is None
    assert await ask(empty_url, "select to_regclass('second')") == "second"


def with_second() -> Sequence[Migration]:
    return (*load_migrations(), Migration("9999_second", "create table second (n int)"))


async def test_a_broken_migration_leaves_nothing_behind(empty_url: str) -> None:
    broken = Migration("9999_broken", "create table half_made (n int); select 1/0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty_url, known=(*load_migrations(), broken))
    assert await ask(empty_url, "select to_regclass('half_made')") is None
    assert await migrate(empty_url) == []


async def test_an_index_is_built_beside_waiting_starts(empty_url: str) -> None:
    await migrate(empty_url)
    index = Migration("9999_index", "-- no-transaction\ncreate index concurrently users_name on users (name)")
    done = await asyncio.gather(*(migrate(empty_url, known=(*load_migrations(), index)) for _ in range(4)))
    assert sorted(done) == [[], [], [], ["9999_index"]]


async def test_a_database_of_a_newer_version_is_refused(empty_url: str) -> None:
    await migrate(empty_url, known=with_second())
    with pytest.raises(NewerDatabase, match="newer version of vclone: it has the migration 9999_second"):
        await migrate(empty_url)


async def test_a_changed_migration_is_refused(empty_url: str) -> None:
    await migrate(empty_url)
    first, *others = load_migrations()
    with pytest.raises(ChangedMigration, match="0001_initial"):
        await migrate(empty_url, known=(replace(first, text=first.text + "\n-- edited"), *others))


def test_what_is_left_to_do() -> None:
    one, two, three = (Migration(f"000{n}_x", str(n)) for n in (1, 2, 3))
    assert plan_migrations((one, two), {}) == (one, two)
    assert plan_migrations((one, two), {one.version: one.sha256}) == (two,)
    with pytest.raises(NewerDatabase):
        plan_migrations((one, two), {one.version: one.sha256, three.version: three.sha256})
    with pytest.raises(ChangedMigration):
        plan_migrations((one, three), {one.version: one.sha256, two.version: two.sha256})


def test_migrations_have_their_order_in_their_names() -> None:
    versions = [migration.version for migration in load_migrations()]
    assert versions == sorted(versions)
    assert all(version[:4].isdigit() and version[4] == "_" for version in versions)
