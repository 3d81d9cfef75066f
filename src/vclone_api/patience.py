"""A time limit that holds even where cancelling takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from vclone_core.errors import Unavailable

T = TypeVar("T")


async def within(limit_s: float | None, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns; raise `Unavailable` after `limit_s` seconds without it.

    Work that is given up is cancelled and left to end by itself: a driver whose server is silent first tries to tell
    it so, and `asyncio.timeout` would wait for that.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=limit_s)
    except asyncio.CancelledError:
        _give_up(task)
        raise
    if not done:
        _give_up(task)
        raise Unavailable(what="A part of the platform")
    return task.result()


def _give_up(task: asyncio.Future[Any]) -> None:
    task.cancel()
    # Whatever it still raises has nobody to hear it.
    task.add_done_callback(lambda late: late.cancelled() or late.exception())
