"""The alias moves of the platform, as they are committed, for every edge that listens to this process.

One reader per process, however many edges: it wakes by Redis, or by the clock when Redis is away.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator
from typing import Final

from vclone_core.actions.platform import Platform
from vclone_core.errors import VcloneError
from vclone_core.log import get_log
from vclone_core.models import AliasMove
from vclone_core.stores import events

log = get_log(__name__)

RETRY_S: Final = 0.5
REMEMBERED: Final = 10_000


class MoveFeed:
    """Reads moves once and hands them to every `follow`."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._task: asyncio.Task[None] | None = None
        self._recent: list[AliasMove] = []
        # Every move after `_floor` and up to `_version` is in `_recent`; None: nothing was read yet.
        self._floor: int | None = None
        self._version = 0
        self._news = asyncio.Event()

    def start(self) -> None:
        """Begin to read. Needs a running event loop."""
        self._task = asyncio.create_task(self._run(), name="move-feed")

    async def stop(self) -> None:
        """Stop reading; streams that still follow get nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def follow(self, after: int) -> AsyncGenerator[AliasMove, None]:
        """Yield every move after version `after`, in order and without a gap, for as long as the caller takes them."""
        while True:
            news = self._news  # taken before the read: what comes after it is not missed
            moves = await self._read_after(after) if self._floor is None or after < self._version else []
            for move in moves:
                yield move
                after = move.version
            if not moves:
                await news.wait()

    async def _read_after(self, after: int) -> list[AliasMove]:
        if self._floor is None or after < self._floor:
            return await events.read_moves(self._platform.db, after)
        return self._recent[bisect_right(self._recent, after, key=lambda move: move.version) :]

    async def _run(self) -> None:
        is_down = False
        while True:
            try:
                if self._floor is None:
                    self._floor = self._version = await events.current_version(self._platform.db)
                    self._wake_followers()
                async for move in events.follow_moves(self._platform.db, self._platform.redis, self._version):
                    is_down = False
                    if move is not None:
                        self._note(move)
            except VcloneError as error:
                if not is_down:
                    log.warning("moves.unreadable", why=error.sentence)
                is_down = True
                await asyncio.sleep(RETRY_S)
            except Exception:  # a bug; edges must hear of the next move nonetheless
                log.exception("moves.crashed")
                await asyncio.sleep(RETRY_S)

    def _note(self, move: AliasMove) -> None:
        self._recent.append(move)
        self._version = move.version
        if len(self._recent) > 2 * REMEMBERED:
            del self._recent[:-REMEMBERED]
            self._floor = self._recent[0].version - 1
        self._wake_followers()

    def _wake_followers(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
