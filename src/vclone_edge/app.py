"""The edge as an ASGI app.

    host -> resolve -> route -> object -> stream

*host* (`rules/hosts.py`) brings the name to one spelling, *resolve* (`resolve.py`) finds its site, *route*
(`rules/routes.py`) executes the manifest, *object* (`rules/answers.py`) picks bytes and header fields, *stream*
(`stream.py`) sends them. Where a rule leads to another server, the last two are `proxy.py`. The first four are
`flow.py`, which `vclone explain` shares; what was settled before and can't come out otherwise is answered from memory
(`remembered.py`). This module is the border around them: ids, errors, counters, the log.

`GET /.well-known/vclone/ready` on a loopback name or address answers the supervisor: 200, or 503 before the start.
`/.well-known/vclone/metrics` there tells this machine what was counted (`metrics.py`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from vclone_core.errors import Internal, Invalid, VcloneError
from vclone_core.log import get_log
from vclone_core.plugins import load_plugins
from vclone_core.rules.answers import HIDDEN, SERVER, Answer, answer_error
from vclone_core.rules.decisions import Headers
from vclone_core.rules.forwarding import Forward
from vclone_core.rules.objectkeys import blob_key
from vclone_core.rules.requests import Request
from vclone_core.settings import Settings
from vclone_edge.accesslog import Line
from vclone_edge.extents import Extent, cut_extent, find_extent
from vclone_edge.flow import Settled, build_authority, read_request, settle
from vclone_edge.https import Https
from vclone_edge.lane import Whole
from vclone_edge.metrics import TYPE as METRICS_TYPE
from vclone_edge.metrics import format_metrics
from vclone_edge.parts import EdgeParts, build_parts
from vclone_edge.peers import lookup
from vclone_edge.remembered import HIT, without
from vclone_edge.stream import (
    WHOLE_BYTES,
    ClientGone,
    ClientStalled,
    Receive,
    Send,
    StreamAborted,
    drain_body,
    send_memory,
    send_object,
)

READY_PATH: Final = "/.well-known/vclone/ready"
METRICS_PATH: Final = "/.well-known/vclone/metrics"
LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
LOOPBACK_CLIENTS: Final = frozenset({"127.0.0.1", "::1"})
MISS: Final = (b"x-vclone-cache", b"MISS")
STALE: Final = (b"x-vclone-cache", b"STALE")
_CLOSE: Final = (b"connection", b"close")
_BODILESS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

Scope = dict[str, Any]

log = get_log(__name__)


class EdgeApp:
    """The ASGI app over `parts`. Its lifespan starts and stops them; an engine without one does it itself."""

    def __init__(self, parts: EdgeParts) -> None:
        self.parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            whole = self.answer_now(scope, WHOLE_BYTES)
            if whole is None:
                await _Exchange(self.parts, scope, receive, send).run()
            else:
                head, own, body = whole
                headers = (*head.headers, *own)
                await send({"type": "http.response.start", "status": head.status, "headers": headers})
                await send({"type": "http.response.body", "body": body})
        elif scope["type"] == "lifespan":
            await _live(self.parts, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def answer_now(self, scope: Mapping[str, Any], limit_bytes: int) -> Whole | None:
        """Return an answer that was given before; None: it isn't known, or its body is of more than `limit_bytes`.

        It is counted and logged as sent. The same as `_Exchange` sends, for a tenth of the decisions.
        """
        parts = self.parts
        recalled = parts.remembered.recall(scope, lookup(scope))
        if recalled is None:
            return None
        known, head, body, hot = recalled
        if len(body) > limit_bytes:
            return None
        counters, request_id = parts.counters, parts.request_ids.next()
        named = (b"x-vclone-id", request_id)
        own: Headers = (named,)
        if hot is not None:
            counters.hot_hits += 1
            own = (named, hot.age())
        counters.requests += 1
        counters.by_status[head.status // 100] += 1
        counters.bytes_sent += len(body)
        if parts.access_log.is_on:
            host, said = known.site.host, HIT[1].decode()
            _log_request(parts, scope, request_id.decode(), host, head.status, said, len(body), 0.0)
        return head, own, body


def build_app(parts: EdgeParts) -> EdgeApp:
    """Return the app of an edge made of `parts`."""
    return EdgeApp(parts)


def make_app(settings: Settings) -> EdgeApp:
    """Return the app of one edge process, as its settings say."""
    return build_app(build_parts(settings, load_plugins(allow=settings.plugins, drop_in=settings.plugins_dir)))


async def _live(parts: EdgeParts, receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await parts.start()
            except VcloneError as error:
                log.error("edge.start_failed", why=error.sentence)
                await send({"type": "lifespan.startup.failed", "message": error.sentence})
                return
            await send({"type": "lifespan.startup.complete"})
        else:
            await parts.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return


class _Exchange:
    """One request and its response."""

    __slots__ = (
        "cache", "extra", "host", "is_drained", "parts", "receive", "request_id", "scope", "send", "sent_bytes",
        "status",
    )  # fmt: skip

    def __init__(self, parts: EdgeParts, scope: Scope, receive: Receive, send: Send) -> None:
        self.parts = parts
        self.scope = scope
        self.receive = receive
        self.send = send
        self.request_id = parts.request_ids.next().decode()
        self.extra: Headers = ((b"x-vclone-id", self.request_id.encode()),)
        self.host = ""
        self.is_drained = False
        self.cache = ""
        self.status = 0
        self.sent_bytes = 0

    async def run(self) -> None:
        started_s = time.perf_counter() if self.parts.access_log.is_on else 0.0
        counters = self.parts.counters
        counters.requests += 1
        try:
            await self.respond()
        except ClientGone:
            counters.clients_gone += 1
        except StreamAborted as error:
            counters.aborted += 1
            if not isinstance(error, ClientStalled):
                log.error("response.aborted", request_id=self.request_id, host=self.host, why=str(error))
            raise  # The server resets the response: a short body must not look whole.
        counters.by_status[self.status // 100] += 1
        counters.bytes_sent += self.sent_bytes
        if started_s:
            self.write_log(time.perf_counter() - started_s)

    async def respond(self) -> None:
        request: Request | None = None
        try:
            request = read_request(self.scope)
            self.host = request.host
            if request.host in LOOPBACK_HOSTS and request.path == READY_PATH:
                await self.answer(_answer_ready(self.parts))
                return
            # The name alone is anybody's to send.
            is_near = request.host in LOOPBACK_HOSTS and lookup(self.scope)[0] in LOOPBACK_CLIENTS
            if is_near and request.path == METRICS_PATH:
                await self.answer(_answer_text(200, format_metrics(self.parts), METRICS_TYPE))
                return
            if self.parts.https is not None:
                redirect = self.secure(self.parts.https, request)
                if redirect is not None:
                    await self.drain(request)
                    await self.answer(redirect)
                    return
            settled = await settle(self.parts, request)
            self.parts.remembered.keep(self.scope, request, settled)
            if settled.site.protection is not None:
                self.say(*HIDDEN)
            if isinstance(settled.answer, Forward):
                await self.pass_on(settled.answer, settled, settled.request)
                return
            await self.drain(request)
            await self.answer_settled(settled.answer, settled)
        except VcloneError as error:
            if request is not None:
                await self.drain(request)
            await self.answer_failure(error)
        except (ClientGone, StreamAborted):
            raise
        except Exception:
            if self.status:
                raise
            log.exception("request.failed", request_id=self.request_id, host=self.host)
            await self.answer_failure(Internal(id=self.request_id))

    def secure(self, https: Https, request: Request) -> Answer | None:
        """Return the redirect that a request over http:// gets; raise for one on the wrong connection."""
        peer = lookup(self.scope)
        if peer.is_tls:
            self.say(*https.headers)
        return https.judge(request, peer)

    async def drain(self, request: Request) -> None:
        """Take in a request's body, which no answer of ours needs, so that it blocks nobody; too much of it closes."""
        if self.is_drained:
            return
        self.is_drained = True
        headers = request.headers
        has_body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
        if not has_body and request.method in _BODILESS:
            return
        # A client that waits for 100 (Continue) sends its body only when somebody reads it (RFC 9110 §10.1.1).
        is_all = b"expect" not in headers and await drain_body(self.receive)
        if not is_all and self.scope["http_version"].startswith("1"):
            self.extra = (*self.extra, _CLOSE)

    async def pass_on(self, forward: Forward, settled: Settled, request: Request) -> None:
        """Answer with what another server says."""
        parts = self.parts
        parts.counters.stale += settled.is_stale
        self.say(STALE if settled.is_stale else MISS)
        client, authority = lookup(self.scope)[0], build_authority(parts, request)
        relay = parts.proxy.open(forward, request, client=client, authority=authority)
        try:
            await relay.run(self.receive, self.send, project_id=settled.project_id, extra=self.extra)
        finally:
            self.status, self.sent_bytes = relay.status, relay.sent_bytes
            self.is_drained = relay.is_body_read

    async def answer_settled(self, answer: Answer, settled: Settled) -> None:
        parts = self.parts
        parts.counters.stale += settled.is_stale
        if answer.blob is None:
            await self.answer(answer, STALE if settled.is_stale else HIT)
            return
        extent = find_extent(settled.project_id, answer)
        if not parts.blobs.admits(answer.size):
            self.say(STALE if settled.is_stale else MISS)
            self.status = answer.status
            can_send_path = "http.response.pathsend" in (self.scope.get("extensions") or ())
            self.sent_bytes = await self.send_object(answer, extent, can_send_path=can_send_path)
            return
        key = blob_key(settled.project_id, answer.blob)
        hot = parts.blobs.find(key)
        if hot is None:
            self.say(STALE if settled.is_stale else MISS)
            hot = await parts.blobs.load(key, sha256=answer.blob, size=answer.size, extent=extent)
        else:
            parts.counters.hot_hits += 1
            self.say(STALE if settled.is_stale else HIT, hot.age())
        await self.send_whole(answer.status, answer.headers, hot.cut(answer.span))

    async def send_object(self, answer: Answer, extent: Extent, *, can_send_path: bool) -> int:
        try:
            return await send_object(
                self.send,
                self.receive,
                answer,
                _join(answer.headers, self.extra),
                store=self.parts.objects,
                extent=cut_extent(extent, answer.span),
                can_send_path=can_send_path,
            )
        except (ClientGone, StreamAborted):
            raise
        except BaseException:
            self.status = 0  # Nothing was sent yet: an error page still can be.
            raise

    async def answer(self, answer: Answer, *extra: tuple[bytes, bytes]) -> None:
        self.say(*extra)
        await self.send_whole(answer.status, answer.headers, answer.body)

    async def answer_failure(self, error: VcloneError) -> None:
        if error.status >= 500:
            self.parts.counters.failures += 1
            log.warning("request.refused", request_id=self.request_id, host=self.host, code=error.code)
        self.extra = tuple(pair for pair in self.extra if pair[0] not in (b"x-vclone-cache", b"age"))
        if isinstance(error, Invalid) and self.scope["http_version"].startswith("1") and not self.host:
            self.say(_CLOSE)  # What follows a malformed request on its connection can't be trusted.
        await self.answer(answer_error(error, self.request_id))

    def say(self, *extra: tuple[bytes, bytes]) -> None:
        self.extra = (*self.extra, *extra)

    async def send_whole(self, status: int, headers: Headers, body: bytes | memoryview) -> None:
        self.status = status
        body = b"" if self.scope["method"] == "HEAD" else body
        await send_memory(self.send, self.receive, status, _join(headers, self.extra), body)
        self.sent_bytes = len(body)

    def write_log(self, took_s: float) -> None:
        cache = next((value.decode() for name, value in self.extra if name == b"x-vclone-cache"), "")
        _log_request(self.parts, self.scope, self.request_id, self.host, self.status, cache, self.sent_bytes, took_s)


def _join(headers: Headers, extra: Headers) -> Headers:
    """Return the fields of a response: what the platform says stands in the place of what a rule says."""
    return (*without(headers, extra), *extra)


def _log_request(
    parts: EdgeParts,
    scope: Mapping[str, Any],
    request_id: str,
    host: str,
    status: int,
    cache: str,
    sent_bytes: int,
    took_s: float,
) -> None:
    path = (scope.get("raw_path") or b"")[:1024].decode("latin-1")
    parts.access_log.add(
        Line(
            unix_s=time.time(),
            request_id=request_id,
            method=scope["method"],
            host=host,
            path=path,
            status=status,
            cache=cache,
            sent_bytes=sent_bytes,
            took_s=took_s,
            client=lookup(scope)[0],
        )
    )


def _answer_ready(parts: EdgeParts) -> Answer:
    return _answer_text(200, b"ready\n") if parts.is_ready else _answer_text(503, b"starting\n")


def _answer_text(status: int, body: bytes, content_type: bytes = b"text/plain; charset=utf-8") -> Answer:
    headers = (
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        SERVER,
    )
    return Answer(status, headers, body=body)
