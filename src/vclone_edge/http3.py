"""One client's HTTP/3 connection: requests to the app, answers at the client's speed, and an end in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aioquic.h3.connection import ErrorCode
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic import events

from vclone_core.log import get_log
from vclone_edge.exchange import Exchange, MalformedRequest, build_scope
from vclone_edge.peers import plain_address, socket_name
from vclone_edge.quic import EdgeH3, EdgeQuic
from vclone_edge.workers import HEADER_BYTES

# Unacknowledged bytes: of one stream alone, and of every stream once they are so many together.
STREAM_BYTES: Final = 256 * 1024
SHARE_BYTES: Final = 32 * 1024
CONNECTION_BYTES: Final = 512 * 1024
# Twice what is taken, so that a head that is a little too large is answered rather than cut off.
_FRAME_BYTES: Final = 2 * HEADER_BYTES
# Envoy's rule, as on HTTP/2: so many requests within a second, and more than half of them reset.
_REQUESTS_PER_S: Final = 500
_PING_S: Final = 10.0

_log = get_log(__name__)

Address = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Http3Limits:
    """What one connection may take, in seconds and bytes."""

    handshake_s: float
    header_s: float
    idle_s: float
    stall_s: float
    least_bytes_per_s: int = 1024


class Owner(Protocol):
    """What a connection asks of the process it lives in."""

    app: Any
    limits: Http3Limits
    is_draining: bool

    def admit(self, connection: Connection, address: str) -> bool: ...
    def enlist(self, connection: Connection, cid: bytes) -> None: ...
    def strike(self, cid: bytes) -> None: ...
    def forget(self, connection: Connection) -> None: ...
    def follow(self, task: asyncio.Task[Any]) -> None: ...
    def note(self, why: str) -> None: ...


class Connection:
    """Lives from a client's first packet to the last; afterwards `is_over`."""

    def __init__(self, owner: Owner, quic: EdgeQuic, reply: Callable[[bytes, Address], None]) -> None:
        self.quic = quic
        self.cids: set[bytes] = set()
        self.slot: int | None = None
        self.held = 0
        self.is_over = False
        self.is_established = False
        self._owner = owner
        self._reply = reply
        self._loop = asyncio.get_running_loop()
        self._h3: EdgeH3 | None = None
        self._exchanges: dict[int, Exchange] = {}
        self._headless: dict[int, float] = {}
        self._begun: set[int] = set()
        self._next_stream_id = 0
        self._room = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._is_flush_due = False
        self._opened_at = self._heard_at = self._busy_at = self._measured_at = self._loop.time()
        self._written = self._acknowledged = 0
        self._requests = self._resets = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being asked or answered."""
        return not self._exchanges and not self.held

    @property
    def weight(self) -> int:
        """The bytes that lie here on this client's account, in either direction."""
        return self.held + self.quic.unread_in_all()

    # What comes

    def receive(self, data: bytes, address: Address) -> None:
        """Take in a datagram; what is due is sent when the loop comes round."""
        if self.is_over:
            return
        self._heard_at = self._loop.time()
        with self._alone():
            self.quic.receive_datagram(data, address, now=self._heard_at)
            self._take_events()
            self.flush_soon()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Have whatever a client can break be the end of its own connection, and of nothing else."""
        try:
            yield
        except Exception as error:
            _log.debug("http3.broken", why=repr(error)[:200])
            self._owner.note("broken")
            self.close(ErrorCode.H3_INTERNAL_ERROR, "")

    def _take_events(self) -> bool:
        """Take what QUIC has to say; return whether the connection goes on."""
        while not self.is_over and (event := self.quic.next_event()) is not None:
            match event:
                case events.ConnectionTerminated():
                    self._end()
                case events.ConnectionIdIssued():
                    self._owner.enlist(self, event.connection_id)
                case events.ConnectionIdRetired():
                    self._owner.strike(event.connection_id)
                    self.cids.discard(event.connection_id)
                case events.ProtocolNegotiated():
                    self._h3 = EdgeH3(self.quic)
                case events.HandshakeCompleted():
                    self._on_handshake()
                case _ if self._h3 is not None:
                    self._take_http(self._h3, event)
        return not self.is_over

    def _on_handshake(self) -> None:
        peer = self.quic.get_peer_address()
        assert peer is not None
        self.is_established = True
        # Only now the address is known to be the client's own, and may count against it.
        if not self._owner.admit(self, plain_address(peer[0])):
            self.close(ErrorCode.H3_EXCESSIVE_LOAD, "too many connections")

    def _take_http(self, h3: EdgeH3, event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamDataReceived):
            self.quic.consumed += len(event.data)
        for news in h3.handle_event(event):
            if isinstance(news, HeadersReceived):
                self._on_head(news)
            elif isinstance(news, DataReceived):
                self._on_body(news)
        if isinstance(event, events.StreamDataReceived):
            number = event.stream_id
            if h3.buffered(number) > _FRAME_BYTES:
                self.close(ErrorCode.H3_EXCESSIVE_LOAD, "frame too large")
            elif number % 4 == 0 and number not in self._begun:
                self._headless.setdefault(number, self._heard_at)
        elif isinstance(event, events.StreamReset | events.StopSendingReceived):
            self._on_reset(event)

    def _on_reset(self, event: events.StreamReset | events.StopSendingReceived) -> None:
        number = event.stream_id
        if isinstance(event, events.StreamReset):
            self.quic.consumed += self.quic.never_delivered(number)
        if number % 4:
            return
        self._begin(number)
        self.quic.reset_stream(number, ErrorCode.H3_REQUEST_CANCELLED)
        self.quic.stop(number, ErrorCode.H3_NO_ERROR)
        if self._drop(number):
            self._resets += 1
            if self._requests > _REQUESTS_PER_S and self._resets * 2 > self._requests:
                self.close(ErrorCode.H3_EXCESSIVE_LOAD, "rapid reset")

    def _on_head(self, news: HeadersReceived) -> None:
        number = news.stream_id
        exchange = self._exchanges.get(number)
        if number in self._begun:
            # Trailers: nobody reads them.
            if exchange is not None and news.stream_ended:
                exchange.put(b"", is_last=True)
            return
        if self._owner.is_draining:
            self.refuse(number, ErrorCode.H3_REQUEST_REJECTED)
            return
        self._begin(number)
        self._requests += 1
        peer = self.quic.get_peer_address()
        assert peer is not None
        name = socket_name(plain_address(peer[0]), peer[1], is_tls=True, certificate=self.quic.identity)
        try:
            scope = build_scope(news.headers, client="/" + name)
        except MalformedRequest:
            self.refuse(number, ErrorCode.H3_MESSAGE_ERROR)
            return
        exchange = self._exchanges[number] = Exchange(self, number, is_whole=news.stream_ended)
        is_too_large = sum(len(field) + len(value) + 32 for field, value in news.headers) > HEADER_BYTES
        app = _refuse_head if is_too_large else self._owner.app
        self._owner.follow(self._loop.create_task(exchange.run(app, scope)))

    def _on_body(self, news: DataReceived) -> None:
        exchange = self._exchanges.get(news.stream_id)
        if exchange is None:
            return
        size = len(news.data)
        self.quic.consumed -= size
        self.quic.unread[news.stream_id] = self.quic.unread.get(news.stream_id, 0) + size
        exchange.put(news.data, is_last=news.stream_ended)

    # What exchanges ask for

    def on_taken(self, number: int, size: int) -> None:
        """Let the client send as much again as an app has read of a body."""
        if number in self.quic.unread:
            self.quic.consumed += size
            self.quic.unread[number] -= size
            self.flush_soon()

    async def wait_for_room(self, exchange: Exchange) -> None:
        """Return when there is room for more of a body, or its exchange is over."""
        while not exchange.is_over and self._is_full(exchange.number):
            self._room.clear()
            await self._room.wait()

    def _is_full(self, number: int) -> bool:
        held = self.quic.held(number)
        return held >= STREAM_BYTES or (held >= SHARE_BYTES and self.held >= CONNECTION_BYTES)

    def send_head(self, number: int, headers: list[tuple[bytes, bytes]], *, is_last: bool) -> None:
        """Send the head of an answer."""
        assert self._h3 is not None
        self._h3.send_headers(number, headers, end_stream=is_last)
        self.flush_soon()

    def send_piece(self, number: int, data: bytes, *, is_last: bool) -> None:
        """Send a piece of an answer's body."""
        assert self._h3 is not None
        self._h3.send_data(number, data, end_stream=is_last)
        self.held += len(data)
        self._written += len(data)
        self.flush_soon()

    def refuse(self, number: int, code: int) -> None:
        """End a stream in both directions."""
        self._begin(number)
        self.quic.reset_stream(number, code)
        self.quic.stop(number, code)
        self.flush_soon()

    def finish(self, exchange: Exchange) -> None:
        """Take note that an app is done, and don't have the rest of a request it didn't read."""
        if self.is_over:
            return
        if not exchange.is_answered:
            self.quic.reset_stream(exchange.number, ErrorCode.H3_INTERNAL_ERROR)
        self.quic.stop(exchange.number, ErrorCode.H3_NO_ERROR)
        self._drop(exchange.number)
        self.flush_soon()

    def _begin(self, number: int) -> None:
        self._headless.pop(number, None)
        self._begun.add(number)
        self._next_stream_id = max(self._next_stream_id, number + 4)

    def _drop(self, number: int) -> bool:
        exchange = self._exchanges.pop(number, None)
        self.quic.consumed += self.quic.unread.pop(number, 0)
        if exchange is None:
            return False
        exchange.end()
        self._busy_at = self._loop.time()
        self._room.set()
        return True

    # What goes

    def flush_soon(self) -> None:
        """Send what is due when everything that happens now has happened."""
        if not self._is_flush_due and not self.is_over:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        if self.is_over:
            return
        with self._alone():
            for data, address in self.quic.datagrams_to_send(now=self._loop.time()):
                self._reply(data, address)
            if not self._take_events():
                return
            self.held = self.quic.held_in_all()
            self._room.set()
            if self._timer is not None:
                self._timer.cancel()
            due_at = self.quic.get_timer()
            self._timer = self._loop.call_at(due_at, self._on_timer) if due_at is not None else None

    def _on_timer(self) -> None:
        if self.is_over:
            return
        with self._alone():
            self.quic.handle_timer(now=self._loop.time())
            self._take_events()
            self.flush_soon()

    # The end

    def sweep(self, now: float) -> None:
        """Once a second: end what takes too long."""
        limits = self._owner.limits
        self._requests = self._resets = 0
        if not self.is_established:
            if now - self._opened_at >= limits.handshake_s:
                self.close(ErrorCode.H3_REQUEST_INCOMPLETE, "handshake")
            return
        if self._h3 is not None:
            self._begun = self._h3.only_open(self._begun)
        for number, since in list(self._headless.items()):
            if now - since >= limits.header_s:
                self.refuse(number, ErrorCode.H3_REQUEST_INCOMPLETE)
        if self._exchanges or self.held or self._headless:
            self._busy_at = now
            if now - self._heard_at >= min(_PING_S, limits.idle_s / 3):
                # A client that waits for a slow answer has nothing to say; one that is gone will not say this either.
                self.quic.send_ping(0)
                self.flush_soon()
        elif now - self._busy_at >= limits.idle_s:
            self.close(ErrorCode.H3_NO_ERROR, "idle")
            return
        acknowledged = self._written - self.held
        if not self.held:
            self._measured_at, self._acknowledged = now, acknowledged
        elif now - self._measured_at >= limits.stall_s:
            if acknowledged - self._acknowledged < limits.least_bytes_per_s * limits.stall_s:
                self.close(ErrorCode.H3_EXCESSIVE_LOAD, "stalled")
            self._measured_at, self._acknowledged = now, acknowledged

    def say_goodbye(self) -> None:
        """Have the client ask elsewhere from now on."""
        if self._h3 is not None and self.is_established:
            self._h3.say_goodbye(self._next_stream_id)
            self.flush_soon()

    def close(self, code: int, why: str) -> None:
        """Tell the client that this is over, and let go of everything."""
        if self.is_over:
            return
        try:
            self.quic.close(error_code=code, reason_phrase=why)
            for data, address in self.quic.datagrams_to_send(now=self._loop.time()):
                self._reply(data, address)
        except Exception as error:
            # It is broken already; then the client finds out by itself.
            _log.debug("http3.broken", why=repr(error)[:200])
        finally:
            self._end()

    def _end(self) -> None:
        self.is_over = True
        for exchange in self._exchanges.values():
            exchange.end()
        self._exchanges.clear()
        self._room.set()
        self.held = 0
        if self._timer is not None:
            self._timer.cancel()
        self._owner.forget(self)


async def _refuse_head(_scope: Any, _receive: Any, send: Any) -> None:
    text = b"Request Header Fields Too Large\n"
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 431, "headers": headers})
    await send({"type": "http.response.body", "body": text})
