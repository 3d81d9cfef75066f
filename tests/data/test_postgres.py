"""The database behind its named queries: errors are ours, and a restart of the server is survived."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import asyncpg
import pytest

from vclone_core.embedded.children import Service
from vclone_core.embedded.postgres import start_postgres
from vclone_core.embedded.rundirs import make_run_dir, remove_run_dir
from vclone_core.errors import BadSettings, Duplicate, Invalid, Unavailable, VcloneError
from vclone_core.stores.postgres import Database, load_queries, migrate, parse_queries
from vclone_core.stores.sqlstates import MEANINGS, explain_error

SOURCES = Path(__file__).parents[2] / "src"


def test_a_file_of_queries_is_blocks_by_name() -> None:
    queries = parse_queries(
        "-- Head.\n\n-- name: fetch_it\n-- Why.\nselect 1;\n\n-- name: put_it\nupdate t set a = 1;\n"
    )
    assert list(queries) == ["fetch_it", "put_it"]
    assert queries["fetch_it"].text == "-- fetch_it\nselect 1;"
    assert [query.is_read for query in queries.values()] == [True, False]


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="fetch_it"):
        parse_queries("-- name: fetch_it\nselect 1;\n-- name: fetch_it\nselect 2;\n")


def test_what_locks_or_writes_is_no_read() -> None:
    writes = {name for name, query in load_queries().items() if not query.is_read}
    assert {"claim_deployment", "lock_aliases", "lock_deployment", "touch_blobs", "move_alias"} <= writes
    assert {"fetch_project", "list_moves", "fetch_queue_place"}.isdisjoint(writes)


def test_every_query_is_used_and_every_used_one_is_there() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py"))
    used = set(re.findall(r'"([a-z]+_[a-z_]+)"', code))
    assert set(load_queries()) <= used
    called = set(re.findall(r'(?:db|tx|self\._db)\.(?:fetch|fetch_one|execute)\(\s*"([a-z_]+)"', code))
    assert called <= set(load_queries())


async def test_every_query_is_valid_sql(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        for query in load_queries().values():
            await connection.prepare(query.text)
    finally:
        await connection.close()


async def test_no_sql_outside_its_files() -> None:
    found = [
        path.name
        for path in SOURCES.rglob("*.py")
        if path.name != "migrations.py"
        and re.search(r'"(?:select|insert into|update|delete from) [a-z]', path.read_text(encoding="utf-8"))
    ]
    assert found == []
    assert files("vclone_core.stores").joinpath("sql/queries/queue.sql").is_file()


async def test_a_transaction_is_all_or_nothing(db: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as tx:
            await tx.execute("insert_user", "usr_1", "a@example.com", "A")
            assert await tx.fetch_one("fetch_user", "usr_1") is not None
            raise ZeroDivisionError
    assert await db.fetch_one("fetch_user", "usr_1") is None


async def test_a_second_row_of_the_same_key_is_a_duplicate(db: Database) -> None:
    assert await db.execute("insert_user", "usr_1", "a@example.com", "A") == 1
    with pytest.raises(Duplicate) as caught:
        await db.execute("insert_user", "usr_2", "A@example.com", "A")
    assert caught.value.facts["constraint"] == "users_email"


async def test_text_that_cannot_be_stored_is_the_callers_mistake(db: Database) -> None:
    with pytest.raises(Invalid):
        await db.execute("insert_user", "usr_1", "a@example.com", "a\0b")


async def test_json_keeps_everything_but_the_nul_character(db: Database) -> None:
    await db.execute("insert_user", "usr_1", "a@example.com", "A")
    await db.execute("insert_team", "tem_1", "a", "A", True)
    settings = {"a": "x\0y", "b": "\\u0000", "c": "ü\u2028"}
    row = await db.fetch_one("insert_project", "prj_1", "tem_1", "shop", None, settings)
    assert row is not None
    assert row["settings"] == {"a": "x\ufffdy", "b": "\\u0000", "c": "ü\u2028"}


async def test_a_bug_is_not_dressed_up(db: Database) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await db.execute("insert_member", "tem_none", "usr_none", "owner")


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (asyncpg.AdminShutdownError("x"), Unavailable),
        (asyncpg.CannotConnectNowError("x"), Unavailable),
        (asyncpg.TooManyConnectionsError("x"), Unavailable),
        (asyncpg.DiskFullError("x"), Unavailable),
        (asyncpg.DeadlockDetectedError("x"), Unavailable),
        (asyncpg.QueryCanceledError("x"), Unavailable),
        (asyncpg.LockNotAvailableError("x"), Unavailable),
        (asyncpg.ConnectionDoesNotExistError("x"), Unavailable),
        (asyncpg.InterfaceError("connection is closed"), Unavailable),
        (ConnectionRefusedError(), Unavailable),
        (TimeoutError(), Unavailable),
        (asyncpg.InvalidPasswordError("x"), BadSettings),
        (asyncpg.InvalidCatalogNameError("x"), BadSettings),
        (asyncpg.UniqueViolationError("x"), Duplicate),
        (asyncpg.CharacterNotInRepertoireError("x"), Invalid),
        (asyncpg.UndefinedTableError("x"), None),
        (asyncpg.CheckViolationError("x"), None),
        (asyncpg.InterfaceError("another operation is in progress"), None),
        (ValueError(), None),
    ],
)
def test_what_a_drivers_error_means(error: Exception, meaning: type[VcloneError] | None) -> None:
    found = explain_error(error)
    assert (None if found is None else type(found)) is meaning


def test_the_table_of_meanings_has_no_dead_rows() -> None:
    assert all(len(state) in (2, 5) for state in MEANINGS)


async def test_no_server_is_unavailable_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable, match="The database does not answer"):
        await Database.connect("postgresql://vclone@127.0.0.1:1/none")
    assert time.monotonic() - started < 10


async def test_a_read_survives_its_connections_end(db: Database, database_url: str) -> None:
    await db.execute("insert_user", "usr_1", "a@example.com", "A")
    admin = await asyncpg.connect(database_url)
    await asyncio.gather(*(db.fetch_one("fetch_user", "usr_1") for _ in range(10)))
    ended = await admin.fetchval(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
    assert ended == 10
    rows = await asyncio.gather(*(db.fetch_one("fetch_user", "usr_1") for _ in range(10)))
    assert all(row is not None for row in rows)
    await admin.close()


@pytest.fixture
async def own_postgres(tmp_path: Path) -> AsyncIterator[tuple[Service, Path]]:
    run_dir = make_run_dir(os.environ)
    service = start_postgres(tmp_path / "pg", run_dir)
    try:
        yield service, run_dir
    finally:
        service.stop()
        remove_run_dir(run_dir)


async def test_the_pool_outlives_a_killed_server(own_postgres: tuple[Service, Path], tmp_path: Path) -> None:
    service, run_dir = own_postgres
    await migrate(service.url)
    db = await Database.connect(service.url)
    await db.execute("insert_user", "usr_1", "a@example.com", "A")
    service.process.kill()
    service.process.wait()
    # A backend answers until it has noticed that its postmaster is gone.
    with pytest.raises(Unavailable):
        async with asyncio.timeout(10):
            while True:
                await db.fetch_one("fetch_user", "usr_1")
                await asyncio.sleep(0.01)
    with pytest.raises(Unavailable):
        async with db.transaction() as tx:
            await tx.fetch_one("fetch_user", "usr_1")
    again = start_postgres(tmp_path / "pg", run_dir)
    try:
        started = time.monotonic()
        rows = await asyncio.gather(*(db.fetch_one("fetch_user", "usr_1") for _ in range(20)))
        assert all(row is not None for row in rows)
        assert time.monotonic() - started < 5
        await db.close()
    finally:
        again.stop()
