"""A visit: an HTTP/1.1 connection whose requests a worker answers over the lane, for as long as it can.

The first request that is not answered there, or is not alone, takes the connection to the engine for good.
"""

from __future__ import annotations

import socket
import ssl
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import TYPE_CHECKING, Final

from vclone_edge.connection import Client, Connection, say_goodbye
from vclone_edge.lane import lane_path, may_ask, pack, unpack

if TYPE_CHECKING:
    from vclone_edge.front import Front

LAST_CALL_S: Final = 0.15  # as for arrivals
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_NOTHING = memoryview(b"")


class Lane:
    """The front's end of one worker's lane: what was asked this round goes out in one write."""

    def __init__(self, front: Front, path: str, sock: socket.socket) -> None:
        self.front = front
        self.path = path
        self.sock = sock
        self.waiting: dict[int, Visit] = {}
        self._ticket = 0
        self._asked: list[bytes] = []
        self._unsent = b""
        self._rest = b""
        front.attach(sock, EPOLLIN, self._on_worker)

    def ask(self, visit: Visit, head: bytes) -> None:
        """Have the worker asked; `visit` hears the answer, or of the lane's end."""
        self._ticket = (self._ticket + 1) & 0xFFFFFFFF
        self.waiting[self._ticket] = visit
        self._asked.append(pack(self._ticket, visit.named + head))

    def flush(self) -> None:
        """Send what was asked."""
        if self._asked:
            self._unsent += b"".join(self._asked)
            self._asked.clear()
        if not self._unsent:
            return
        try:
            sent = self.sock.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.end()
            return
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self.front.epoll.modify(self.sock, EPOLLIN | EPOLLOUT)

    def _on_worker(self, events: int) -> None:
        if events & EPOLLOUT:
            self.front.epoll.modify(self.sock, EPOLLIN)
            self.flush()
        if not events & ~EPOLLOUT:
            return
        try:
            size = self.sock.recv_into(self.front.buffer)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self.end()
            return
        # What is sent at once, as nearly all is, is never copied.
        received = memoryview(self._rest + self.front.view[:size]) if self._rest else self.front.view[:size]
        frames, taken = unpack(received)
        self._rest = bytes(received[taken:])
        for ticket, answer in frames:
            self.waiting.pop(ticket).on_answer(answer)

    def end(self) -> None:
        """The worker is gone: its visits go on with the engine."""
        if not self.front.lose_lane(self.path):
            return
        self.front.detach(self.sock)
        waiting, self.waiting = self.waiting, {}
        for visit in waiting.values():
            visit.on_answer(_NOTHING)


def connect_lane(front: Front, socket_path: str) -> Lane | None:
    """Return a lane to a worker; None: it takes none."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.connect(lane_path(socket_path))
    except OSError:
        sock.close()
        return None
    return Lane(front, socket_path, sock)


class Visit(Connection):
    """At any time it waits for a request, for an answer, or for the client to take one."""

    __slots__ = ("_active_at", "_asked", "_is_client_done", "_leaves_at", "_more", "_stalled_at", "_stalled_bytes",
                 "_to_client", "named")  # fmt: skip

    def __init__(self, front: Front, client: Client) -> None:
        super().__init__(front, client)
        self.named = client.name.encode() + b"\n"
        self._asked = b""
        self._more = b""
        self._to_client = _NOTHING
        self._is_client_done = False
        self._active_at = front.now
        self._leaves_at: float | None = None
        self._stalled_at = 0.0
        self._stalled_bytes = 0

    def begin(self, head: bytes) -> None:
        """Start with what the client has sent so far: one whole head."""
        self._ask(head)

    def on_client(self, events: int) -> None:
        if events & EPOLLOUT and self._to_client:
            self._send(self._to_client)
        if self.is_closed:
            return
        if events & EPOLLIN:
            self._read()
        elif events & (EPOLLHUP | EPOLLERR):
            self.abort("")

    def _read(self) -> None:
        size = self.receive()
        if size is None:
            return
        if not size:
            self._is_client_done = True
            self._go_on()
            return
        self._active_at = self.front.now
        data = bytes(self.front.view[:size])
        if self._asked or self._to_client:
            # It doesn't wait for answers: the engine takes what comes behind this one.
            self._more = data
            self._go_on()
        else:
            self._ask(data)

    def _ask(self, head: bytes) -> None:
        lane = self.front.pick_lane() if may_ask(head) else None
        if lane is None:
            self._more = head
            self._go_on()
            return
        self._asked = head
        lane.ask(self, head)

    def on_answer(self, answer: memoryview) -> None:
        """Hear what the worker says to the one request that is open. What of it must wait is copied."""
        if self.is_closed:
            return
        asked, self._asked = self._asked, b""
        if answer:
            self._active_at = self._stalled_at = self.front.now
            self._stalled_bytes = 0
            self._send(answer)
            if self._to_client:
                self._to_client = memoryview(bytes(self._to_client))
        else:
            self._more = asked + self._more
            self._go_on()

    def _send(self, waiting: memoryview) -> None:
        sock, sent = self.client.sock, 0
        try:
            sent = sock.send(waiting)
            while sent < len(waiting):
                sent += sock.send(waiting[sent:])
        except _WOULD_BLOCK:
            pass
        except OSError:
            self.abort("")
            return
        self._stalled_bytes += sent
        was_waiting, self._to_client = bool(self._to_client), waiting[sent:] if sent < len(waiting) else _NOTHING
        if was_waiting or self._to_client or self._more or self._is_client_done or self._leaves_at is not None:
            self._go_on()

    def _go_on(self) -> None:
        """Do what is next, and ask for the events that it calls for."""
        if self._asked or self._to_client:
            # What comes behind an open request is held once, and no more is read.
            wanted = 0 if self._more or self._is_client_done else EPOLLIN
            self.listen(wanted | EPOLLOUT if self._to_client else wanted)
        elif self._more:
            self.front.arrive_again(self, self._more, retries=0)
        elif self._is_client_done:
            self.close()
        elif self._leaves_at is not None and self.front.now >= self._leaves_at:
            say_goodbye(self)
        else:
            self.listen(EPOLLIN)

    def overdue(self, now: float) -> str | None:
        limits = self.front.limits
        if self._to_client:
            if now - self._stalled_at < limits.stall_s:
                return None
            if self._stalled_bytes < limits.least_bytes_per_s * limits.stall_s:
                return "stalled"
            self._stalled_at = now
            self._stalled_bytes = 0
            return None
        if self._asked:
            return "idle" if now - self._active_at >= limits.answer_s else None
        if self._leaves_at is not None and now >= self._leaves_at:
            return "drain"
        return "idle" if now - self._active_at >= self.front.idle_s else None

    def expire(self, why: str) -> None:
        if self._to_client or self._asked:
            self.abort(why)
        else:
            say_goodbye(self)

    def on_drain(self) -> None:
        # Who is about to ask is answered once more.
        self._leaves_at = self.front.now + LAST_CALL_S
