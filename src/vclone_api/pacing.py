"""Back-pressure for request bodies: a handler that reads slowly, or not at all, stops its client.

Quart 0.22 reads a body ahead of its handler, into memory, without a limit; and hypercorn keeps a connection for ever
whose body nobody takes. This ASGI wrapper lets in `WINDOW_BYTES` ahead of the reader, and throws away what comes after
an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

SCOPE_KEY: Final = "vclone.body_gate"
WINDOW_BYTES: Final = 256 * 1024
# How long, and for how many bytes, an early answer waits for the client to finish sending: a client that is still
# writing when the connection closes often never sees the answer.
LINGER_S: Final = 3.0
LINGER_BYTES: Final = 128 * 1024**2


class BodyGate:
    """Counts one request's body: let in at one end, `took` at the other."""

    def __init__(self) -> None:
        self._waiting_bytes = 0
        self._discarded_bytes = 0
        self._is_discarding = False
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_over = asyncio.Event()

    def took(self, size: int) -> None:
        """Say that the handler has taken `size` bytes."""
        self._waiting_bytes -= size
        if self._waiting_bytes < WINDOW_BYTES:
            self._has_room.set()

    async def receive(self, receive: Receive) -> Message:
        """Return the next message once there is room for it."""
        await self._has_room.wait()
        message = await receive()
        if message["type"] != "http.request":
            self._is_over.set()
            return message
        if not message.get("more_body", False):
            self._is_over.set()
        size = len(message.get("body", b""))
        if self._is_discarding:
            self._discarded_bytes += size
            if self._discarded_bytes > LINGER_BYTES:
                self._is_over.set()
            return {**message, "body": b""}
        self._waiting_bytes += size
        if self._waiting_bytes >= WINDOW_BYTES:
            self._has_room.clear()
        return message

    async def linger(self) -> None:
        """From now on drop what comes; wait a little for the body's end, so that the client reads the answer."""
        self._is_discarding = True
        self._has_room.set()
        if not self._is_over.is_set():
            try:
                async with asyncio.timeout(LINGER_S):
                    await self._is_over.wait()
            except TimeoutError:
                pass


def pace_bodies(app: ASGIApp) -> ASGIApp:
    """Return `app` with a `BodyGate` in each request's scope and between it and its body."""

    async def paced(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        gate = scope[SCOPE_KEY] = BodyGate()

        async def gated_receive() -> Message:
            return await gate.receive(receive)

        async def gated_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                await gate.linger()
            await send(message)

        await app(scope, gated_receive, gated_send)

    return paced
