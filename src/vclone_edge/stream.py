"""*stream*, the last step of a request: bytes to the client, at the client's speed.

One chunk is in hand at a time: the next is read when the server took the one before. Whoever leaves stops the reading.
A body that can't be finished ends in an exception, so that the server resets the response: short never looks complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from typing import Any, Final

from vclone_core.errors import Invalid, NotFound, StoreUnavailable
from vclone_core.log import get_log
from vclone_core.protocols import ObjectBody
from vclone_core.rules.answers import Answer
from vclone_edge.extents import Extent
from vclone_edge.upstream import Readable

Headers = Sequence[tuple[bytes, bytes]]
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]

STALL_S: Final = 60.0  # nginx's send_timeout
STALL_BYTES: Final = 64 * 1024  # A larger chunk gets more time: what is asked for is 1 KiB/s.
# What an engine takes of a body at once it keeps until the client has read it: so it isn't given more than this.
WHOLE_BYTES: Final = 128 * 1024
PIECE_BYTES: Final = 64 * 1024
DRAIN_BYTES: Final = 64 * 1024
DRAIN_S: Final = 10.0

log = get_log(__name__)


class StreamAborted(Exception):
    """The response was begun and can't be finished: the server has to reset it."""


class ClientStalled(StreamAborted):
    """The client took too little for too long. Anybody can bring that about, as often as they like."""


class ClientGone(Exception):
    """The client left before the response was whole. Nothing more is to be sent."""


async def send_bytes(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send a whole response, whose body is of `WHOLE_BYTES` at most."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_memory(send: Send, receive: Receive, status: int, headers: Headers, body: bytes | memoryview) -> None:
    """Send a response whose body is in memory; a large one in pieces, at the client's speed.

    Raises `StreamAborted`, or `ClientGone` when the client left.
    """
    if len(body) <= WHOLE_BYTES:
        await send_bytes(send, status, headers, bytes(body))
        return
    started = asyncio.Event()
    started.set()
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await while_client_stays(_send_pieces(send, memoryview(body)), wait_for_disconnect(receive), started)


async def _send_pieces(send: Send, body: memoryview) -> int:
    for at in range(0, len(body), PIECE_BYTES):
        await send_piece(send, bytes(body[at : at + PIECE_BYTES]), more_body=at + PIECE_BYTES < len(body))
    return len(body)


async def send_object(
    send: Send,
    receive: Receive,
    answer: Answer,
    headers: Headers,
    *,
    store: Readable,
    extent: Extent,
    can_send_path: bool,
) -> int:
    """Send an answer's bytes, which lie at `extent`, straight from the store; return how many were sent.

    Raises `StoreUnavailable` or `UpstreamTimeout` while an error page can still be sent; later `StreamAborted`, or
    `ClientGone` when the client left.
    """
    started = asyncio.Event()
    work = _send_object(send, answer, headers, store, extent, can_send_path, started)
    return await while_client_stays(work, wait_for_disconnect(receive), started)


async def while_client_stays(
    work: Coroutine[Any, Any, int], leaving: Coroutine[Any, Any, None], started: asyncio.Event
) -> int:
    """Return what `work` does, which is ended with `ClientGone` when `leaving` is over first.

    What it raises once `started` is set, when the head of the response is on its way, becomes `StreamAborted`.
    """
    sender, watcher = asyncio.create_task(work), asyncio.create_task(leaving)
    try:
        await asyncio.wait((sender, watcher), return_when=asyncio.FIRST_COMPLETED)
        if not sender.done():
            sender.cancel()
            await asyncio.wait((sender,))
        if sender.cancelled():
            raise ClientGone
        if (error := sender.exception()) is not None:
            if started.is_set() and not isinstance(error, StreamAborted):
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
    store: Readable,
    extent: Extent,
    can_send_path: bool,
    started: asyncio.Event,
) -> int:
    start = {"type": "http.response.start", "status": answer.status, "headers": headers}
    try:
        async with store.open(extent.key, extent.span) as body:
            if body.info.size != extent.object_size:
                raise StoreUnavailable(why="an object of this deployment is damaged")
            if can_send_path and body.path is not None and extent.span is None:
                started.set()
                await send(start)
                await send({"type": "http.response.pathsend", "path": str(body.path)})
                return answer.size
            return await _send_chunks(send, start, body, started)
    except NotFound as error:
        log.error("blob.missing", key=extent.key)
        raise StoreUnavailable(why="an object of this deployment is missing") from error
    except Invalid as error:  # it ends before the span
        raise StoreUnavailable(why="an object of this deployment is damaged") from error


async def _send_chunks(send: Send, start: Message, body: ObjectBody, started: asyncio.Event) -> int:
    missing = body.size
    async for chunk in body.chunks:
        if not started.is_set():
            started.set()
            await send(start)
        missing -= len(chunk)
        if missing < 0:
            raise StoreUnavailable(why="an object is longer than it says")
        await send_piece(send, chunk, more_body=missing > 0)
    if missing > 0:
        raise StoreUnavailable(why=f"an object ends {missing} bytes early")
    if not started.is_set():
        started.set()
        await send(start)
        await send({"type": "http.response.body", "body": b""})
    return body.size


async def send_piece(send: Send, piece: bytes, *, more_body: bool = True) -> None:
    """Send a part of a body; raise `ClientStalled` where the client takes under 1 KiB/s of it."""
    try:
        async with asyncio.timeout(STALL_S * max(1.0, len(piece) / STALL_BYTES)):
            await send({"type": "http.response.body", "body": piece, "more_body": more_body})
    except TimeoutError:
        raise ClientStalled("the client takes nothing of it") from None


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
