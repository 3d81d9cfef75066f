"""What PostgreSQL's and asyncpg's errors mean: by SQLSTATE to one of ours, or to "this is a bug of ours"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import asyncpg

from vclone_core.errors import BadSettings, Duplicate, Invalid, Unavailable, VcloneError

# SQLSTATE (whole, or its class of two characters) to what it means for a caller. What isn't here is a bug of ours.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
MEANINGS: Final[Mapping[str, type[VcloneError]]] = {
    "08": Unavailable,  # connection exceptions
    "25P03": Unavailable,  # idle in a transaction for too long
    "28": BadSettings,  # wrong password, no such user
    "3D000": BadSettings,  # no such database
    "40": Unavailable,  # serialization failure, deadlock
    "53": Unavailable,  # disk full, out of memory, too many connections
    "55P03": Unavailable,  # lock not available in time
    "57": Unavailable,  # shutting down, starting up, statement timeout
    "58": Unavailable,  # input/output error
    "21": Invalid,
    "22021": Invalid,  # a NUL character in text
    "22P05": Invalid,
    "23505": Duplicate,
}


def explain_error(error: BaseException) -> VcloneError | None:
    """Return what a driver's exception means for a caller; None: it is a bug, and goes on as it is."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        meaning = MEANINGS.get(state) or MEANINGS.get(state[:2])
        if meaning is Duplicate:
            return Duplicate(constraint=error.constraint_name)
        if meaning is BadSettings:
            return BadSettings(problems=f"PostgreSQL refuses VCLONE_DATABASE_URL: {error}.")
        if meaning is Invalid:
            return Invalid(what="it holds a character that can't be stored")
        return None if meaning is None else Unavailable(what="The database", sqlstate=state)
    # asyncpg raises InterfaceError for a connection that closed under a caller, as for a wrong use of its API.
    # It has no other way to tell them apart than the words.
    is_closed = isinstance(error, asyncpg.InterfaceError) and "clos" in str(error)
    if isinstance(error, OSError | TimeoutError | EOFError) or is_closed:
        return Unavailable(what="The database")
    return None


def is_dropped(error: BaseException) -> bool:
    """Say whether the connection went away under a query, so that another one may answer."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] == "08" or error.sqlstate in ("57P01", "57P02")
    return isinstance(error, ConnectionError | EOFError | asyncpg.InterfaceError)


def is_unsent(error: BaseException) -> bool:
    """Say whether a query failed before it was sent, so that it may run again whatever it does.

    asyncpg raises its internal error for a query on a connection that the server just ended, between the server's
    last words and the end of the stream. On a connection nobody shares it means nothing else.
    """
    return isinstance(error, asyncpg.InternalClientError)


@contextmanager
def our_errors() -> Iterator[None]:
    """Raise a driver's exception as the error it means."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        ours = explain_error(error)
        if ours is None:
            raise
        raise ours from error
