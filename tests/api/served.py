"""The API as a process of its own, behind hypercorn, and a client of it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import aiohttp
from tests.ports import pick_port

from vclone_core.rules.eventstream import Event, EventParser
from vclone_core.settings import Settings

PROGRAM = """
import os, sys
from vclone_api.serve import main
from vclone_core.errors import VcloneError
from vclone_core.renderings import render_cli
from vclone_core.log import configure_log
from vclone_core.settings import load_settings
configure_log(process="api", log_level=os.environ["VCLONE_LOG_LEVEL"])
try:
    main(load_settings(os.environ))
except VcloneError as error:
    print(render_cli(error), file=sys.stderr)
    sys.exit(error.exit_code)
"""


@dataclass
class Served:
    """One API process. `http` is a client of it."""

    url: str
    process: asyncio.subprocess.Process
    http: aiohttp.ClientSession

    @asynccontextmanager
    async def events(self, path: str, **headers: str) -> AsyncIterator[Stream]:
        async with self.http.get(self.url + path, headers={"Accept": "text/event-stream", **headers}) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            yield Stream(response)


class Stream:
    """The events of one response, as they come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._decoder = EventParser()
        self._waiting: list[Event] = []

    async def next(self, timeout_s: float = 10.0) -> Event | None:
        """Return the next event; None when the server ended the stream in good order."""
        async with asyncio.timeout(timeout_s):
            while not self._waiting:
                data = await self._response.content.readany()
                if not data:
                    return None
                self._waiting += self._decoder.feed(data)
        return self._waiting.pop(0)

    async def rest(self) -> list[Event]:
        events = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events


def environment(settings: Settings, port: int) -> dict[str, str]:
    values = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "STORE": settings.store,
        "SECRET_KEY": settings.secret_key.get_secret_value(),
        "EDGE_TOKEN": settings.edge_token.get_secret_value(),
        "API_RATE_FACTOR": str(settings.api_rate_factor),
        "SIGN_UP": settings.sign_up,
        "OUTBOUND_ALLOW": settings.outbound_allow,
        "LOG_LEVEL": settings.log_level,
        "API_PORT": str(port),
        "API_URL": f"http://127.0.0.1:{port}",
    }
    return {**os.environ, **{f"VCLONE_{name}": value for name, value in values.items()}}


@asynccontextmanager
async def serve(settings: Settings) -> AsyncIterator[Served]:
    port = pick_port()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, env=environment(settings, port))
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
            served = Served(f"http://127.0.0.1:{port}", process, http)
            async with asyncio.timeout(30):
                while True:
                    with suppress(aiohttp.ClientConnectionError):
                        async with http.get(f"{served.url}/api/health") as response:
                            assert response.status == 200
                            break
                    await asyncio.sleep(0.05)
            yield served
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
