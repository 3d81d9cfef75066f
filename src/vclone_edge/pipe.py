"""A client and its worker, and the bytes between them.

Bytes are read into one buffer that all connections share and written on at once; only what the other side doesn't
take is kept, and then that direction isn't read until it is gone. So a pipe holds at most one buffer per direction,
and a slow reader slows its own writer only.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import TYPE_CHECKING

from vclone_edge.connection import Client, Connection, say_goodbye
from vclone_edge.h1watch import RequestWatch
from vclone_edge.h2watch import FrameWatch
from vclone_edge.opening import ANSWERS, GOAWAYS, Opening

if TYPE_CHECKING:
    from vclone_edge.front import Front

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_NOTHING = memoryview(b"")
_MAY_BE_REPEATED = (b"GET ", b"HEAD ")


class Pipe(Connection):
    """Ends when either side does, or when a limit is broken."""

    __slots__ = (
        "_active_at",
        "_answered_heads",
        "_awaits_worker",
        "_first_request",
        "_has_answered",
        "_index",
        "_is_client_done",
        "_is_worker_deaf",
        "_requests",
        "_retries",
        "_stalled_at",
        "_stalled_bytes",
        "_to_client",
        "_to_worker",
        "_watch",
        "_worker",
        "_worker_events",
    )

    def __init__(
        self,
        front: Front,
        client: Client,
        worker: socket.socket,
        *,
        index: int,
        watch: FrameWatch | RequestWatch,
        retries: int,
    ) -> None:
        super().__init__(front, client)
        self._worker: socket.socket | None = worker
        self._worker_events = EPOLLIN
        self._index = index
        self._watch = watch if isinstance(watch, FrameWatch) else None
        self._requests = watch if isinstance(watch, RequestWatch) else None
        self._retries = retries
        self._first_request = b""
        self._active_at = front.now
        self._answered_heads = 0
        self._awaits_worker = True
        self._has_answered = self._is_client_done = self._is_worker_deaf = False
        self._to_client = self._to_worker = _NOTHING
        self._stalled_at = 0.0
        self._stalled_bytes = 0

    def begin(self, head: bytes) -> None:
        """Start with what the client has sent so far."""
        assert self._worker is not None
        self.front.load[self._index] += 1
        self.front.attach(self._worker, EPOLLIN, self._on_worker)
        if self._watch is None and head.startswith(_MAY_BE_REPEATED):
            self._first_request = head
        self._send_worker(memoryview(head))
        self._settle()

    # Events

    def on_client(self, events: int) -> None:
        if events & EPOLLOUT and not self._flush_client():
            return
        if events & EPOLLIN:
            self._read_client()
        elif events & (EPOLLHUP | EPOLLERR):
            self.abort("")

    def _on_worker(self, events: int) -> None:
        if events & EPOLLOUT and self._to_worker:
            waiting, self._to_worker = self._to_worker, _NOTHING
            self._send_worker(waiting)
            self._settle()
        if events & ~EPOLLOUT and not self._to_client:
            self._read_worker()

    # From the client to the worker

    def _read_client(self) -> None:
        size = self.receive()
        if size is None:
            return
        if not size:
            self._is_client_done = True
            self._end_worker_input()
            self._settle()
            return
        front = self.front
        data = front.view[:size]
        watch = self._watch
        if watch is None:
            if self._requests is not None and self._requests.feed(data):
                self._refuse()
                return
            self._active_at = front.now
            self._awaits_worker = True
        else:
            if why := watch.feed(data, front.now):
                self._turn_away(why)
                return
            if watch.moved:
                watch.moved = False
                self._active_at = front.now
                self._awaits_worker = True
        if self._first_request:
            # The first request goes on coming: it can't be sent to another worker any more.
            self._first_request = b""
        self._send_worker(data)
        if self._to_worker:
            self._settle()

    def _turn_away(self, why: str) -> None:
        """End an HTTP/2 connection for its frames: a flood at once, a mistake with a word if it can be understood."""
        if why not in GOAWAYS or self._to_client:
            self.abort(why)
            return
        self.front.count_refusal(why)
        with contextlib.suppress(OSError):
            self.client.sock.send(GOAWAYS[why])
        self.release()
        say_goodbye(self)

    def _refuse(self) -> None:
        """End for a request that can be read in two ways; say so where no answer is under way."""
        assert self._requests is not None
        if self._requests.heads > self._answered_heads or self._to_client:
            self.abort(Opening.AMBIGUOUS.value)
            return
        self.front.count_refusal(Opening.AMBIGUOUS.value)
        with contextlib.suppress(OSError):
            self.client.sock.send(ANSWERS[Opening.AMBIGUOUS])
        self.release()
        say_goodbye(self)

    def _send_worker(self, data: memoryview) -> None:
        if self._is_worker_deaf:
            return
        assert self._worker is not None
        try:
            sent = self._worker.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # It has stopped listening, but what it said may still be on its way: an early answer, then the end.
            self._is_worker_deaf = True
            return
        if sent < len(data):
            self._to_worker = memoryview(bytes(data[sent:]))
        elif self._is_client_done:
            self._end_worker_input()

    def _end_worker_input(self) -> None:
        if not self._to_worker and self._worker is not None:
            with contextlib.suppress(OSError):
                self._worker.shutdown(socket.SHUT_WR)

    # From the worker to the client

    def _read_worker(self) -> None:
        front = self.front
        assert self._worker is not None
        try:
            size = self._worker.recv_into(front.buffer)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self._on_worker_end()
            return
        watch = self._watch
        # Acknowledged PINGs are not progress: a client that only pings is idle.
        if watch is None or size > watch.answers_due:
            self._active_at = front.now
            self._awaits_worker = False
            if watch is not None:
                watch.answers_due = 0
            elif self._requests is not None:
                self._answered_heads = self._requests.heads
        else:
            watch.answers_due -= size
        if not self._has_answered:
            self._has_answered = True
            self._first_request = b""
        data = front.view[:size]
        sent = self._send_client(data)
        if sent < 0 or sent == size:
            return
        self._to_client = memoryview(bytes(data[sent:]))
        self._stalled_at = front.now
        self._stalled_bytes = 0
        self._settle()

    def _send_client(self, data: memoryview) -> int:
        """Return how much the client took; -1: it is gone, and this pipe with it."""
        sock = self.client.sock
        sent = 0
        try:
            sent = sock.send(data)
            if self.client.is_tls:
                # One call writes one record.
                while sent < len(data):
                    sent += sock.send(data[sent:])
        except _WOULD_BLOCK:
            pass
        except OSError:
            self.abort("")
            return -1
        return sent

    def _flush_client(self) -> bool:
        """Write what waits for the client; return whether the pipe lives on."""
        waiting = self._to_client
        if not waiting:
            return True
        sent = self._send_client(waiting)
        if sent < 0:
            return False
        self._stalled_bytes += sent
        self._to_client = waiting[sent:] if sent < len(waiting) else _NOTHING
        if not self._to_client:
            self._settle()
        return True

    # Ends

    def _on_worker_end(self) -> None:
        self.release()
        front = self.front
        if self._first_request and self._retries < front.limits.retries and not self._is_client_done:
            # It died before it said a word about a request that changes nothing: nobody needs to know.
            front.arrive_again(self, self._first_request, retries=self._retries + 1)
        elif self._is_client_done:
            self.close()
        else:
            say_goodbye(self)

    def release(self) -> None:
        if self._worker is None:
            return
        self.front.load[self._index] -= 1
        if self._worker_events:
            self.front.detach(self._worker)
        else:
            self.front.bury(self._worker)
        self._worker = None

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
        if self._watch is not None and not self._watch.requests and now - self.client.opened_at >= limits.header_s:
            return "no_request"
        allowed = limits.answer_s if self._awaits_worker else self.front.idle_s
        return "idle" if now - self._active_at >= allowed else None

    def expire(self, why: str) -> None:
        if why == "idle" and not self._awaits_worker:
            self.release()
            say_goodbye(self)
        else:
            self.abort(why)

    def _settle(self) -> None:
        """Ask for the events that the present buffers call for."""
        if self.is_closed or self._worker is None:
            return
        wanted = 0 if self._to_worker or self._is_client_done else EPOLLIN
        if self._to_client:
            wanted |= EPOLLOUT
        self.listen(wanted)
        wanted = 0 if self._to_client else EPOLLIN
        if self._to_worker:
            wanted |= EPOLLOUT
        if wanted == self._worker_events:
            return
        # A worker's end is reported even to those who ask for nothing, over and over: so don't ask at all.
        if not wanted:
            self.front.epoll.unregister(self._worker)
        elif not self._worker_events:
            self.front.epoll.register(self._worker, wanted)
        else:
            self.front.epoll.modify(self._worker, wanted)
        self._worker_events = wanted
