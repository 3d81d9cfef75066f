"""The event stream from the API: moves of aliases are put into effect here within milliseconds, then acknowledged.

    read -> queue -> prefetch the manifest (≤ 500 ms) -> apply -> acknowledge

A cut stream is taken up again at the last version read. Where the API can't continue from there, every known site is
confirmed anew. While the stream is down nothing changes for visitors: the TTL and stale sites carry on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from vclone_core.errors import Invalid, VcloneError
from vclone_core.log import get_log
from vclone_core.models import AliasMove
from vclone_core.rules.eventstream import Event, EventParser
from vclone_core.rules.sites import decode_move
from vclone_edge.cache import DomainCache
from vclone_edge.control_api import ControlApi
from vclone_edge.manifests import Manifests
from vclone_edge.resolve import Resolver

PREFETCH_S: Final = 0.5
FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 5.0
CONFIRMS_AT_ONCE: Final = 8
QUEUE_LIMIT: Final = 1_000

log = get_log(__name__)


@dataclass(frozen=True, slots=True)
class _Hello:
    version: int
    is_complete: bool


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A move on its way into effect; `prefetch` is loading its manifest since it was read."""

    move: AliasMove
    read_s: float
    prefetch: asyncio.Task[None] | None


class ControlStream:
    """Keeps a resolver's cache true. `version` is the last event in effect; None: none was ever seen."""

    def __init__(
        self, api: ControlApi, resolver: Resolver, manifests: Manifests, *, version: int | None = None
    ) -> None:
        self.api = api
        self.resolver = resolver
        self.manifests = manifests
        self.version = version
        self.is_connected = False
        self.reconnects = 0
        self.moves = 0
        self.refused = 0
        self._read_version = version
        self._queue: asyncio.Queue[_Hello | _Arrived] = asyncio.Queue(QUEUE_LIMIT)
        self._has_news = asyncio.Event()
        self._must_confirm = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def cache(self) -> DomainCache:
        return self.resolver.cache

    async def start(self, *, version: int | None) -> None:
        """Begin to follow the stream from behind `version`; returns at once, whether the API is there or not."""
        self.version = self._read_version = version
        for work in (self._read_for_ever, self._apply_for_ever, self._acknowledge_for_ever, self._confirm_for_ever):
            self._tasks.append(asyncio.create_task(_keep_running(work)))

    async def close(self) -> None:
        """Stop following. What was queued is read again by the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _read_for_ever(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            started_s = time.monotonic()
            try:
                await self._read_once()
                why = "it ended"
            except VcloneError as error:
                why = error.sentence
            if self.is_connected:
                self.is_connected = False
                log.warning("events.cut", why=why)
            if time.monotonic() - started_s > LONGEST_WAIT_S:
                wait_s = FIRST_WAIT_S
            # Jitter, so that a hundred edges do not come back in one moment.
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, guards nothing
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
            self.reconnects += 1

    async def _read_once(self) -> None:
        parser = EventParser()
        async with self.api.events(self._read_version) as pieces:
            async for piece in pieces:
                for event in parser.feed(piece):
                    await self._take(event)
                if self.is_connected:
                    self.cache.cover()

    async def _take(self, event: Event) -> None:
        try:
            if event.name == "hello":
                await self._take_hello(json.loads(event.data))
            elif event.name == "move":
                await self._take_move(decode_move(json.loads(event.data)))
        except (ValueError, TypeError, KeyError, RecursionError, Invalid) as error:
            self.refused += 1
            # One event that can't be read must not hold up those behind it; the TTL will mend what it said.
            log.error("events.refused", event_name=event.name, why=str(error))

    async def _take_hello(self, raw: dict[str, object]) -> None:
        version, is_complete = raw["version"], raw["complete"]
        if type(version) is not int or not isinstance(is_complete, bool):
            raise Invalid(what="this hello has a field of a wrong type")
        if self._read_version is not None and version < self._read_version:
            is_complete = False  # The database was put back to an earlier day.
        if not is_complete:
            self._read_version = version
        self.resolver.forget_failures()
        self.is_connected = True
        log.info("events.connected", version=version, complete=is_complete)
        await self._queue.put(_Hello(version, is_complete))

    async def _take_move(self, move: AliasMove) -> None:
        self._read_version = max(move.version, self._read_version or 0)
        known = self.cache.find(move.host)
        prefetch = None
        if move.site is not None and known is not None and self.manifests.find(move.site) is None:
            prefetch = asyncio.create_task(self._prefetch(move))
        await self._queue.put(_Arrived(move, time.monotonic(), prefetch))

    async def _prefetch(self, move: AliasMove) -> None:
        assert move.site is not None
        # A refusal was logged where it happened. The site moves all the same, and falls back to the one before it.
        with contextlib.suppress(VcloneError):
            await self.manifests.load(move.site)

    async def _apply_for_ever(self) -> None:
        while True:
            item = await self._queue.get()
            if isinstance(item, _Hello):
                if self.version is None or not item.is_complete:
                    self.version = item.version
                if not item.is_complete:
                    self.cache.suspect_all()
                    self._must_confirm.set()
                continue
            if item.prefetch is not None:
                # Until its manifest is here the site before it answers; a slow store holds that up 500 ms at most.
                left_s = item.read_s + PREFETCH_S - time.monotonic()
                await asyncio.wait([item.prefetch], timeout=max(0.0, left_s))
            self.resolver.apply(item.move)
            self.moves += 1
            self.version = max(item.move.version, self.version or 0)
            self._has_news.set()

    async def _acknowledge_for_ever(self) -> None:
        told: int | None = None
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            version = self.version
            if version is None or version == told:
                continue
            try:
                await self.api.acknowledge(version)
                told = version
            except VcloneError as error:
                log.warning("acknowledgement.lost", version=version, why=error.sentence)

    async def _confirm_for_ever(self) -> None:
        """Look every site up again whose moves may have been missed, a few at once, until all are confirmed."""
        while True:
            await self._must_confirm.wait()
            self._must_confirm.clear()
            wait_s = FIRST_WAIT_S
            while hosts := self.cache.suspects():
                before = len(hosts)
                await self._confirm_all(hosts)
                left = len(self.cache.suspects())
                log.info("sites.confirmed", confirmed=before - left, left=left)
                if left:
                    await asyncio.sleep(wait_s)
                    wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    async def _confirm_all(self, hosts: list[str]) -> None:
        # The most recently used come first: they are what visitors ask for.
        waiting = iter(reversed(hosts))

        async def confirm_some() -> None:
            for host in waiting:
                if not await self.resolver.confirm(host):
                    return

        await asyncio.gather(*(confirm_some() for _ in range(CONFIRMS_AT_ONCE)))


async def _keep_running(work: Callable[[], Awaitable[None]]) -> None:
    """Run work that never ends. An error nobody foresaw is logged and costs a second, not the stream."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("events.failed")
            await asyncio.sleep(1.0)
