"""Reads objects with presigned GETs on one shared HTTP session; never yields a short body that looks whole."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp
from yarl import URL

from vclone_core import ObjectBody, ObjectInfo, Span, errors
from vclone_store_s3.config import BucketConfig
from vclone_store_s3.failures import TRANSPORT_ERRORS, find_code, refused, unreachable
from vclone_store_s3.retrying import Retries
from vclone_store_s3.signing import Presigner

CHUNK_BYTES: Final = 256 * 1024
# A reader that took a whole MiB is no stalled one: from there on a chunk costs more memory and less work a byte.
FIRST_CHUNK_BYTES: Final = 64 * 1024
FIRST_BYTES: Final = 1024 * 1024
_CONDITIONS: Final = {412: "If-Match", 416: "Range"}
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


class BucketReader:
    """GET and HEAD of one bucket's objects."""

    def __init__(self, config: BucketConfig, presigner: Presigner, retries: Retries) -> None:
        self._config = config
        self._presigner = presigner
        self._session: aiohttp.ClientSession | None = None
        self._retries = retries
        # The session would let requests wait for a connection too, but not say what they waited for.
        self._places = asyncio.Semaphore(config.connections)

    async def start(self) -> None:
        """Make the session; connections come with the first reads."""
        context = await asyncio.to_thread(ssl.create_default_context)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._config.connections, ssl=context),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "vclone"},
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._config.connect_timeout_s, sock_read=self._config.read_timeout_s
            ),
            read_bufsize=CHUNK_BYTES,
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def head(self, key: str) -> ObjectInfo | None:
        """Say what is stored under `key`."""
        async with self._place():
            response = await self._request("HEAD", key, {})
            response.close()
        return None if response.status == 404 else _describe(response, key, response.headers.get("Content-Length"))

    @asynccontextmanager
    async def open(self, key: str, span: Span | None, etag: str | None = None) -> AsyncGenerator[ObjectBody]:
        """Open an object, whole or a span of it; with `etag` only while it is the same object."""
        headers = {} if span is None else {"Range": f"bytes={span.start}-{span.end}"}
        if etag is not None:
            headers["If-Match"] = etag
        async with self._place():
            response = await self._request("GET", key, headers)
            try:
                if response.status == 404:
                    raise errors.NotFound(what="object")
                if response.status == 412:
                    raise _changed(key)
                if response.status == 416 and span is not None:
                    raise errors.Invalid(what=f"bytes {span.start}-{span.end} do not lie within the object")
                info, size, skipped = _measure(response, key, span)
                if etag not in (None, info.etag):
                    raise _changed(key)  # Some servers don't know the condition.
                chunks = self._chunks(response, key, size, skipped)
                try:
                    yield ObjectBody(info, size, chunks)
                finally:
                    await chunks.aclose()
            finally:
                # Drops the connection unless the body was read to its end; then it is in the pool again already.
                response.close()

    @asynccontextmanager
    async def _place(self) -> AsyncGenerator[None]:
        """Hold one of the connections; raise `StoreUnavailable` when others keep them all for too long."""
        try:
            async with asyncio.timeout(self._config.read_timeout_s):
                await self._places.acquire()
        except TimeoutError:
            why = f"all of our {self._config.connections} connections to it stayed in use"
            raise errors.StoreUnavailable(why=why, is_passing=False) from None
        try:
            yield
        finally:
            self._places.release()

    async def _chunks(
        self, response: aiohttp.ClientResponse, key: str, size: int, skipped: int
    ) -> AsyncGenerator[bytes]:
        left = size
        while left > 0:
            try:
                limit = FIRST_CHUNK_BYTES if size - left < FIRST_BYTES else CHUNK_BYTES
                chunk = await response.content.read(limit)
            except TRANSPORT_ERRORS as error:
                raise unreachable(error, self._config.endpoint) from error
            if not chunk:
                raise errors.StoreUnavailable(why=f"{key} ends {left} bytes early")
            if skipped:
                skipped, chunk = max(0, skipped - len(chunk)), chunk[skipped:]
            if chunk := chunk[:left]:
                left -= len(chunk)
                yield chunk

    async def _request(self, method: str, key: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Return an answer of status 200, 206, 404, or what the conditions in `headers` lead to: 412, 416."""
        try:
            async with asyncio.timeout(self._config.read_timeout_s):
                return await self._retries.run(lambda: self._try(method, key, headers))
        except TimeoutError as error:
            raise unreachable(error, self._config.endpoint) from error

    async def _try(self, method: str, key: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        if self._session is None:
            raise errors.StoreUnavailable(why="it is closed")
        if method == "GET":
            url = self._presigner.read_url(key)
        else:
            url = URL(self._presigner.sign(method, key, expires_s=300), encoded=True)
        try:
            response = await self._session.request(method, url, headers=headers, allow_redirects=False)
            if response.status in (200, 206) or _CONDITIONS.get(response.status) in headers:
                return response
            async with response:
                body = await response.content.read(4096)
        except TRANSPORT_ERRORS as error:
            raise unreachable(error, self._config.endpoint) from error
        code = find_code(body)
        if response.status == 404 and code != "NoSuchBucket":
            return response
        failure = refused(response.status, code)
        # A URL used before may only be too old for the server's clock: one with a new date is worth a try.
        if response.status in (400, 403) and method == "GET" and self._presigner.forget(key):
            failure.facts["is_passing"] = True
        raise failure


def _changed(key: str) -> errors.StoreUnavailable:
    return errors.StoreUnavailable(why=f"{key} is another object by now", is_passing=False)


def _measure(response: aiohttp.ClientResponse, key: str, span: Span | None) -> tuple[ObjectInfo, int, int]:
    """Return the object's info, the bytes to yield, and the bytes to skip before them."""
    length = response.headers.get("Content-Length")
    if span is None:
        if response.status != 200:
            raise errors.StoreUnavailable(why=f"it answers {response.status} to a request for a whole object")
        info = _describe(response, key, length)
        return info, info.size, 0
    # Some servers send the right part with status 200; the header says what it is. Without it all bytes come.
    if content_range := response.headers.get("Content-Range"):
        found = _CONTENT_RANGE.fullmatch(content_range)
        if found is None or int(found[1]) != span.start:
            raise errors.StoreUnavailable(why=f"it sent another part of {key} than was asked for")
        info, skipped = _describe(response, key, found[3]), 0
        sent = int(found[2]) - int(found[1]) + 1
        if span.end < info.size and (sent != span.size or length != str(sent)):
            raise errors.StoreUnavailable(why=f"it sent another part of {key} than was asked for")
    elif response.status == 206:
        raise errors.StoreUnavailable(why=f"it does not say which part of {key} it sent")
    else:
        info, skipped = _describe(response, key, length), span.start
    if span.end >= info.size:
        raise errors.Invalid(what=f"bytes {span.start}-{span.end} of an object of {info.size} bytes")
    return info, span.size, skipped


def _describe(response: aiohttp.ClientResponse, key: str, size: str | None) -> ObjectInfo:
    if size is None or not size.isdecimal():
        raise errors.StoreUnavailable(why=f"it does not say how large {key} is")
    etag = response.headers.get("ETag", "")
    modified = response.headers.get("Last-Modified", "")
    try:
        modified_s = parsedate_to_datetime(modified).timestamp()
    except ValueError:
        modified_s = 0.0
    return ObjectInfo(key, int(size), etag if etag.startswith('"') else f'"{etag}"', modified_s)
