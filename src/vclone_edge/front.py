"""The connection front: takes public connections, guards them, and pipes their bytes to the workers.

    listener -> gate -> (TLS) -> first bytes -> lane or pipe -> worker

It knows bytes and time, not HTTP: what it refuses is what costs a worker something without being a request. One
thread and one epoll, no framework under it. That isn't for speed (a pair of uvloop protocols costs the same CPU) but
for control: one buffer for all connections, what is kept and what is awaited known exactly, TLS without a second copy
of the bytes. Its process is forked by the supervisor.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import select
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from vclone_core.log import get_log
from vclone_core.settings import Settings
from vclone_edge.arrival import Arrival
from vclone_edge.connection import Client, Connection
from vclone_edge.gate import Gate
from vclone_edge.h2watch import FrameLimits
from vclone_edge.peers import plain_address
from vclone_edge.roster import Roster
from vclone_edge.tls import Certificates
from vclone_edge.visit import Lane, Visit, connect_lane

BUFFER_BYTES = 128 * 1024
# Unsent bytes the kernel takes per connection: small, so that a reader's slowness is seen here and not only there.
UNSENT_BYTES = 64 * 1024
_ACCEPTS_AT_ONCE = 64
_SWEEP_S = 1.0
_DRAIN_SWEEP_S = 0.05
_RETRY_S = 0.02
_REPORT_S = 10.0
_CERTIFICATES_S = 5.0

_log = get_log(__name__)

Handler = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may take, in seconds and bytes."""

    handshake_s: float = 10.0
    header_s: float = 15.0
    worker_s: float = 10.0
    answer_s: float = 300.0
    idle_s: float = 60.0
    crowded_idle_s: float = 5.0
    stall_s: float = 60.0
    least_bytes_per_s: int = 1024
    linger_s: float = 2.0
    drain_s: float = 30.0
    retries: int = 2
    is_h2_allowed: bool = False
    frames: FrameLimits = field(default_factory=FrameLimits)

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits that the settings ask for."""
        return cls(
            handshake_s=min(10.0, settings.edge_header_s),
            header_s=settings.edge_header_s,
            idle_s=settings.edge_idle_s,
            crowded_idle_s=min(5.0, settings.edge_idle_s),
            stall_s=settings.edge_stall_s,
            drain_s=settings.edge_drain_s,
            is_h2_allowed=settings.edge_h2_prior_knowledge,
        )


def open_listener(address: str, port: int, *, backlog: int = 4096) -> socket.socket:
    """Return a listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        listener.bind((address, port))
        listener.listen(backlog)
        tune_listener(listener)
    except OSError:
        listener.close()
        raise
    return listener


def tune_listener(listener: socket.socket) -> None:
    """Set what a front wants of its connections: accepted sockets inherit it."""
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    listener.setblocking(False)


