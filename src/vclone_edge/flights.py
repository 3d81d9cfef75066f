"""One load of a thing, however many requests wait for it: they all get what it brings, or the error it ends with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from vclone_core.errors import VcloneError

T = TypeVar("T")


class Flights(Generic[T]):
    """The loads under way, by key."""

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Task[T | VcloneError]] = {}

    async def join(self, key: str, load: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what `load` brings for `key`, started unless it is under way; raise the `VcloneError` it ends with.

        Who asked first may leave: the load goes on for the others.
        """
        flight = self._under_way.get(key)
        if flight is None:
            flight = self._under_way[key] = asyncio.create_task(_land(load()))
            flight.add_done_callback(lambda _: self._under_way.pop(key, None))
        outcome = await asyncio.shield(flight)
        if isinstance(outcome, VcloneError):
            raise outcome.with_traceback(None)
        return outcome

    async def close(self) -> None:
        """End the loads under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _land(load: Coroutine[Any, Any, T]) -> T | VcloneError:
    # Returned, not raised: of a load that everybody left nobody takes the error.
    try:
        return await load
    except VcloneError as error:
        return error
