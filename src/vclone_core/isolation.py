"""Runs a plugin's code where it can hold nobody up: a call in a thread of its own, events in a loop of their own.

A thread can't be ended from outside. One that never returns is left behind: it is a daemon, so the process still ends,
and an exception is raised in it, which ends a loop written in Python. One in a C function stays, and costs no more than
that function does; if it keeps the interpreter's lock, only another process can help (`embedded/supervisor.py`).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class TookTooLong(Exception):
    """The call did not return within its limit, and is left behind."""


def call_within(limit_s: float, function: Callable[..., Answer], *arguments: Any, **named: Any) -> Answer:
    """Return what `function` returns, or raise what it raises; `TookTooLong` when it did neither within the limit.

    Holds up the calling thread, at most for the limit: on an event loop, await `call_beside` of what calls this.
    """
    thread, future = _start(function, *arguments, **named)
    concurrent.futures.wait({future}, timeout=limit_s)
    if not future.done():
        _interrupt(thread)
        raise TookTooLong
    return future.result()


async def call_beside(function: Callable[..., Answer], *arguments: Any, **named: Any) -> Answer:
    """Await a call that holds up neither the loop nor, unlike one in a pool's thread, the end of the process."""
    _, future = _start(function, *arguments, **named)
    return await asyncio.wrap_future(future)


class EventLane:
    """A thread with an event loop, in which one plugin hears its events; it begins with the first."""

    def __init__(self, plugin: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"events of {plugin}", daemon=True)
        self._thread.start()

    def begin(self, work: Coroutine[Any, Any, Answer]) -> concurrent.futures.Future[Answer]:
        """Start `work` in the lane. Cancelling what is returned cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def answers(self, limit_s: float) -> bool:
        """Say whether the lane's loop turns: False while something in it waits without awaiting."""
        here = asyncio.get_running_loop()
        turned = asyncio.Event()
        self._loop.call_soon_threadsafe(lambda: here.call_soon_threadsafe(turned.set))
        try:
            async with asyncio.timeout(limit_s):
                await turned.wait()
        except TimeoutError:
            return False
        return True

    def abandon(self) -> None:
        """Try to end what blocks the lane; the lane isn't used again."""
        self.close()
        _interrupt(self._thread)

    def close(self) -> None:
        """End the lane's thread as soon as its loop turns."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()


def _start(
    function: Callable[..., Answer], *arguments: Any, **named: Any
) -> tuple[threading.Thread, concurrent.futures.Future[Answer]]:
    future: concurrent.futures.Future[Answer] = concurrent.futures.Future()
    context = contextvars.copy_context()  # what the log says of every line

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            answer = context.run(function, *arguments, **named)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(answer)

    thread = threading.Thread(target=run, name=f"call of {getattr(function, '__qualname__', function)}", daemon=True)
    thread.start()
    return thread, future


def _interrupt(thread: threading.Thread) -> None:
    """Raise SystemExit in a thread, at its next step in Python."""
    import ctypes  # seldom needed, and not in every process's start

    if thread.ident is not None and thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
