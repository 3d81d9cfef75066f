"""Who may read from the object store, or speak to another server, now: so many at once, and nobody takes them all.

Whoever comes when all places are taken waits. Owners take turns, whichever of them has how many waiting. It does no
I/O and reads no clock but the loop's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from vclone_core.errors import VcloneError

WAITING_LIMIT: Final = 2_000


class Slots:
    """`limit` places, of which one owner holds `share` at most. `busy` makes the error for who gets none in time."""

    def __init__(self, limit: int, *, share: int, busy: Callable[[], VcloneError]) -> None:
        self.limit = limit
        self.share = share
        self.busy = busy
        self.used = 0
        self.waiting = 0
        self.refused = 0
        self._held: dict[str, int] = {}
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}

    def try_take(self, owner: str) -> bool:
        """Take a place if there is one for this owner and nobody of it waits before; say whether it was taken."""
        # Places that are free while others wait are free because those others hold their share already.
        if self.used >= self.limit or owner in self._queues or self._held.get(owner, 0) >= self.share:
            return False
        self._take(owner)
        return True

    async def take(self, owner: str, *, within_s: float) -> None:
        """Wait for a place; raise what `busy` makes when there is none in time. A place taken is to be given back."""
        if self.try_take(owner):
            return
        if self.waiting >= WAITING_LIMIT:
            self.refused += 1
            raise self.busy()
        turn = asyncio.get_running_loop().create_future()
        self._queues.setdefault(owner, deque()).append(turn)
        self.waiting += 1
        try:
            await asyncio.wait((turn,), timeout=within_s)
        except asyncio.CancelledError:
            if not self._leave(owner, turn):
                self.give_back(owner)
            raise
        if self._leave(owner, turn):
            self.refused += 1
            raise self.busy()

    def give_back(self, owner: str) -> None:
        """Free a place: the next owner in turn has it."""
        self.used -= 1
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        while self.used < self.limit:
            following = next((name for name in self._queues if self._held.get(name, 0) < self.share), None)
            if following is None:
                return
            queue = self._queues.pop(following)
            turn = queue.popleft()
            if queue:
                self._queues[following] = queue  # At the end: its next turn comes after the others'.
            self.waiting -= 1
            self._take(following)
            turn.set_result(None)

    def would_help(self, owner: str) -> bool:
        """Say whether somebody who waits would have the place that `owner` gives back."""
        return self.waiting > 0 and (self.used >= self.limit or owner in self._queues)

    def _take(self, owner: str) -> None:
        self.used += 1
        self._held[owner] = self._held.get(owner, 0) + 1

    def _leave(self, owner: str, turn: asyncio.Future[None]) -> bool:
        """Stop waiting; say whether it was in vain."""
        if turn.done():
            return False
        turn.cancel()
        queue = self._queues[owner]
        queue.remove(turn)
        if not queue:
            del self._queues[owner]
        self.waiting -= 1
        return True
