"""What an app under hypercorn receives and says: unread bodies stop nobody, and who has gone is told no more."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hypercorn.asyncio.task_group import TaskGroup

from vclone_core.log import get_log
from vclone_edge.stream import StreamAborted

_log = get_log(__name__)

Message = Mapping[str, Any]


class Inbox:
    """What an app is going to receive.

    `put` waits while `limit` bytes lie unread and the request goes on, so a body that nobody reads stops its sender
    and nobody else. hypercorn's own queue waits for ever once ten messages lie in it.
    """

    def __init__(self, *, limit: int | None = None, on_taken: Callable[[int], Awaitable[None]] | None = None) -> None:
        self.unread = 0
        self.is_over = False
        self._limit = limit
        self._on_taken = on_taken
        self._messages: deque[Message] = deque()
        self._changed = asyncio.Condition()

    async def put(self, message: Message) -> None:
        """Hand on one ASGI message; the last one is `http.disconnect`."""
        async with self._changed:
            if message["type"] == "http.disconnect":
                self.is_over = True
            else:
                self._messages.append(message)
                self.unread += len(message.get("body", b""))
            self._changed.notify_all()
            if self._limit is not None:
                await self._changed.wait_for(lambda: self.is_over or self.unread < (self._limit or 0))

    async def get(self) -> Message:
        """Return the next message; after the end always `http.disconnect`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._messages or self.is_over)
            if not self._messages:
                return {"type": "http.disconnect"}
            message = self._messages.popleft()
            size = len(message.get("body", b""))
            self.unread -= size
            self._changed.notify_all()
        if size and self._on_taken is not None:
            await self._on_taken(size)
        return message

    def clear(self) -> int:
        """Throw away what nobody has read; return how many bytes it was."""
        size, self.unread = self.unread, 0
        self._messages.clear()
        return size


class AppSpawner:
    """A task group as one stream sees it: the app gets this stream's inbox."""

    def __init__(self, group: TaskGroup, inbox: Inbox) -> None:
        self._group = group
        self._inbox = inbox

    async def spawn_app(self, app: Any, _config: Any, scope: Any, send: Any) -> Callable[[Any], Awaitable[None]]:
        """Run the app for one request; return what takes the messages it is going to receive."""
        self._group.spawn(self._run, app, scope, send)
        return self._inbox.put

    async def _run(self, app: Any, scope: Any, send: Any) -> None:
        async def say(message: Message) -> None:
            if self._inbox.is_over:
                # Nobody listens. An app that talks on must not keep everybody else from being heard.
                await asyncio.sleep(0)
            else:
                await send(message)

        try:
            await app(scope, self._inbox.get, say, None, None)
        except StreamAborted:
            pass  # The app has said what there is to say.
        except Exception as error:
            # A stranger must not be able to fill the log with tracebacks.
            _log.warning("request.broken_off", why=repr(error)[:200])
        finally:
            await send(None)
