"""When a failed request is made again: at most twice, after a jittered moment, and seldom when everything fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from vclone_core import errors

DELAYS_S: Final = (0.1, 0.4)
BUDGET: Final = 32.0  # retries that may be made in a burst; each request earns a tenth of one
EARNED: Final = 0.1

T = TypeVar("T")


class Retries:
    """The retry budget of one store."""

    def __init__(self) -> None:
        self._budget = BUDGET

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Return what `attempt` returns; call it again after a failure that `is_passing` and while the budget lasts."""
        self._budget = min(BUDGET, self._budget + EARNED)
        for delay_s in DELAYS_S:
            try:
                return await attempt()
            except errors.StoreUnavailable as failure:
                if not failure.facts.get("is_passing") or self._budget < 1:
                    raise
            self._budget -= 1
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.5))  # noqa: S311 (no secret)
        return await attempt()
