"""PostgreSQL through asyncpg: a pool, transactions, and queries by name. Errors leave here as ours.

SQL lies in `sql/queries/*.sql`, one file per area; each block starts with `-- name: verb_noun`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, Protocol, TypeAlias

import asyncpg

from vclone_core.stores.migrations import migrate
from vclone_core.stores.sqlstates import is_dropped, is_unsent, our_errors

__all__ = ["Database", "Queries", "Record", "Transaction", "Witness", "load_queries", "migrate"]

Record: TypeAlias = Mapping[str, Any]

CONNECT_TIMEOUT_S: Final = 5.0
# How long a caller waits for a free connection before it is told that the database does not answer.
ACQUIRE_TIMEOUT_S: Final = 10.0
COMMAND_TIMEOUT_S: Final = 30.0
# A process that stops in the middle of a transaction (SIGSTOP, a dead network) must not hold its locks: moving any
# alias waits for one of them. No transaction of ours waits for anything but the database.
SESSION_SETTINGS: Final = {
    "application_name": "vclone",
    "idle_in_transaction_session_timeout": "10s",
    "lock_timeout": "10s",
    "statement_timeout": "30s",
}

_DRIVER_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
_LOCKS: Final = re.compile(r"\bfor (no key )?update\b|\bpg_advisory")
_NAME_LINE: Final = re.compile(r"^-- name: ([a-z0-9_]+)\s*$", re.MULTILINE)

# PostgreSQL can't hold U+0000 in jsonb; an escaped backslash before `u0000` is other text.
_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


class Queries(Protocol):
    """What stores are given: a database, or one transaction of it."""

    async def fetch(self, name: str, *args: Any) -> list[Record]:
        """Return every row of the query `name`."""

    async def fetch_one(self, name: str, *args: Any) -> Record | None:
        """Return the first row of the query `name`, None when there is none."""

    async def execute(self, name: str, *args: Any) -> int:
        """Run the query `name` and return how many rows it wrote."""


@dataclass(frozen=True, slots=True)
class Query:
    """One named query. A read changes nothing, so it may run a second time after a dropped connection.

    What only takes locks is neither a read nor a write.
    """

    text: str
    is_read: bool
    is_write: bool


def parse_queries(text: str) -> dict[str, Query]:
    """Return the named blocks of one file of SQL; raise `ValueError` for a name given twice."""
    parts = _NAME_LINE.split(text)[1:]
    queries: dict[str, Query] = {}
    for name, block in zip(parts[::2], parts[1::2], strict=True):
        if name in queries:
            raise ValueError(f"the query {name} is there twice")
        sql = "\n".join(line for line in block.strip().splitlines() if not line.startswith("--"))
        is_select = sql.startswith("select")
        queries[name] = Query(f"-- {name}\n{sql}", is_select and not _LOCKS.search(sql), not is_select)
    return queries


@cache
def load_queries() -> Mapping[str, Query]:
    """Return every named query of the package."""
    queries: dict[str, Query] = {}
    for path in sorted(files("vclone_core.stores").joinpath("sql/queries").iterdir(), key=lambda item: item.name):
        if path.name.endswith(".sql"):
            found = parse_queries(path.read_text(encoding="utf-8"))
            if twice := queries.keys() & found.keys():
                raise ValueError(f"the queries {sorted(twice)} are there twice")
            queries |= found
    return queries


class Witness:
    """Sees what is changed within its block, and writes something beside the first change, in the same transaction.

    `has_seen`: a change was committed, or may have been.
    """

    def __init__(self, write: Callable[[Queries], Awaitable[object]]) -> None:
        self._write = write
        self._is_done = False
        self.has_seen = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch this context, and every task that is started in it."""
        token = _witness.set(self)
        try:
            yield
        finally:
            _witness.reset(token)

    @property
    def is_due(self) -> bool:
        return not self._is_done

    async def write(self, tx: Queries) -> None:
        self.has_seen = True
        await self._write(tx)

    def close(self) -> None:
        """Write nothing more: it is written, or what would be has been said otherwise."""
        self._is_done = True


_witness: ContextVar[Witness | None] = ContextVar("witness", default=None)


