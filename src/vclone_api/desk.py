"""What this process does behind its answers: the deliveries of git hosts, and what they are told.

Both lie in PostgreSQL and are taken one by one, by whichever process comes first: a nudge only spares the wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from vclone_core.actions import deliveries, gitnotes, gitreports
from vclone_core.actions.gitreports import HostDesk
from vclone_core.actions.platform import Platform
from vclone_core.errors import Unavailable
from vclone_core.log import get_log
from vclone_core.stores.leases import take_lease

log = get_log(__name__)

POLL_S: Final = 2.0
# While requests of webhooks are being answered the next delivery waits for them, but no longer than this.
YIELD_S: Final = 0.1
# Hosts are slow, and one that is silent must not keep the others from hearing.
REPORTS_AT_ONCE: Final = 4
TIDY_S: Final = 60.0


class GitDesk:
    """The loops of one process. `start` needs a running event loop."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._hosts = HostDesk(platform)
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self._is_stopping = False
        self._answering = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @property
    def hosts(self) -> HostDesk:
        return self._hosts

    def start(self) -> None:
        """Begin to work through what waits."""
        self._is_stopping = False
        work: list[tuple[str, Callable[[], Awaitable[bool]], float]] = [
            ("deliveries", self._handle, POLL_S),
            ("tidy", self._tidy, TIDY_S),
            *(("reports", lambda: gitreports.tell_next(self._hosts), POLL_S) for _ in range(REPORTS_AT_ONCE)),
        ]
        self._tasks = [asyncio.create_task(self._repeat(do, rest_s), name=name) for name, do, rest_s in work]

    async def stop(self) -> None:
        """Stop; what was begun and not ended is begun again by the next process."""
        # Beside the cancellation: a driver may lose one that comes just when it is done.
        self._is_stopping = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._hosts.close()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Say that a host waits for an answer: what has been answered can wait until then."""
        self._answering += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._answering -= 1
            if not self._answering:
                self._quiet.set()

    def nudge(self) -> None:
        """Say that there is something to do."""
        self._news.set()
        self._news = asyncio.Event()

    async def _repeat(self, work: Callable[[], Awaitable[bool]], rest_s: float) -> None:
        while not self._is_stopping:
            news = self._news  # taken before the look: what comes after it is not missed
            try:
                if await work():
                    self.nudge()  # one delivery may leave something to tell
                    continue
            except Unavailable as error:
                log.warning("desk.missed", why=error.sentence)
            except Exception:
                # A border: a mistake here must not leave deliveries lying for ever.
                log.exception("desk.crashed")
            try:
                async with asyncio.timeout(rest_s):
                    await news.wait()
            except TimeoutError:
                continue

    async def _handle(self) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(YIELD_S):
                await self._quiet.wait()
        return await deliveries.handle_next(self._hosts)

    async def _tidy(self) -> bool:
        """Note what was not noted, and forget what is old; one process does it for all."""
        if await take_lease(self._platform.db, "git-desk", TIDY_S) is not None:
            await gitnotes.note_missed(self._platform)
            await deliveries.forget_old(self._platform)
        return False
