"""Server-sent events (WHATWG HTML §9.2): their bytes, their heartbeat, and their end when the process stops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from quart import Request, Response

from vclone_core.errors import VcloneError
from vclone_core.log import get_log

log = get_log(__name__)
Events = AsyncGenerator[bytes, None]


def encode_event(event: str, data: Any, *, number: int | None = None) -> bytes:
    """Return one event with `data` as JSON; `number` becomes its id, which a client sends back to resume."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))  # JSON has no raw line breaks
    identity = "" if number is None else f"id: {number}\n"
    return f"{identity}event: {event}\ndata: {text}\n\n".encode()


def last_event_id(request: Request) -> int | None:
    """Return the number of the last event a resuming client has seen; None for a new one, or when it is no number."""
    text = request.headers.get("Last-Event-ID", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def stream_events(
    request: Request,
    events: Events,
    *,
    stopping: asyncio.Event,
    heartbeat_s: float,
    on_heartbeat: Callable[[], Awaitable[object]] | None = None,
) -> Response:
    """Return a response that sends `events` until they end, the client goes, or `stopping` is set."""
    body = _beat(events, stopping=stopping, heartbeat_s=heartbeat_s, on_heartbeat=on_heartbeat)
    response = Response(
        b"" if request.method == "HEAD" else body,
        content_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )
    response.timeout = None  # Quart would end it, without a word, after a minute
    return response


async def _beat(
    events: Events,
    *,
    stopping: asyncio.Event,
    heartbeat_s: float,
    on_heartbeat: Callable[[], Awaitable[object]] | None,
) -> Events:
    stop: asyncio.Future[Any] = asyncio.ensure_future(stopping.wait())
    following: asyncio.Future[Any] | None = None
    try:
        yield b":\n\n"  # the client knows at once that it is connected
        while not stopping.is_set():
            following = following or asyncio.ensure_future(anext(events))
            await asyncio.wait({following, stop}, timeout=heartbeat_s, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                done, following = following, None
                try:
                    yield done.result()
                except StopAsyncIteration:
                    return
                except VcloneError as error:
                    log.warning("stream.ended", why=error.sentence)  # the client connects again and is told then
                    return
            elif not stop.done():
                if on_heartbeat is not None:
                    await on_heartbeat()
                yield b":\n\n"
    finally:
        stop.cancel()
        if following is not None:
            following.cancel()
            await asyncio.wait({following})
        await events.aclose()
