"""A small ASGI app that shows what a server does: fixed, streamed, file, echoed, broken and unread answers."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from typing import Any

from vclone_core.errors import VcloneError
from vclone_edge.lane import Head, Whole
from vclone_edge.peers import lookup

SMALL = b"x" * 1024
CHUNK = b"y" * 65536
WHOLE = b"w" * (1024 * 1024)
RUNNING = {"requests": 0}


class _App:
    """Its page is also answered over the lane, so that every test here runs through that; `/lane…` only there."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["path"] == "/running":
            await _answer(send, json.dumps(RUNNING).encode())
        else:
            RUNNING["requests"] += 1
            try:
                await _app(scope, receive, send)
            finally:
                RUNNING["requests"] -= 1

    def answer_now(self, scope: Any, limit_bytes: int) -> Whole | None:
        path = scope["raw_path"]
        if path == b"/":
            return START_HEAD, (), b"" if scope["method"] == "HEAD" else SMALL
        if path.startswith(b"/lane/"):
            size, _, letter = path[6:].partition(b"/")
            body = (letter or b"z") * int(size)
            if len(body) > limit_bytes:
                return None
            length, peer = (b"content-length", b"%d" % len(body)), (b"x-peer", scope["client"][0].encode())
            return Head(200, [length]), [peer], body
        return None


def app() -> Any:
    return _App()


def broken_start() -> Any:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "not today"})

    return refuse


async def _answer(send: Any, body: bytes, *, status: int = 200, kind: bytes = b"text/plain", extra: Any = ()) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _judge(scope: Any, send: Any) -> None:
    """Answer with the host and path that the edge's own rules find in a request, or with their refusal."""
    from vclone_edge.flow import read_request  # slow to import, and few tests need it

    try:
        request = read_request(scope)
    except VcloneError as error:
        await _answer(send, error.code.encode(), status=error.status)
        return
    await _answer(send, f"{request.host} {request.path}".encode())


async def _live(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _app(scope: Any, receive: Any, send: Any) -> None:
    path = scope["path"]
    if scope["raw_path"].startswith(b"/strict") or not path.startswith("/"):
        await _judge(scope, send)
    elif path == "/":
        await send(START)
        await send(BODY)
    elif path.startswith("/stream/"):
        await _stream(receive, send, int(path.split("/")[2]), pause_s=float([*path.split("/"), "0"][3] or 0))
    elif path.startswith("/whole/"):
        from vclone_edge import stream

        stream.STALL_S = 2.0  # sixty in earnest
        body = WHOLE[: int(path.split("/")[2])]
        with suppress(stream.ClientGone):
            await stream.send_memory(send, receive, 200, [(b"content-length", b"%d" % len(body))], body)
    elif path.startswith("/sleep/"):
        await asyncio.sleep(float(path.split("/")[2]))
        await _answer(send, b"slept")
    elif path == "/file" and "http.response.pathsend" in scope["extensions"]:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.pathsend", "path": os.path.abspath(__file__)})
    elif path == "/scope":
        peer = lookup(scope)
        echo = {"client": peer.address, "is_tls": peer.is_tls, "pid": os.getpid(), "version": scope["http_version"]}
        await _answer(send, json.dumps(echo).encode(), kind=b"application/json")
    elif path == "/break":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"131072")]})
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        raise RuntimeError("broken on purpose")
    elif path == "/refuse":
        await _answer(send, b"too large", status=413)
    elif path == "/drain":
        from vclone_edge import stream

        stream.DRAIN_S = 1.0  # type: ignore[misc]  # ten in earnest
        if await stream.drain_body(receive):
            await _answer(send, b"all of it")
        else:
            await _answer(send, b"too slow", status=408, extra=[(b"connection", b"close")])
    elif path == "/read":
        size = 0
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        await _answer(send, str(size).encode())
    else:
        await _answer(send, b"no", status=404)


START: dict[str, Any] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"1024")],
}
START_HEAD = Head(200, START["headers"])
BODY = {"type": "http.response.body", "body": SMALL}


async def _stream(receive: Any, send: Any, size: int, *, pause_s: float) -> None:
    gone = asyncio.create_task(_wait_for_end(receive))
    try:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(size).encode())]})
        left = size
        while left and not gone.done():
            piece = CHUNK[:left]
            left -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
            if pause_s:
                await asyncio.sleep(pause_s)
    finally:
        gone.cancel()


async def _wait_for_end(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
