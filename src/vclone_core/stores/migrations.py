"""Brings a database to this program's schema: ordered files, each applied once, safe under any number of starts."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import asyncpg

from vclone_core.errors import ChangedMigration, NewerDatabase, Unavailable
from vclone_core.log import get_log
from vclone_core.stores.sqlstates import our_errors

log = get_log(__name__)

# Any number that is ours alone among the users of one database server's advisory locks.
LOCK: Final = 0x76636C6F6E6501
LOCK_POLL_S: Final = 0.1
LOCK_TIMEOUT_S: Final = 300.0
SESSION_SETTINGS: Final = {
    "application_name": "vclone migrate",
    # A migration waits at most this long for a table that others use: everybody else would wait behind it.
    "lock_timeout": "10s",
    # The server ends a statement whose process was killed, and with it the session that holds the lock.
    "client_connection_check_interval": "1s",
}
NO_TRANSACTION: Final = "-- no-transaction"

_MAKE_TABLE: Final = """create table if not exists schema_migrations (
    version text primary key, sha256 text not null, applied_at timestamptz not null default now())"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: `version` is its name without `.sql`. `-- no-transaction` on its first line runs it outside of one."""

    version: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def wants_transaction(self) -> bool:
        return not self.text.startswith(NO_TRANSACTION)


def load_migrations() -> tuple[Migration, ...]:
    """Return the migrations of this program, in order."""
    folder = files("vclone_core.stores").joinpath("sql/migrations")
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".sql"))
    return tuple(
        Migration(name.removesuffix(".sql"), folder.joinpath(name).read_text(encoding="utf-8")) for name in names
    )


def plan_migrations(known: Sequence[Migration], applied: Mapping[str, str]) -> tuple[Migration, ...]:
    """Return what is left to apply; `applied` is version to SHA-256.

    Raises `NewerDatabase` when the database has a later migration than this program knows, and `ChangedMigration`
    when an applied one is unknown or has another text.
    """
    ours = {migration.version: migration.sha256 for migration in known}
    latest = max(ours, default="none")
    for version in sorted(applied, reverse=True):
        if version not in ours and version > latest:
            raise NewerDatabase(found=version, known=latest)
        if ours.get(version) != applied[version]:
            raise ChangedMigration(found=version)
    return tuple(migration for migration in known if migration.version not in applied)


async def migrate(url: str, *, known: Sequence[Migration] | None = None) -> list[str]:
    """Apply every missing migration to the database at `url` and return their versions, oldest first.

    May be called by any number of processes at once: one applies, the others wait for it. A process that dies in the
    middle leaves its migration undone, and the next one goes on.
    """
    known = load_migrations() if known is None else known
    with our_errors():
        connection = await asyncpg.connect(url, timeout=5, server_settings=SESSION_SETTINGS)
        try:
            if not plan_migrations(known, await _fetch_applied(connection)):
                return []
            await _take_lock(connection)
            await connection.execute(_MAKE_TABLE)
            done = []
            for migration in plan_migrations(known, await _fetch_applied(connection)):
                await _apply(connection, migration)
                log.info("migration.applied", version=migration.version)
                done.append(migration.version)
            return done
        finally:
            # Ends the session, and with it the advisory lock.
            await _end(connection)


async def _fetch_applied(connection: Any) -> dict[str, str]:
    if await connection.fetchval("select to_regclass('schema_migrations')") is None:
        return {}
    return {row["version"]: row["sha256"] for row in await connection.fetch("select * from schema_migrations")}


async def _take_lock(connection: Any) -> None:
    # Polled: a session that sleeps inside pg_advisory_lock holds a snapshot, and `create index concurrently` of the
    # one that has the lock would wait for it for ever.
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while not await connection.fetchval("select pg_try_advisory_lock($1)", LOCK):
        if time.monotonic() > deadline:
            raise Unavailable(what="The migration of another process", hint="Look for one that hangs, and end it.")
        await asyncio.sleep(LOCK_POLL_S)


async def _apply(connection: Any, migration: Migration) -> None:
    record = "insert into schema_migrations (version, sha256) values ($1, $2)"
    if not migration.wants_transaction:
        await connection.execute(migration.text)
        await connection.execute(record, migration.version, migration.sha256)
        return
    async with connection.transaction():
        await connection.execute(migration.text)
        await connection.execute(record, migration.version, migration.sha256)


async def _end(connection: Any) -> None:
    try:
        await connection.close(timeout=5)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()
