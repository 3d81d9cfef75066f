"""*stream*, the last step of a request: bytes to the client, at the client's speed.

One chunk is in hand at a time: the next is read when the server took the one before. Whoever leaves stops the reading.
A body that can't be finished ends in an exception, so that the server resets the response: short never looks complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

from vclone_core.errors import NotFound, StoreUnavailable, UpstreamTimeout
from vclone_core.protocols import ObjectBody, ObjectStore
from vclone_core.rules.answers import Answer

Headers = Sequence[tuple[bytes, bytes]]
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]

FIRST_BYTE_S: Final = 10.0
READ_S: Final = 30.0
STALL_S: Final = 60.0  # nginx's send_timeout. With 64 KiB chunks this also asks for 1 KiB/s.
DRAIN_BYTES: Final = 64 * 1024
DRAIN_S: Final = 10.0


class StreamAborted(Exception):
    """The response was begun and can't be finished: the server has to reset it."""


class ClientGone(Exception):
    """The client left before the response was whole. Nothing more is to be sent."""


async def send_bytes(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send a whole response."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_object(
    send: Send, receive: Receive, answer: Answer, headers: Headers, *, store: ObjectStore, key: str, can_send_path: bool
) -> int:
    """Send an answer's blob, or its span, straight from the store; return the bytes sent.

    Raises `StoreUnavailable` or `UpstreamTimeout` while an error page can still be sent; later `StreamAborted`, or
    `ClientGone` when the client left.
    """
    started = asyncio.Event()
    sender = asyncio.create_task(_send_object(send, answer, headers, store, key, can_send_path, started))
    watcher = asyncio.create_task(wait_for_disconnect(receive))
    try:
        await asyncio.wait((sender, watcher), return_when=asyncio.FIRST_COMPLETED)
        if not sender.done():
            sender.cancel()
            await asyncio.wait((sender,))
        if sender.cancelled():
            raise ClientGone
        if (error := sender.exception()) is not None:
            if started.is_set():
                raise StreamAborted(str(error)) from error
            raise error
        return sender.result()
    finally:
        # Also when this request itself is cancelled: nobody else would end these two.
        sender.cancel()
        watcher.cancel()
        await asyncio.gather(sender, watcher, return_exceptions=True)


async def _send_object(
    send: Send,
    answer: Answer,
    headers: Headers,
    store: ObjectStore,
    key: str,
    can_send_path: bool,
    started: asyncio.Event,
) -> int:
    start = {"type": "http.response.start", "status": answer.status, "headers": headers}
    context = store.open(key, answer.span)
    try:
        async with asyncio.timeout(FIRST_BYTE_S):
            body = await context.__aenter__()
    except TimeoutError as error:
        raise UpstreamTimeout(what="The object store") from error
    except NotFound as error:
        raise StoreUnavailable(why="an object of this deployment is missing") from error
    try:
        if body.info.size != answer.size:
            raise StoreUnavailable(why="an object of this deployment is damaged")
        if can_send_path and body.path is not None and answer.span is None:
            started.set()
            await send(start)
            await send({"type": "http.response.pathsend", "path": str(body.path)})
            return answer.size
        return await _send_chunks(send, start, body, started)
    finally:
        await context.__aexit__(None, None, None)


async def _send_chunks(send: Send, start: Message, body: ObjectBody, started: asyncio.Event) -> int:
    chunks = aiter(body.chunks)
    missing = body.size
    chunk = await _read(chunks, FIRST_BYTE_S)
    started.set()
    await send(start)
    while chunk:
        missing -= len(chunk)
        if missing < 0:
            raise StoreUnavailable(why="an object is longer than it says")
        async with asyncio.timeout(STALL_S):
            await send({"type": "http.response.body", "body": chunk, "more_body": missing > 0})
        chunk = await _read(chunks, READ_S) if missing > 0 else b""
    if missing > 0:
        raise StoreUnavailable(why=f"an object ends {missing} bytes early")
    return body.size


async def _read(chunks: AsyncIterator[bytes], timeout_s: float) -> bytes:
    """Return the next chunk that has bytes; nothing at the end."""
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in chunks:
                if chunk:
                    return chunk
    except TimeoutError as error:
        raise UpstreamTimeout(what="The object store") from error
    return b""


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has left. What it still sends is read and dropped."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def drain_body(receive: Receive) -> bool:
    """Read and drop a request's body; say whether that was all of it (64 KiB and 10 s at most)."""
    seen = 0
    try:
        async with asyncio.timeout(DRAIN_S):
            while seen <= DRAIN_BYTES:
                message = await receive()
                seen += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return True
    except TimeoutError:
        pass
    return False
