"""Small puts that wait at the same moment share a trip to a thread and their syncs: most of what a small file costs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from vclone_store_local.files import Put

# Puts up to this size; a larger one is worth a trip of its own.
SMALL_BYTES: Final = 256 * 1024
PUTS_PER_BATCH: Final = 32
# While one batch waits for the disk others write; their syncs share the file system's commits.
BATCHES_AT_ONCE: Final = 8

Outcome = bool | Exception
StoreBatch = Callable[[Sequence[Put]], Awaitable[Sequence[Outcome]]]


class Batches:
    """Hands waiting puts to `store_batch`, which says of each whether it was written, or why not."""

    def __init__(self, store_batch: StoreBatch) -> None:
        self._store_batch = store_batch
        self._waiting: deque[tuple[Put, asyncio.Future[bool]]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def put(self, put: Put) -> bool:
        """Return once the put is done and durable: was it written? A cancelled one that still waits is left out."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._start)  # after all that ask in the same turn of the loop
        self._waiting.append((put, future))
        return await future

    def _start(self) -> None:
        lacking = min(-(-len(self._waiting) // PUTS_PER_BATCH), BATCHES_AT_ONCE - len(self._running))
        for _ in range(lacking):
            task = asyncio.create_task(self._work(), name="puts")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _work(self) -> None:
        while batch := self._take():
            try:
                outcomes: Sequence[Outcome] = await self._store_batch([put for put, _ in batch])
            except Exception as error:
                outcomes = [error] * len(batch)
            except asyncio.CancelledError:
                for _, future in batch:
                    future.cancel()
                raise
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if future.done():
                    continue
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)

    def _take(self) -> list[tuple[Put, asyncio.Future[bool]]]:
        batch: list[tuple[Put, asyncio.Future[bool]]] = []
        while self._waiting and len(batch) < PUTS_PER_BATCH:
            put, future = self._waiting.popleft()
            if not future.cancelled():
                batch.append((put, future))
        return batch
