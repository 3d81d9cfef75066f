"""A peer that speaks the control plane's `/internal` protocol: the other end of the wire, over real HTTP.

It is no stand-in for the API (tests/e2e drive that one): it can do what the real one must not, such as hang, lie,
forget its history or vanish.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from vclone_core.models import AliasMove, Site
from vclone_core.rules.sites import encode_move, encode_site

TOKEN = "edge-token-of-the-tests"


class ControlPeer:
    """Sites, moves and acknowledgements; `port` stays the same over `stop` and `start`."""

    def __init__(self) -> None:
        self.port = 0
        self.sites: dict[str, Site] = {}
        self.version = 0
        self.history: list[AliasMove] = []
        self.look_ups: list[str] = []
        self.acks: list[tuple[str, int]] = []
        self.hellos: list[int | None] = []
        self.keeps_history = True
        self.answer: tuple[int, Any] | None = None
        """What every look-up gets, in place of the truth."""
        self.runs = asyncio.Event()
        """Cleared: requests are taken and nothing is answered, like a stopped process."""
        self.runs.set()
        self.listeners: set[asyncio.Queue[bytes]] = set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/internal/v1/sites/{host}", self._look_up)
        app.router.add_get("/internal/v1/events", self._events)
        app.router.add_post("/internal/v1/edges/{edge}/acks", self._ack)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        assert self._runner.addresses
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Vanish: connections are closed, new ones refused."""
        if self._runner is not None:
            self.cut()
            await self._runner.cleanup()
            self._runner = None

    def cut(self) -> None:
        """End every event stream."""
        for queue in self.listeners:
            queue.put_nowait(b"")

    def move(self, host: str, site: Site | None, *, is_told: bool = True) -> int:
        """Point a host at a site with the next version, and tell the edges."""
        self.version += 1
        if site is None:
            self.sites.pop(host, None)
        else:
            site = Site(
                **{name: getattr(site, name) for name in Site.__slots__} | {"host": host, "version": self.version}
            )
            self.sites[host] = site
        moved = AliasMove(self.version, host, site)
        self.history.append(moved)
        if is_told:
            for queue in self.listeners:
                queue.put_nowait(_encode(moved))
        return self.version

    def say(self, raw: bytes) -> None:
        """Put any bytes on every event stream."""
        for queue in self.listeners:
            queue.put_nowait(raw)

    async def _check(self, request: web.Request) -> None:
        await self.runs.wait()
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            raise web.HTTPUnauthorized

    async def _look_up(self, request: web.Request) -> web.Response:
        host = request.match_info["host"]
        self.look_ups.append(host)
        await self._check(request)
        if self.answer is not None:
            status, document = self.answer
            text = document if isinstance(document, str) else json.dumps(document)
            return web.Response(text=text, status=status, content_type="application/json")
        if host not in self.sites:
            return web.json_response({"status": 404, "code": "no_such_site"}, status=404)
        return web.json_response(encode_site(self.sites[host]))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        await self._check(request)
        after = int(request.query["after"]) if "after" in request.query else None
        self.hellos.append(after)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        is_complete = after is not None and self.keeps_history
        hello = json.dumps({"version": self.version, "complete": is_complete})
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.listeners.add(queue)
        try:
            await response.write(f"event: hello\ndata: {hello}\n\n".encode())
            for moved in self.history if is_complete else ():
                if after is not None and moved.version > after:
                    await response.write(_encode(moved))
            while piece := await queue.get():
                await self.runs.wait()
                await response.write(piece)
        except ConnectionError:
            pass
        finally:
            self.listeners.discard(queue)
        return response

    async def _ack(self, request: web.Request) -> web.Response:
        await self._check(request)
        self.acks.append((request.match_info["edge"], (await request.json())["version"]))
        return web.Response(status=204)


def _encode(move: AliasMove) -> bytes:
    return f"id: {move.version}\nevent: move\ndata: {json.dumps(encode_move(move))}\n\n".encode()