class Transaction:
    """One transaction: all of its queries, or none."""

    def __init__(self, connection: Any, queries: Mapping[str, Query]) -> None:
        self._connection = connection
        self._queries = queries
        self.has_written = False

    async def fetch(self, name: str, *args: Any) -> list[Record]:
        rows: list[Record] = await self._run("fetch", name, args)
        return rows

    async def fetch_one(self, name: str, *args: Any) -> Record | None:
        row: Record | None = await self._run("fetchrow", name, args)
        return row

    async def execute(self, name: str, *args: Any) -> int:
        return _count(await self._run("execute", name, args))

    async def _run(self, method: str, name: str, args: tuple[Any, ...]) -> Any:
        query = self._queries[name]
        self.has_written = self.has_written or query.is_write
        with our_errors():
            return await getattr(self._connection, method)(query.text, *args)


class Database:
    """A pool of connections to PostgreSQL. It outlives restarts of the server."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._queries = load_queries()

    @classmethod
    async def connect(cls, url: str, *, max_size: int = 10) -> Database:
        """Return a pool of at most `max_size` connections; raise `Unavailable` when the server does not answer."""
        with our_errors():
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=max_size,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=COMMAND_TIMEOUT_S,
                server_settings=SESSION_SETTINGS,
                init=_set_codecs,
                reset=_keep_session,
            )
        return cls(pool)

    async def close(self) -> None:
        """Give every connection back; what still runs has a few seconds."""
        try:
            async with asyncio.timeout(5):
                await self._pool.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._pool.terminate()

    async def fetch(self, name: str, *args: Any) -> list[Record]:
        rows: list[Record] = await self._run("fetch", name, args)
        return rows

    async def fetch_one(self, name: str, *args: Any) -> Record | None:
        row: Record | None = await self._run("fetchrow", name, args)
        return row

    async def execute(self, name: str, *args: Any) -> int:
        return _count(await self._run("execute", name, args))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction that commits when the block ends, and rolls back when it raises."""
        with our_errors():
            connection, transaction = await self._begin()
        try:
            tx, witness = Transaction(connection, self._queries), _witness.get()
            is_witnessed = False
            try:
                yield tx
                if witness is not None and witness.is_due and tx.has_written:
                    await witness.write(tx)
                    is_witnessed = True
            except BaseException:
                # What went wrong first is what the caller hears; a lost connection has rolled back by itself.
                with suppress(*_DRIVER_ERRORS):
                    await transaction.rollback()
                raise
            with our_errors():
                await transaction.commit()
            if witness is not None and is_witnessed:
                witness.close()
        finally:
            with suppress(*_DRIVER_ERRORS):
                await self._pool.release(connection)

    async def _begin(self) -> tuple[Any, Any]:
        for is_last in (False, True):
            connection = await self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S)
            transaction = connection.transaction()
            try:
                await transaction.start()
            except BaseException as error:
                with suppress(*_DRIVER_ERRORS):
                    await self._pool.release(connection)
                if is_last or not (is_unsent(error) or is_dropped(error)):
                    raise
                await self._pool.expire_connections()
            else:
                return connection, transaction
        raise AssertionError

    async def _run(self, method: str, name: str, args: tuple[Any, ...]) -> Any:
        query, witness = self._queries[name], _witness.get()
        if witness is not None and witness.is_due and query.is_write:
            async with self.transaction() as tx:
                return await tx._run(method, name, args)
        with our_errors():
            try:
                return await self._run_once(method, query, args)
            except _DRIVER_ERRORS as error:
                if not (is_unsent(error) or (query.is_read and is_dropped(error))):
                    raise
            # The server restarted, most likely: no other idle connection is worth a try either.
            await self._pool.expire_connections()
            return await self._run_once(method, query, args)

    async def _run_once(self, method: str, query: Query, args: tuple[Any, ...]) -> Any:
        async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            return await getattr(connection, method)(query.text, *args)


async def _set_codecs(connection: Any) -> None:
    await connection.set_type_codec("jsonb", encoder=_encode_json, decoder=json.loads, schema="pg_catalog")


def _encode_json(value: Any) -> str:
    return _NUL.sub(r"\1\\ufffd", json.dumps(value, separators=(",", ":")))


async def _keep_session(_connection: Any) -> None:
    # Nothing here changes a session, so a connection needs no cleaning (a round trip) between two users.
    return None


def _count(status: str) -> int:
    """Return the rows of a command tag such as `UPDATE 3` or `INSERT 0 1`."""
    last = status.rpartition(" ")[2]
    return int(last) if last.isdigit() else 0
