"""The edge's side of the API's `/internal`: a look-up, a stream and an acknowledgement, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote

import aiohttp

from vclone_core.errors import Invalid, NoSuchSite, Unavailable
from vclone_core.models import Site
from vclone_core.rules.sites import decode_site

CONNECT_S: Final = 2.0
LOOK_UP_S: Final = 3.0
SILENCE_S: Final = 15.0  # The API sends a heartbeat every 5 s.
_BODY_LIMIT: Final = 64 * 1024


class ControlApi:
    """A client of `{url}/internal/v1`. Every failure is `Unavailable`, except a host that is nobody's."""

    def __init__(self, url: str, token: str, edge_id: str) -> None:
        self._base = f"{url.rstrip('/')}/internal/v1"
        self._headers = {"authorization": f"Bearer {token}"}
        self._edge_id = edge_id
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=128), cookie_jar=aiohttp.DummyCookieJar(), headers=self._headers
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise Unavailable(what="The API client")
        return self._session

    async def look_up(self, host: str) -> Site:
        """Return the site of a host; raise `NoSuchSite`, or `Unavailable` when the API can't say within 3 s."""
        timeout = aiohttp.ClientTimeout(total=LOOK_UP_S, sock_connect=CONNECT_S)
        try:
            async with self.session.get(
                f"{self._base}/sites/{quote(host)}", timeout=timeout, allow_redirects=False
            ) as response:
                body = await response.content.read(_BODY_LIMIT)
                while not response.content.at_eof() and len(body) < _BODY_LIMIT:
                    body += await response.content.read(_BODY_LIMIT - len(body))
                document = json.loads(body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
            raise Unavailable(what="The API") from error
        # Any 404 but this one may come from something in between, and must not take a site down.
        if response.status == 404 and isinstance(document, dict) and document.get("code") == NoSuchSite.code:
            raise NoSuchSite()
        if response.status != 200 or not isinstance(document, dict):
            raise Unavailable(what=f"The API (status {response.status})")
        try:
            site = decode_site(document)
        except Invalid as error:
            raise Unavailable(what="The API (its answer is no site)") from error
        if site.host != host:
            raise Unavailable(what="The API (its answer is another host's site)")
        return site

    @asynccontextmanager
    async def events(self, after: int | None) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open the event stream behind version `after`. Its bytes end, or raise `Unavailable` after 15 s of silence."""
        query = {"edge": self._edge_id} | ({} if after is None else {"after": str(after)})
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        try:
            async with self.session.get(
                f"{self._base}/events",
                params=query,
                timeout=timeout,
                allow_redirects=False,
                headers={"accept": "text/event-stream"},
            ) as response:
                if response.status != 200 or response.content_type != "text/event-stream":
                    raise Unavailable(what=f"The event stream (status {response.status})")
                yield response.content.iter_any()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(what="The event stream") from error

    async def acknowledge(self, version: int) -> None:
        """Tell the API that everything up to `version` is in effect here."""
        timeout = aiohttp.ClientTimeout(total=LOOK_UP_S, sock_connect=CONNECT_S)
        url = f"{self._base}/edges/{quote(self._edge_id, safe='')}/acks"
        try:
            async with (
                asyncio.timeout(LOOK_UP_S),
                self.session.post(url, json={"version": version}, timeout=timeout) as response,
            ):
                if response.status >= 300:
                    raise Unavailable(what=f"The API (status {response.status})")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(what="The API") from error