class Front:
    """Serves `plain` and `secure` listeners until SIGTERM, then lets the connections that are at work finish."""

    def __init__(
        self,
        *,
        plain: Sequence[socket.socket],
        secure: Sequence[socket.socket],
        certificates: Certificates | None,
        roster: Roster,
        gate: Gate,
        limits: Limits,
    ) -> None:
        self.limits = limits
        self.idle_s = limits.idle_s
        self.folder = str(roster.folder)
        self.buffer = bytearray(BUFFER_BYTES)
        self.view = memoryview(self.buffer)
        self.now = time.monotonic()
        self.epoll = select.epoll()
        self.handlers: dict[int, Handler] = {}
        self.load = [0] * roster.workers
        self.lanes: dict[str, Lane | None] = {}
        """By a worker's socket; None: it takes no lanes."""
        self._lanes_now: list[Lane] = []
        self._lanes_at = -1.0
        self._roster = roster
        self._gate = gate
        self._certificates = certificates
        self._connections: set[Connection] = set()
        self._waiting: deque[Arrival] = deque()
        self._graves: list[socket.socket] = []
        self._resting: list[tuple[socket.socket, Handler]] = []
        self._refusals: Counter[str] = Counter()
        self._reported_at = 0.0
        self._certified_at = self.now
        self._drain_by: float | None = None
        self._spare = os.open("/dev/null", os.O_RDONLY)
        self._listeners = list(plain) + list(secure)
        for listener in plain:
            self.attach(listener, select.EPOLLIN, self._make_acceptor(listener, is_tls=False))
        for listener in secure:
            self.attach(listener, select.EPOLLIN, self._make_acceptor(listener, is_tls=True))

    # What connections ask of their front

    def attach(self, sock: socket.socket, events: int, handler: Handler) -> None:
        """Call `handler` on these events of a socket."""
        self.handlers[sock.fileno()] = handler
        self.epoll.register(sock, events)

    def detach(self, sock: socket.socket) -> None:
        """Stop listening to a socket and close it."""
        with contextlib.suppress(OSError, ValueError):
            self.epoll.unregister(sock)
        self.bury(sock)

    def bury(self, sock: socket.socket) -> None:
        """Close a socket after this round: its number must not return while old events name it."""
        self.handlers.pop(sock.fileno(), None)
        self._graves.append(sock)

    def forget(self, connection: Connection) -> None:
        """Drop a connection that has ended."""
        self._connections.discard(connection)
        self._gate.leave(connection.client.slot)

    def replace(self, old: Connection, new: Connection) -> None:
        """Go on with `new` where `old` was, for the same client."""
        self._connections.discard(old)
        self._connections.add(new)
        self.handlers[new.client.sock.fileno()] = new.on_client

    def arrive_again(self, old: Connection, head: bytes, *, retries: int) -> None:
        """Look for another worker for a request that lost its own, or that can't be answered over a lane."""
        arrival = Arrival(self, old.client, head=head, retries=retries)
        old.become(arrival)
        arrival.go_on()

    def visit(self, old: Connection, head: bytes) -> None:
        """Have a first request answered over a lane."""
        visit = Visit(self, old.client)
        old.become(visit)
        visit.begin(head)

    def pick_lane(self) -> Lane | None:
        """Return the lane with the fewest open requests; None where no worker takes any."""
        if self._lanes_at != self.now:
            self._lanes_at = self.now
            self._lanes_now = list(self._find_lanes())
        lanes = self._lanes_now
        if len(lanes) > 1:
            return min(lanes, key=lambda lane: len(lane.waiting))
        return lanes[0] if lanes else None

    def lose_lane(self, path: str) -> bool:
        """Have no lane to this worker any more; say whether there was one."""
        self._lanes_at = -1.0
        return self.lanes.pop(path, None) is not None

    def _find_lanes(self) -> Iterator[Lane]:
        paths = [path for _, path in self._roster.ready()]
        for path in paths:
            if path not in self.lanes:
                self.lanes[path] = connect_lane(self, path)
            lane = self.lanes[path]
            if lane is not None:
                yield lane
        if len(self.lanes) > len(paths):
            # Workers that left: those who have a lane say goodbye by its end.
            self.lanes = {path: lane for path, lane in self.lanes.items() if lane is not None or path in paths}

    def workers_by_load(self) -> list[tuple[int, str]]:
        """Return the workers that take connections, those with the fewest of ours first."""
        ready = self._roster.ready()
        if len(ready) > 1:
            return sorted(ready, key=lambda worker: self.load[worker[0]])
        return ready

    def wait_for_worker(self, arrival: Arrival) -> None:
        """Have an arrival try again shortly."""
        self._waiting.append(arrival)

    def count_refusal(self, why: str) -> None:
        """Note that a connection was ended for a reason; reasons are logged in sums, never one by one."""
        self._refusals[why] += 1

    # Accepting

    def _make_acceptor(self, listener: socket.socket, *, is_tls: bool) -> Handler:
        def accept(_events: int) -> None:
            for _ in range(_ACCEPTS_AT_ONCE):
                try:
                    client, peer = listener.accept()
                except BlockingIOError:
                    return
                except OSError as error:
                    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                        self._shed(listener, accept)
                        return
                    continue
                self._take(client, plain_address(peer[0]), peer[1], is_tls=is_tls)

        return accept

    def _take(self, client: socket.socket, address: str, port: int, *, is_tls: bool) -> None:
        slot, why = self._gate.admit(address)
        if why:
            self.count_refusal(why)
            client.close()
            return
        try:
            client.setblocking(False)
            if is_tls:
                assert self._certificates is not None
                client = self._certificates.context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        except (OSError, ValueError):
            client.close()
            self._gate.leave(slot)
            return
        arrival = Arrival(
            self, Client(client, address=address, port=port, slot=slot, opened_at=self.now, is_tls=is_tls)
        )
        self._connections.add(arrival)
        self.attach(client, select.EPOLLIN, arrival.on_client)

    def _shed(self, listener: socket.socket, acceptor: Handler) -> None:
        """Out of descriptors: turn the waiting client away with the spare one, then let the listener rest a little."""
        os.close(self._spare)
        try:
            client, _ = listener.accept()
            client.close()
            self.count_refusal("no_descriptors")
        except OSError:
            pass
        with contextlib.suppress(OSError):
            self._spare = os.open("/dev/null", os.O_RDONLY)
        self.epoll.unregister(listener)
        self._resting.append((listener, acceptor))

    # The loop

    def run(self) -> None:
        """Serve. Returns when drained."""
        waker, sleeper = socket.socketpair()
        for end in (waker, sleeper):
            end.setblocking(False)
        signal.set_wakeup_fd(sleeper.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.attach(waker, select.EPOLLIN, lambda _events: self._on_signal(waker))
        gc.freeze()
        swept_at = self.now
        poll, handlers, clock = self.epoll.poll, self.handlers, time.monotonic
        while self._drain_by is None or self._connections:
            sweep_s = _SWEEP_S if self._drain_by is None else _DRAIN_SWEEP_S
            events = poll(_RETRY_S if self._waiting or self._resting else max(0.0, swept_at + sweep_s - self.now), 512)
            self.now = now = clock()
            for number, event in events:
                handler = handlers.get(number)
                if handler is not None:
                    handler(event)
            for lane in self._lanes_now:
                lane.flush()
            if self._waiting:
                self._ask_again()
            if self._resting:
                self._wake_listeners()
            if self._graves:
                for sock in self._graves:
                    sock.close()
                self._graves.clear()
            if now - swept_at >= sweep_s:
                swept_at = now
                self._sweep()
        signal.set_wakeup_fd(-1)
        self._report()

    def _on_signal(self, waker: socket.socket) -> None:
        waker.recv(512)
        if self._drain_by is not None:
            return
        self._drain_by = self.now + self.limits.drain_s
        for listener in self._listeners:
            self.detach(listener)
        self._resting.clear()
        for connection in list(self._connections):
            connection.on_drain()

    def _ask_again(self) -> None:
        for _ in range(len(self._waiting)):
            arrival = self._waiting.popleft()
            if not arrival.is_closed:
                arrival.find_worker()

    def _wake_listeners(self) -> None:
        for listener, acceptor in self._resting:
            self.attach(listener, select.EPOLLIN, acceptor)
        self._resting.clear()

    def _sweep(self) -> None:
        now = self.now
        self.idle_s = self.limits.crowded_idle_s if self._gate.is_crowded else self.limits.idle_s
        for connection in list(self._connections):
            if why := connection.overdue(now):
                connection.expire(why)
        if self._drain_by is not None and now >= self._drain_by:
            for connection in list(self._connections):
                connection.abort("drain_over")
        if self._certificates is not None and now - self._certified_at >= _CERTIFICATES_S:
            self._certified_at = now
            self._certificates.refresh()
        if self._refusals and now - self._reported_at >= _REPORT_S:
            self._report()

    def _report(self) -> None:
        if self._refusals:
            self._reported_at = self.now
            _log.warning("connections.refused", open=len(self._connections), **self._refusals)
            self._refusals.clear()
