"""Work that one process at a time does for the platform: a row with a holder and an end, by the database's clock."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from vclone_core.stores.postgres import Queries


@dataclass(slots=True)
class Lease:
    """A hold on `name` until `left_s` is over; who lets it run out must begin nothing more."""

    name: str
    holder: str
    seconds: float
    _until_s: float

    @property
    def left_s(self) -> float:
        return self._until_s - time.monotonic()

    async def extend(self, db: Queries) -> bool:
        """Hold it for its whole length again; False: somebody else has it."""
        return await _take(db, self)

    async def drop(self, db: Queries) -> None:
        """Give it back."""
        await db.execute("drop_lease", self.name, self.holder)


async def take_lease(db: Queries, name: str, seconds: float) -> Lease | None:
    """Return a new lease for `seconds`; None while there is one."""
    lease = Lease(name, secrets.token_hex(8), seconds, 0.0)
    return lease if await _take(db, lease) else None


async def _take(db: Queries, lease: Lease) -> bool:
    asked_s = time.monotonic()  # before the question: the database's end is never earlier
    if await db.fetch_one("take_lease", lease.name, lease.holder, lease.seconds) is None:
        return False
    lease._until_s = asked_s + lease.seconds
    return True
