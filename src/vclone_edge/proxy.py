"""Rewrites to other servers: what *object* and *stream* are where the bytes are another server's.

    take a place -> request (connected ≤ 5 s) -> head (≤ `edge_proxy_wait_s`) -> body, each piece within that time

Both bodies go piece by piece at the pace of whoever is slower, the request's also while the answer comes. A client that
leaves ends the request there; an answer that breaks off ends ours as broken, never as a short one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final

import aiohttp
from yarl import URL

from vclone_core.errors import (
    AddressRefused,
    BodyStalled,
    TooLarge,
    UpstreamBusy,
    UpstreamFailed,
    UpstreamTimeout,
    VcloneError,
)
from vclone_core.log import get_log
from vclone_core.rules.decisions import Headers
from vclone_core.rules.forwarding import (
    Forward,
    build_answer_fields,
    build_request_fields,
    find_body_length,
    find_length,
    has_body,
)
from vclone_core.rules.requests import Request
from vclone_core.stores.outbound import CONNECT_S, Outbound
from vclone_edge.slots import Slots
from vclone_edge.stream import Receive, Send, StreamAborted, send_piece, while_client_stays

QUEUE_S: Final = 5.0
BODY_S: Final = 30.0  # How long a client may take for the next piece of its body.

log = get_log(__name__)


class Proxy:
    """Sends requests on to other servers: `limit` at once, half of them for one project, a quarter for one server."""

    def __init__(
        self, outbound: Outbound, *, base_domain: str, limit: int, wait_s: float, body_limit_bytes: int
    ) -> None:
        self.outbound = outbound
        self.base_domain = base_domain
        self.wait_s = wait_s
        self.body_limit_bytes = body_limit_bytes
        self.requests = 0
        self.failures = 0
        self.by_project = Slots(limit, share=max(1, limit // 2), busy=UpstreamBusy)
        self.by_server = Slots(limit, share=max(1, limit // 4), busy=UpstreamBusy)

    async def start(self) -> None:
        await self.outbound.start()

    async def close(self) -> None:
        await self.outbound.close()

    async def check(self, forward: Forward) -> None:
        """Raise what a request would end with whose server has no address that may be reached; nothing is sent."""
        try:
            async with asyncio.timeout(CONNECT_S):
                await self.outbound.find_addresses(forward.host, forward.port)
        except AddressRefused as error:
            raise UpstreamFailed(cause="refused", hint=_REFUSED) from error
        except OSError as error:  # a TimeoutError is one
            raise UpstreamFailed() from error

    def open(self, forward: Forward, request: Request, *, client: str, authority: str) -> Relay:
        """Return what carries one request over; nothing is sent yet."""
        return Relay(self, forward, request, build_request_fields(request, client=client, authority=authority))


class Relay:
    """One request at another server. `status` and `sent_bytes` are what has been sent to the client so far."""

    def __init__(self, proxy: Proxy, forward: Forward, request: Request, fields: list[tuple[bytes, bytes]]) -> None:
        self.proxy = proxy
        self.forward = forward
        self.request = request
        self.fields = fields
        self.status = 0
        self.sent_bytes = 0
        self.is_body_read = False
        """Whether nothing of the request's body is left to be read."""
        self._started = asyncio.Event()

    async def run(self, receive: Receive, send: Send, *, project_id: str, extra: Headers) -> int:
        """Send the request on and its answer back, with `extra` header fields; return the bytes sent.

        Raises a `VcloneError` while a page of ours can still be sent, later `StreamAborted`, and `ClientGone` when the
        client left.
        """
        proxy = self.proxy
        proxy.requests += 1
        body = await Inbound.open(receive, self.request, limit_bytes=proxy.body_limit_bytes)
        try:
            return await while_client_stays(self._pass_on(body, send, project_id, extra), body.pump(), self._started)
        except (VcloneError, StreamAborted) as error:
            proxy.failures += 1
            log.warning("proxy.failed", server=self.forward.origin, error=str(error), why=str(error.__cause__ or ""))
            raise
        finally:
            self.is_body_read = body.is_read

    async def _pass_on(self, body: Inbound, send: Send, project_id: str, extra: Headers) -> int:
        proxy, origin = self.proxy, self.forward.origin
        await proxy.by_server.take(origin, within_s=QUEUE_S)
        try:
            await proxy.by_project.take(project_id, within_s=QUEUE_S)
            try:
                return await self._exchange(body, send, extra)
            finally:
                proxy.by_project.give_back(project_id)
        finally:
            proxy.by_server.give_back(origin)

    async def _exchange(self, body: Inbound, send: Send, extra: Headers) -> int:
        forward, request = self.forward, self.request
        url = URL.build(
            scheme=forward.scheme,
            host=forward.host.strip("[]"),
            port=forward.port,
            path=forward.path,
            query_string=forward.query,
            encoded=True,
        )
        fields = [*self.fields, *body.framing]
        try:
            async with asyncio.timeout(self.proxy.wait_s) as waiting:
                data = body.pieces(waiting, self.proxy.wait_s) if body.has_any else None
                opening = self.proxy.outbound.request(request.method, url, headers=fields, data=data)
                answer = await opening.__aenter__()
            try:
                await self._send_answer(answer, send, extra)
            finally:
                body.close()
                await opening.__aexit__(None, None, None)
        except AddressRefused as error:
            raise UpstreamFailed(cause="refused", hint=_REFUSED) from error
        except TimeoutError as error:
            raise body.error or UpstreamTimeout(what="The server behind this address") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise body.error or UpstreamFailed() from error
        return self.sent_bytes

    async def _send_answer(self, answer: aiohttp.ClientResponse, send: Send, extra: Headers) -> None:
        status, rule = answer.status, self.forward.rewrite.status
        if not 200 <= status <= 599:
            raise UpstreamFailed()
        given = answer.raw_headers
        length = find_length(status, ((name.lower(), value) for name, value in given))
        fields = build_answer_fields(self.forward, status, given, base_domain=self.proxy.base_domain)
        taken = {name for name, _ in extra}
        fields = tuple(pair for pair in fields if pair[0] not in taken)
        self.status = rule if rule is not None and status == 200 else status
        self._started.set()
        await send({"type": "http.response.start", "status": self.status, "headers": [*fields, *extra]})
        if not has_body(self.request.method, status):
            await send({"type": "http.response.body", "body": b""})
            return
        pieces = answer.content.iter_any()
        while True:
            async with asyncio.timeout(self.proxy.wait_s):
                piece = await anext(pieces, b"")
            if not piece:
                break
            self.sent_bytes += len(piece)
            await send_piece(send, piece)
        if length is not None and self.sent_bytes != length:
            raise UpstreamFailed(hint=f"{length - self.sent_bytes} bytes are missing")
        await send_piece(send, b"", more_body=False)


