"""The object store as the edge reads it: never more reads at once than it bears, and no read given up too early.

    take a place -> open (first byte ≤ 10 s) -> chunks (each ≤ 30 s) -> give the place back
                     ^ cut in mid-body: the rest, if it is the same object    ^ client is slow, others wait: parked

A body whose client takes its time gives its place to those who wait, and is opened again at the same byte when the
client goes on. So slow clients keep nobody out. Objects that are local files need none of this and pass through.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

from vclone_core.errors import StoreBusy, StoreUnavailable, UpstreamTimeout, VcloneError
from vclone_core.log import get_log
from vclone_core.protocols import ObjectBody, ObjectInfo, ObjectStore, Span
from vclone_edge.slots import Slots

FIRST_BYTE_S: Final = 10.0
READ_S: Final = 30.0
QUEUE_S: Final = 5.0
RESUMES: Final = 3  # of one body; each only while the store's budget lasts
BUDGET: Final = 10.0  # resumes in a burst; each read that is opened earns a tenth of one
EARNED: Final = 0.1
IDLE_S: Final = 0.5
RECLAIM_S: Final = 0.1
RESTART_S: Final = (0.5, 1.0, 2.0, 5.0)

log = get_log(__name__)


class Readable(Protocol):
    """Where manifests and blobs are read from."""

    @property
    def is_local(self) -> bool:
        """Whether the objects are known to be files of this machine."""

    def open(self, key: str, span: Span | None = None) -> AbstractAsyncContextManager[ObjectBody]:
        """Open an object, as `ObjectStore.open` does."""


class Upstream:
    """Reads of one object store. `make` returns a new one, not yet started."""

    def __init__(self, make: Callable[[], ObjectStore], *, reads_at_once: int) -> None:
        self._make = make
        self.store = make()
        self.slots = Slots(
            reads_at_once,
            share=max(1, reads_at_once // 2),
            busy=lambda: StoreBusy(limit=reads_at_once, is_passing=False),
        )
        self.is_started = False
        self.is_local = False
        self.opens = 0
        self.resumes = 0
        self.parks = 0
        self._why = "it is not started"
        self._budget = BUDGET
        self._readings: set[_Reading] = set()
        self._tried = asyncio.Event()
        self._starter: asyncio.Task[None] | None = None
        self._reclaimer: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect; raise `StoreUnavailable` when that fails, after which it may be called again."""
        try:
            await self.store.start()
        except BaseException as error:
            if isinstance(error, VcloneError):
                self._why = str(error.facts.get("why", error.sentence))
            failed, self.store = self.store, self._make()
            self._tried.set()
            await failed.close()
            raise
        self.is_started = True
        self._tried.set()

    async def start_soon(self, *, within_s: float) -> None:
        """Connect, in the background where it takes longer or fails.

        Until then reads raise: those during the first attempt after its end, or after 5 s, the later ones at once.
        """
        self._starter = asyncio.create_task(self._start_for_ever())
        await asyncio.wait((self._starter,), timeout=within_s)

    async def close(self) -> None:
        """Give every connection back."""
        tasks = [task for task in (self._starter, self._reclaimer) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.is_started = False
        await self.store.close()

    @asynccontextmanager
    async def open(self, key: str, span: Span | None = None) -> AsyncGenerator[ObjectBody]:
        """Open an object, whole or a span of it, as `ObjectStore.open` does.

        Raises `StoreBusy` when no place came free within 5 s, and `UpstreamTimeout` when the store stays silent.
        """
        if not self.is_started:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUEUE_S):
                    await self._tried.wait()
            if not self.is_started:
                raise StoreUnavailable(why=self._why)
        self.opens += 1
        self._budget = min(BUDGET, self._budget + EARNED)
        reading = _Reading(self, key, span)
        self._readings.add(reading)
        try:
            yield await reading.begin()
        finally:
            self._readings.discard(reading)
            await reading.end()

    async def take_slot(self, owner: str, *, within_s: float) -> None:
        """Wait for a place to read; meanwhile those are looked for whose clients keep theirs idle."""
        if self.slots.try_take(owner):
            return
        if self._reclaimer is None:
            self._reclaimer = asyncio.create_task(self._reclaim())
        await self.slots.take(owner, within_s=within_s)

    def may_resume(self, error: VcloneError, done: int) -> bool:
        """Say whether a body that broke is worth another request, and count that against the budget."""
        if done >= RESUMES or self._budget < 1 or not error.facts.get("is_passing", True):
            return False
        self._budget -= 1
        self.resumes += 1
        return True

    async def _start_for_ever(self) -> None:
        for attempt in itertools.count():
            try:
                await self.start()
            except VcloneError as error:
                if attempt == 0:
                    log.error("store.away", why=error.sentence)
            except Exception:
                log.exception("store.start_failed")
            else:
                log.info("store.connected", attempts=attempt + 1)
                return
            wait_s = RESTART_S[min(attempt, len(RESTART_S) - 1)]
            await asyncio.sleep(wait_s * random.uniform(0.7, 1.3))  # noqa: S311 - spreads load, guards nothing

    async def _reclaim(self) -> None:
        """While somebody waits, park bodies whose clients have taken nothing for half a second: the idlest first."""
        try:
            while self.slots.waiting:
                now_s = asyncio.get_running_loop().time()
                idle = [reading for reading in self._readings if now_s - reading.idle_since_s > IDLE_S]
                for reading in sorted(idle, key=lambda reading: reading.idle_since_s):
                    if self.slots.would_help(reading.owner):
                        self.parks += 1
                        with contextlib.suppress(VcloneError):
                            await reading.park()
                await asyncio.sleep(RECLAIM_S)
        finally:
            self._reclaimer = None


