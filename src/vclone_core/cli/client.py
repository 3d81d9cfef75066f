"""Speaks to the API: JSON in and out, problem documents become the errors they were.

aiohttp is imported on the first request: it takes longer to load than the rest of the CLI together.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from vclone_core.cli.context import HOW_TO_START, PlatformAddress, find_platform
from vclone_core.errors import Unavailable, VcloneError
from vclone_core.renderings import parse_problem
from vclone_core.rules.eventstream import Event, EventParser

if TYPE_CHECKING:
    import aiohttp

CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 60.0
# The API sends a heartbeat every 15 s: when three are missing, the connection is dead.
STREAM_SILENCE_S: Final = 45.0

Answer = TypeVar("Answer")


class ApiClient:
    """One command's connections to the API. Every method raises only `VcloneError`s."""

    def __init__(self, address: PlatformAddress, session: aiohttp.ClientSession) -> None:
        self.address = address
        self._session = session

    async def get(self, path: str, **query: str | int | None) -> Any:
        """Return the answer to a GET; None values of `query` are left out."""
        return await self._ask("GET", path, params={k: str(v) for k, v in query.items() if v is not None})

    async def get_all(self, path: str, **query: str | int | None) -> Any:
        """Return the answer to a GET of a list with the items of all its pages."""
        whole = page = await self.get(path, **query)
        while page.get("next_cursor"):
            page = await self.get(path, **{**query, "cursor": page["next_cursor"]})
            whole["items"] += page["items"]
        return {**whole, "next_cursor": None}

    async def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        answer_s: float = ANSWER_TIMEOUT_S,
        method: str = "POST",
    ) -> Any:
        """Return the answer to a POST (or another method) of a JSON body, which may take `answer_s` seconds."""
        data = json.dumps(body or {}, separators=(",", ":")).encode()
        headers = {"content-type": "application/json"}
        return await self._ask(method, path, data=data, headers=headers, timeout_s=answer_s, answer_s=answer_s)

    async def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the answer to a PATCH of a JSON body."""
        data = json.dumps(body, separators=(",", ":")).encode()
        return await self._ask("PATCH", path, data=data, headers={"content-type": "application/json"})

    async def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the answer to a PUT of a JSON body."""
        data = json.dumps(body, separators=(",", ":")).encode()
        return await self._ask("PUT", path, data=data, headers={"content-type": "application/json"})

    async def delete(self, path: str) -> None:
        """Delete something."""
        await self._ask("DELETE", path)

    async def lines(self, path: str, **query: str) -> AsyncGenerator[bytes, None]:
        """Yield the lines of an answer of any length as they come; a cut one raises `Unavailable`."""
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=ANSWER_TIMEOUT_S)
        with _translated(self.address):
            async with self._session.get(self.address.api_url + path, params=query, timeout=timeout) as answer:
                if answer.status != 200:
                    raise await _read_refusal(answer, self.address)
                rest = b""
                async for piece in answer.content.iter_any():
                    *whole, rest = (rest + piece).split(b"\n")
                    for line in whole:
                        yield line + b"\n"
                if rest:
                    yield rest

    async def send(self, path: str, body: AsyncIterator[bytes], *, size: int, content_type: str) -> Any:
        """Return the answer to a POST of `size` streamed bytes. Sending may take as long as it takes."""
        headers = {"content-type": content_type, "content-length": str(size)}
        return await self._ask("POST", path, data=body, headers=headers, timeout_s=None)

    async def events(self, path: str, *, last_id: str) -> AsyncGenerator[Event, None]:
        """Yield a stream's events after `last_id` until the server ends it. Raises `Unavailable` when it is cut."""
        import aiohttp

        headers = {"accept": "text/event-stream"} | ({"last-event-id": last_id} if last_id else {})
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=STREAM_SILENCE_S)
        parser = EventParser()
        with _translated(self.address):
            async with self._session.get(self.address.api_url + path, headers=headers, timeout=timeout) as answer:
                if answer.status != 200:
                    raise await _read_refusal(answer, self.address)
                async for piece in answer.content.iter_any():
                    for event in parser.feed(piece):
                        yield event

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float | None = ANSWER_TIMEOUT_S,
        answer_s: float = ANSWER_TIMEOUT_S,
        **request: Any,
    ) -> Any:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S, sock_read=answer_s)
        url = self.address.api_url + path
        with _translated(self.address):
            async with self._session.request(method, url, timeout=timeout, allow_redirects=False, **request) as answer:
                if answer.status == 204:
                    return None
                if not 200 <= answer.status < 300:
                    raise await _read_refusal(answer, self.address)
                return json.loads(await answer.read())


@asynccontextmanager
async def open_api(address: PlatformAddress) -> AsyncIterator[ApiClient]:
    """Open a client for one command. Nothing is sent yet."""
    import aiohttp

    headers = {"user-agent": "vclone-cli", "accept": "application/json"}
    if address.token:
        headers["authorization"] = f"Bearer {address.token}"
    if address.team:
        headers["x-vclone-team"] = address.team
    # A command makes a few requests at a time to one host: aiohttp's cookie jar and 100 connections are not needed.
    session = aiohttp.ClientSession(
        headers=headers, cookie_jar=aiohttp.DummyCookieJar(), connector=aiohttp.TCPConnector(limit=8)
    )
    async with session:
        yield ApiClient(address, session)


async def _read_refusal(answer: aiohttp.ClientResponse, address: PlatformAddress) -> VcloneError:
    try:
        problem = json.loads(await answer.read())
        return parse_problem({"status": answer.status, **problem})
    except (ValueError, TypeError, KeyError):
        # A proxy between us and the API, or something else entirely that listens there.
        what = f"The API at {address.api_url} (it answered {answer.status} without a problem document)"
        return Unavailable(what=what, hint=f"Is {address.api_url} the address of a vclone API?")


@contextmanager
def _translated(address: PlatformAddress) -> Iterator[None]:
    import aiohttp

    try:
        yield
    except aiohttp.ClientConnectorError as error:
        raise Unavailable(what=f"The platform at {address.api_url}", hint=HOW_TO_START) from error
    except aiohttp.InvalidURL as error:
        raise Unavailable(what=f"The address {address.api_url}", hint=HOW_TO_START) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unavailable(what=f"The API at {address.api_url}") from error
    except ValueError as error:
        what = f"The API at {address.api_url} (its answer is not JSON)"
        raise Unavailable(what=what, hint=f"Is {address.api_url} the address of a vclone API?") from error


def call_api(options: Mapping[str, str | None], action: Callable[[ApiClient], Awaitable[Answer]]) -> Answer:
    """Run a command's `action` with a client for the platform that its `platform_options` name."""
    address = find_platform(
        api=options["api"], token=options["token"], data_dir=options["data_dir"], team=options.get("team")
    )

    async def run() -> Answer:
        async with open_api(address) as api:
            return await action(api)

    return asyncio.run(run())