_REFUSED: Final = "The rewrite leads to a server that can't be reached from here, for safety."


class Inbound:
    """A request's body on its way in, one piece in hand, and the notice that its client has left.

    `error` is what was wrong with the body: whoever takes the pieces only sees that there are no more.
    """

    def __init__(self, receive: Receive, *, length: int | None, limit_bytes: int) -> None:
        self.length = length
        self.limit_bytes = limit_bytes
        self.has_any = length is None or length > 0
        self.seen_bytes = 0
        self.error: VcloneError | None = None
        self._receive = receive
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._is_closed = False
        self.is_read = not self.has_any

    @classmethod
    async def open(cls, receive: Receive, request: Request, *, limit_bytes: int) -> Inbound:
        """Return the body of a request; raise `TooLarge` where it says that it is."""
        headers = request.headers
        length = find_body_length(headers)
        # A body without a length is chunked over HTTP/1, and can't be told from none over HTTP/2 before it is read:
        # methods that seldom have one are taken to have none.
        if length is None and b"transfer-encoding" not in headers and request.method in _BODILESS:
            length = 0
        if (length or 0) > limit_bytes:
            raise TooLarge(what="The body", limit=limit_bytes)
        body = cls(receive, length=length, limit_bytes=limit_bytes)
        if length is None and b"transfer-encoding" not in headers:
            await body.look()
        return body

    @property
    def framing(self) -> Headers:
        """The header field that frames the body anew; none where its pieces do."""
        return ((b"content-length", b"%d" % self.length),) if self.length and self.has_any else ()

    async def look(self) -> None:
        """Find out whether there is any body, by waiting for its first piece."""
        message = await self._receive()
        piece, more = message.get("body", b""), message.get("more_body", False)
        self.is_read = not more
        self.has_any = bool(piece) or more
        if piece:
            self._pieces.put_nowait(piece)

    async def pump(self) -> None:
        """Take in what the client sends, until it leaves. What nobody wants any more is dropped."""
        if self.is_read and self.has_any:
            await self._hand(None)
        while (message := await self._receive())["type"] != "http.disconnect":
            if piece := message.get("body", b""):
                await self._hand(piece)
            if not message.get("more_body", False):
                self.is_read = True
                await self._hand(None)

    async def _hand(self, piece: bytes | None) -> None:
        if not self._is_closed:
            await self._pieces.put(piece)

    async def pieces(self, waiting: asyncio.Timeout, wait_s: float) -> AsyncGenerator[bytes]:
        """Yield the body's pieces. `waiting` counts the other server's time, not the client's."""
        loop = asyncio.get_running_loop()
        while True:
            _reschedule(waiting, None)
            try:
                async with asyncio.timeout(BODY_S):
                    piece = await self._pieces.get()
            except TimeoutError:
                raise self._fail(BodyStalled(limit_s=BODY_S)) from None
            _reschedule(waiting, loop.time() + wait_s)
            if piece is None:
                return
            self.seen_bytes += len(piece)
            if self.seen_bytes > self.limit_bytes:
                raise self._fail(TooLarge(what="The body", limit=self.limit_bytes))
            yield piece

    def close(self) -> None:
        """Want no more pieces: what still comes is dropped, so that it blocks nobody."""
        self._is_closed = True
        while not self._pieces.empty():
            self._pieces.get_nowait()

    def _fail(self, error: VcloneError) -> VcloneError:
        self.error = error
        return error


_BODILESS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def _reschedule(waiting: asyncio.Timeout, when_s: float | None) -> None:
    # Once the head of the answer is there, the rest of the body is nobody's wait.
    with contextlib.suppress(RuntimeError):
        waiting.reschedule(when_s)
