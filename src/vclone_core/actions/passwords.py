"""Hashes and checks passwords, off the event loop, a few at once: each takes 46 MiB and tens of milliseconds."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from vclone_core.errors import TooManyRequests

# OWASP's first choice of Argon2id: 46 MiB, one pass, one lane. A hash says how it was made, so this may change.
MEMORY_KIB: Final = 47_104
PASSES: Final = 1
LANES: Final = 1
# Well-formed, of today's parameters, and of no password: what is compared where nothing is stored.
NOBODYS: Final = f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${'A' * 22}${'A' * 43}"
AT_ONCE: Final = 2
WAITING: Final = 64

T = TypeVar("T")


class Check(NamedTuple):
    """Whether a password is right, and a new hash to store where the stored one was made with weaker parameters."""

    is_right: bool
    new_hash: str | None = None


class Passwords:
    """One process's hashing. Raises `TooManyRequests` when `WAITING` others are waiting already."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
        self._places = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """Return a PHC string to store."""
        return await self._work(lambda: self._hasher.hash(_plain(password)))

    async def check(self, stored: str | None, password: str) -> Check:
        """Compare a password with what is stored. Without anything stored it takes as long and is never right."""
        compared = stored or NOBODYS
        return await self._work(lambda: self._check(compared, password, is_known=stored is not None))

    def _check(self, stored: str, password: str, *, is_known: bool) -> Check:
        plain = _plain(password)
        try:
            self._hasher.verify(stored, plain)
        except (Argon2Error, InvalidHashError):
            return Check(False)
        if not is_known:
            return Check(False)
        return Check(True, self._hasher.hash(plain) if self._hasher.check_needs_rehash(stored) else None)

    async def _work(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING:
            raise TooManyRequests(retry_after_s=2)
        self._waiting += 1
        try:
            async with self._places:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1


def _plain(password: str) -> bytes:
    # The same letters typed on another keyboard may come as other code points (NIST SP 800-63B §5.1.1.2).
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