class _Reading:
    """One body on its way to its reader. `idle_since_s` is infinite while the store, not the reader, has to act."""

    def __init__(self, upstream: Upstream, key: str, span: Span | None) -> None:
        self.owner = key.partition("/")[0]
        self.idle_since_s = float("inf")
        self._upstream = upstream
        self._key = key
        self._span = span
        self._info: ObjectInfo | None = None
        self._opened: AbstractAsyncContextManager[ObjectBody] | None = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._passing: AsyncGenerator[bytes] | None = None
        self._has_slot = False
        self._resumes = 0

    async def begin(self) -> ObjectBody:
        """Open the object and wait for its first bytes."""
        await self._take_slot(QUEUE_S)
        try:
            async with asyncio.timeout(FIRST_BYTE_S):
                body = await self._open(self._span)
                if body.path is not None:
                    self._upstream.is_local = True
                    self._give_back_slot()
                    return body
                self._info = body.info
                start = 0 if self._span is None else self._span.start
                chunk = await self._read_on(start, start + body.size)
        except TimeoutError:
            raise UpstreamTimeout(what="The object store") from None
        self._passing = self._pass_on(chunk, start, start + body.size)
        return ObjectBody(body.info, body.size, self._passing)

    async def park(self) -> None:
        """Close what is open, and give the place back. The next read opens it again."""
        self.idle_since_s = float("inf")
        await self.leave()

    async def end(self) -> None:
        """Give everything back for good."""
        try:
            if self._passing is not None:
                await self._passing.aclose()
        finally:
            await self.leave()

    async def leave(self) -> None:
        """Give the place back and close what is open."""
        opened, self._opened, self._chunks = self._opened, None, None
        self._give_back_slot()  # Before anything is awaited: the client may go on meanwhile, and take a new one.
        if opened is not None:
            await opened.__aexit__(None, None, None)

    async def _pass_on(self, chunk: bytes, start: int, end: int) -> AsyncGenerator[bytes]:
        loop = asyncio.get_running_loop()
        while chunk:
            start += len(chunk)
            self.idle_since_s = loop.time()
            try:
                yield chunk
            finally:
                self.idle_since_s = float("inf")
            if start >= end:
                return
            try:
                async with asyncio.timeout(READ_S):
                    chunk = await self._read_on(start, end)
            except TimeoutError:
                raise UpstreamTimeout(what="The object store") from None

    async def _read_on(self, start: int, end: int) -> bytes:
        """Return the next bytes from `start`, over a new request where the one before was cut or parked."""
        while True:
            try:
                if self._chunks is None:
                    await self._reopen(start, end)
                assert self._chunks is not None
                chunk = await anext(self._chunks, b"")
                if chunk or start >= end:
                    return chunk
                raise StoreUnavailable(why=f"an object ends {end - start} bytes early")
            except StoreUnavailable as error:
                with contextlib.suppress(VcloneError):
                    await self.leave()
                if not self._upstream.may_resume(error, self._resumes):
                    raise
                self._resumes += 1
                log.warning("read.resumed", key=self._key, at=start, why=error.sentence)

    async def _reopen(self, start: int, end: int) -> None:
        assert self._info is not None
        await self._take_slot(READ_S)
        body = await self._open(Span(start, end - 1))
        if (body.info.etag, body.info.size) != (self._info.etag, self._info.size):
            raise StoreUnavailable(why="an object changed while it was read", is_passing=False)

    async def _open(self, span: Span | None) -> ObjectBody:
        etag = None if self._info is None else self._info.etag
        opening = self._upstream.store.open(self._key, span, etag=etag)
        body = await opening.__aenter__()
        self._opened, self._chunks = opening, aiter(body.chunks)
        return body

    async def _take_slot(self, within_s: float) -> None:
        await self._upstream.take_slot(self.owner, within_s=within_s)
        self._has_slot = True

    def _give_back_slot(self) -> None:
        if self._has_slot:
            self._has_slot = False
            self._upstream.slots.give_back(self.owner)
