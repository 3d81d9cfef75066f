"""The process that speaks HTTP/3: UDP sockets, the connections by their ids, and the app, until SIGTERM.

It stands beside the fronts and workers, whichever engine those are, and shares only their count of connections per
address. What a flood of UDP costs, it costs this process; over TCP nobody notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections import Counter
from collections.abc import Callable
from functools import partial
from os import urandom
from typing import Any, Final

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.h3.connection import ErrorCode
from aioquic.quic.packet import QuicPacketType, encode_quic_retry, encode_quic_version_negotiation, pull_quic_header
from aioquic.quic.retry import QuicRetryTokenHandler

from vclone_core.log import get_log
from vclone_core.settings import Settings
from vclone_edge.gate import Gate
from vclone_edge.http3 import Address, Connection, Http3Limits
from vclone_edge.hypercorn_engine import Engine, make_config
from vclone_edge.quic import EdgeQuic, make_configuration
from vclone_edge.tls import Certificate, Certificates

CONNECTIONS: Final = 2000
# Handshakes at once. From the first figure on, clients have to show that their address is theirs (RFC 9000 §8.1.2).
HANDSHAKES_UNPROVEN: Final = 32
HANDSHAKES: Final = 256
# Bytes unacknowledged and unread, of all connections; who holds most goes first.
HELD_BYTES: Final = 128 * 1024**2

_FIRST_PACKET_BYTES: Final = 1200
_DATAGRAM_BYTES: Final = 2048
_DATAGRAMS_AT_ONCE: Final = 64
_SOCKET_BYTES: Final = 1024**2
_SWEEP_S: Final = 1.0
_DRAIN_SWEEP_S: Final = 0.05
_CERTIFICATES_S: Final = 5.0
_REPORT_S: Final = 10.0
_BIND_AGAIN_S: Final = 1.0
# A process that doesn't come round in this time is ended by the kernel, and replaced.
_SILENT_S: Final = 30

_log = get_log(__name__)


class Http3Engine:
    """Owns every QUIC connection of the edge."""

    def __init__(self, engine: Engine, app: Any, certificates: Certificates, gate: Gate, limits: Http3Limits) -> None:
        self.app = app
        self.limits = limits
        self.is_draining = False
        self._engine = engine
        self._certificates = certificates
        self._gate = gate
        self._retry = QuicRetryTokenHandler()
        self._by_cid: dict[bytes, Connection] = {}
        self._connections: set[Connection] = set()
        self._handshakes = 0
        self._sockets: list[socket.socket] = []
        self._told_to_stop = asyncio.Event()
        self._refusals: Counter[str] = Counter()
        self._loop = asyncio.get_running_loop()

    # What connections ask for

    def admit(self, connection: Connection, address: str) -> bool:
        """Count an established connection; say whether its address may have one more."""
        self._handshakes -= 1
        slot, why = self._gate.admit(address)
        if why:
            self._refusals[why] += 1
            return False
        connection.slot = slot
        return True

    def enlist(self, connection: Connection, cid: bytes) -> None:
        """Give a connection what comes with this id."""
        connection.cids.add(cid)
        self._by_cid[cid] = connection

    def strike(self, cid: bytes) -> None:
        """Give nobody what comes with this id."""
        self._by_cid.pop(cid, None)

    def forget(self, connection: Connection) -> None:
        """Drop a connection that has ended."""
        for cid in connection.cids:
            self._by_cid.pop(cid, None)
        self._connections.discard(connection)
        if not connection.is_established:
            self._handshakes -= 1
        if connection.slot is not None:
            self._gate.leave(connection.slot)
            connection.slot = None

    def note(self, why: str) -> None:
        """Count a connection that was ended for this reason; reasons are logged in sums, never one by one."""
        self._refusals[why] += 1

    def follow(self, task: asyncio.Task[Any]) -> None:
        """Have a stop wait for this task."""
        self._engine.follow(task)

    @property
    def weight(self) -> int:
        """The bytes that lie here unacknowledged or unread, of all connections."""
        return sum(connection.weight for connection in self._connections)

    # What comes

    async def listen(self, addresses: list[tuple[str, int]]) -> None:
        """Take the UDP ports as soon as they are free: an edge that is draining still needs its own."""
        for address, port in addresses:
            is_told = False
            while True:
                try:
                    sock = _open_socket(address, port)
                    break
                except OSError as error:
                    if not is_told:
                        _log.warning("http3.port_taken", address=address, port=port, why=error.strerror)
                    is_told = True
                await asyncio.sleep(_BIND_AGAIN_S)
            self._sockets.append(sock)
            self._loop.add_reader(sock, self._read, sock, partial(_reply, sock))
        _log.info("http3.listening", port=addresses[0][1])

    def _read(self, sock: socket.socket, reply: Callable[[bytes, Address], None]) -> None:
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                data, address = sock.recvfrom(_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue
            try:
                self._take(data, address, reply)
            except Exception as error:
                # One client's packet, whatever is wrong with it, is nothing to the others.
                self._refusals["unreadable"] += 1
                _log.debug("http3.unreadable", why=repr(error)[:200])

    def _take(self, data: bytes, address: Address, reply: Callable[[bytes, Address], None]) -> None:
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=8)
        except ValueError:
            return
        connection = self._by_cid.get(header.destination_cid)
        if connection is None:
            connection = self._open(header, len(data), address, reply)
        if connection is not None:
            connection.receive(data, address)

    def _open(
        self, header: Any, size: int, address: Address, reply: Callable[[bytes, Address], None]
    ) -> Connection | None:
        """Return a new connection for a client's first packet; None where there is to be none, or not yet."""
        if self.is_draining or size < _FIRST_PACKET_BYTES or header.version is None:
            return None
        if header.packet_type == QuicPacketType.VERSION_NEGOTIATION:
            return None
        configuration = make_configuration(self._certificates.fallback, idle_s=self.limits.idle_s)
        if header.version not in configuration.supported_versions:
            answer = encode_quic_version_negotiation(
                source_cid=header.destination_cid,
                destination_cid=header.source_cid,
                supported_versions=configuration.supported_versions,
            )
            reply(answer, address)
            return None
        if header.packet_type != QuicPacketType.INITIAL:
            return None
        if self._handshakes >= HANDSHAKES or len(self._connections) >= CONNECTIONS:
            self._refusals["all_places_taken"] += 1
            return None
        first, retried = header.destination_cid, None
        if header.token:
            try:
                first = self._retry.validate_token(
                    address=address, destination_cid=first, token=header.token, now=self._loop.time()
                )
            except ValueError:
                self._refusals["bad_token"] += 1
                return None
            retried = header.destination_cid
        elif self._handshakes >= HANDSHAKES_UNPROVEN:
            self._send_retry(header, address, reply)
            return None
        quic = EdgeQuic(
            configuration=configuration,
            find_certificate=self._find_certificate,
            original_destination_connection_id=first,
            retry_source_connection_id=retried,
        )
        connection = Connection(self, quic, reply)
        self._handshakes += 1
        self._connections.add(connection)
        self.enlist(connection, header.destination_cid)
        self.enlist(connection, quic.host_cid)
        return connection

    def _send_retry(self, header: Any, address: Address, reply: Callable[[bytes, Address], None]) -> None:
        source = urandom(8)
        token = self._retry.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=source,
            now=self._loop.time(),
        )
        packet = encode_quic_retry(
            version=header.version,
            source_cid=source,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
        reply(packet, address)

    def _find_certificate(self, name: str | None) -> Certificate:
        found = self._certificates.find(name)
        if found is not None:
            return found
        fallback = self._certificates.fallback
        return Certificate(fallback.context, "", fallback.chain, fallback.key)

    # Its life

    def drain(self) -> None:
        """Take no new requests; those at work go on."""
        self.is_draining = True
        self._told_to_stop.set()
        for connection in list(self._connections):
            connection.say_goodbye()

    async def live(self, addresses: list[tuple[str, int]]) -> None:
        """Serve until `is_draining`, then until nothing is being answered any more."""
        listening = self._loop.create_task(self.listen(addresses))
        certified_at = reported_at = self._loop.time()
        try:
            while not (self.is_draining and all(connection.is_idle for connection in self._connections)):
                now = self._loop.time()
                self._sweep(now)
                if now - certified_at >= _CERTIFICATES_S:
                    certified_at = now
                    self._certificates.refresh()
                if self._refusals and now - reported_at >= _REPORT_S:
                    reported_at = now
                    _log.warning("http3.refused", open=len(self._connections), **self._refusals)
                    self._refusals.clear()
                if self.is_draining:
                    listening.cancel()
                    await asyncio.sleep(_DRAIN_SWEEP_S)
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SWEEP_S):
                        await self._told_to_stop.wait()
        finally:
            listening.cancel()
            for connection in list(self._connections):
                connection.close(ErrorCode.H3_NO_ERROR, "")
            for sock in self._sockets:
                self._loop.remove_reader(sock)
                sock.close()

    def _sweep(self, now: float) -> None:
        for connection in list(self._connections):
            connection.sweep(now)
        held = self.weight
        if held <= HELD_BYTES:
            return
        for connection in sorted(self._connections, key=lambda connection: connection.weight, reverse=True):
            held -= connection.weight
            self._refusals["memory"] += 1
            connection.close(ErrorCode.H3_EXCESSIVE_LOAD, "memory")
            if held <= HELD_BYTES:
                return


