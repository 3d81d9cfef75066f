"""Several of a kind at once, never more than a given number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")


async def run_each(items: Iterable[Item], run: Callable[[Item], Awaitable[None]], *, in_flight: int) -> None:
    """Run `run` for every item, `in_flight` at once. The first error ends the others and is raised as it is."""
    queue = iter(items)

    async def take_turns() -> None:
        for item in queue:
            await run(item)

    tasks = [asyncio.create_task(take_turns()) for _ in range(in_flight)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
