"""A server that rewrites lead to, over real HTTP: it says what it got, and can be as bad as servers are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class OtherServer:
    """`/echo` tells the request in JSON; `/stream`, `/sink` and `/slow` do what their names say."""

    def __init__(self) -> None:
        self.port = 0
        self.requests = 0
        self.taken_bytes = 0
        self.sent_bytes = 0
        self.ended = asyncio.Event()
        """Set when a stream ended, by whomever."""
        self.runs = asyncio.Event()
        self.running = self.most_running = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, **site: Any) -> None:
        app = web.Application(client_max_size=1024**3)
        app.router.add_route("*", "/{way:echo}{rest:.*}", self._echo)
        app.router.add_route("*", "/stream", self._stream)
        app.router.add_route("*", "/sink", self._sink)
        app.router.add_route("*", "/slow", self._slow)
        app.router.add_route("*", "/early", self._early)
        app.router.add_route("*", "/status/{status}", self._status)
        app.router.add_get("/file", self._file)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        tcp = web.TCPSite(self._runner, "127.0.0.1", 0, **site)
        await tcp.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        assert self._runner is not None
        self.runs.set()
        await self._runner.cleanup()

    async def _echo(self, request: web.Request) -> web.Response:
        self.requests += 1
        body = await request.read()
        return web.json_response(
            {
                "method": request.method,
                "target": request.raw_path,
                "fields": [[name.decode().lower(), value.decode()] for name, value in request.raw_headers],
                "body": body.decode("latin-1"),
            }
        )

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            for _ in range(int(request.query.get("pieces", "1000000"))):
                await response.write(b"x" * 16384)
                self.sent_bytes += 16384
        finally:
            self.ended.set()
        return response

    async def _sink(self, request: web.Request) -> web.Response:
        self.requests += 1
        await self.runs.wait()
        try:
            async for piece in request.content.iter_any():
                self.taken_bytes += len(piece)
        finally:
            self.ended.set()
        return web.Response(text=str(self.taken_bytes))

    async def _early(self, request: web.Request) -> web.Response:
        return web.Response(status=413, text="no more", headers={"connection": "close"})

    async def _slow(self, request: web.Request) -> web.Response:
        self.requests += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.runs.wait()
        finally:
            self.running -= 1
        return web.Response(text="late")

    async def _status(self, request: web.Request) -> web.Response:
        status = int(request.match_info["status"])
        headers = {"location": "http://127.0.0.1:1/"} if 300 <= status < 400 and status != 304 else {"etag": '"e"'}
        return web.Response(status=status, headers=headers)

    async def _file(self, request: web.Request) -> web.Response:
        content = b"0123456789"
        if request.headers.get("if-none-match") == '"e"':
            return web.Response(status=304, headers={"etag": '"e"'})
        if request.headers.get("range") == "bytes=2-3":
            return web.Response(status=206, body=content[2:4], headers={"content-range": "bytes 2-3/10"})
        said = {"etag": '"e"', "server": "other", "set-cookie": "a=1", "strict-transport-security": "max-age=1"}
        return web.Response(body=content, headers=said)


@asynccontextmanager
async def raw_server(answer: Answer) -> AsyncIterator[int]:
    """Run a server that does anything with its connections; yields its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await answer(reader, writer)
        except (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in [*tasks]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