def _open_socket(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BYTES)
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def _reply(sock: socket.socket, data: bytes, address: Address) -> None:
    # What the kernel has no room for is lost, as it may be anywhere on its way.
    with contextlib.suppress(OSError):
        sock.sendto(data, address)


async def _show_life() -> None:
    """Put off the alarm that ends this process."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    while True:
        signal.alarm(_SILENT_S)
        await asyncio.sleep(_SWEEP_S)


def run_http3(
    settings: Settings, *, app: Any, addresses: list[tuple[str, int]], certificates: Certificates, gate: Gate
) -> None:
    """Serve the app by HTTP/3 until SIGTERM."""
    import uvloop

    # aioquic tells of every connection's end.
    for name in ("quic", "http3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    engine = Engine(app, make_config(header_s=settings.edge_header_s))
    limits = Http3Limits(
        handshake_s=min(10.0, settings.edge_header_s),
        header_s=settings.edge_header_s,
        idle_s=settings.edge_idle_s,
        stall_s=settings.edge_stall_s,
    )

    living: list[asyncio.Task[None]] = []

    async def listen(engine: Engine) -> Callable[[], None]:
        http3 = Http3Engine(engine, app, certificates, gate, limits)
        loop = asyncio.get_running_loop()
        engine.follow(loop.create_task(http3.live(addresses)))
        living.append(loop.create_task(_show_life()))
        return http3.drain

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(engine.run(listen, drain_s=settings.edge_drain_s))
