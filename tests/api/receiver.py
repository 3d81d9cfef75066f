"""A server on loopback that webhooks are sent to: it keeps what comes and answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from tests.ports import pick_port


@dataclass
class Received:
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """`answer` makes the next answers; `got` is what came."""

    url: str
    got: list[Received] = field(default_factory=list)
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    hangs: bool = False
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def wait(self, count: int, timeout_s: float = 20.0) -> list[Received]:
        """Return what came, once that is `count` deliveries."""
        async with asyncio.timeout(timeout_s), self.news:
            await self.news.wait_for(lambda: len(self.got) >= count)
        return self.got

    async def take(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        async with self.news:
            self.got.append(Received({k.lower(): v for k, v in request.headers.items()}, data))
            self.news.notify_all()
        if self.hangs:
            await asyncio.sleep(3600)
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@asynccontextmanager
async def receive() -> AsyncIterator[Receiver]:
    port = pick_port()
    receiver = Receiver(f"http://127.0.0.1:{port}/told")
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.take)
    runner: Any = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield receiver
    finally:
        await runner.cleanup()
