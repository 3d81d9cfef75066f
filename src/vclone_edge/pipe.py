"""One client connection and its connection to a worker, and the bytes between them.

A pipe goes through the stages below in order and may end at any of them. Bytes are read into one buffer that all
pipes share and written on at once; only what the other side doesn't take is kept, and then that direction isn't read
until it is gone. So a pipe holds at most one buffer per direction, and a slow reader slows its own writer only.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from enum import IntEnum
from pathlib import Path
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import TYPE_CHECKING

from vclone_edge.h2watch import FrameWatch
from vclone_edge.opening import ANSWERS, NO_WORKER, Opening, judge_opening
from vclone_edge.peers import socket_name

if TYPE_CHECKING:
    from vclone_edge.front import Front

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_NOTHING = memoryview(b"")


class Stage(IntEnum):
    """How far a connection has come."""

    HANDSHAKE = 0
    HEAD = 1
    WAITING = 2
    OPEN = 3
    LINGER = 4
    CLOSED = 5


class Pipe:
    """Owned by one front; every method runs on its thread and returns without waiting."""

    __slots__ = (
        "_active_at",
        "_address",
        "_alpn",
        "_awaits_worker",
        "_client",
        "_client_events",
        "_deadline",
        "_front",
        "_has_answered",
        "_head",
        "_is_client_done",
        "_is_tls",
        "_is_worker_deaf",
        "_opened_at",
        "_port",
        "_retries",
        "_slot",
        "_stalled_at",
        "_stalled_bytes",
        "_to_client",
        "_to_worker",
        "_watch",
        "_worker",
        "_worker_events",
        "_worker_index",
        "stage",
    )

    def __init__(self, front: Front, client: socket.socket, *, address: str, port: int, slot: int) -> None:
        self._front = front
        self._client = client
        self._address = address
        self._port = port
        self._slot = slot
        self._is_tls = isinstance(client, ssl.SSLSocket)
        self._alpn: str | None = None
        self._opened_at = self._active_at = front.now
        self._worker: socket.socket | None = None
        self._worker_index = -1
        self._head = bytearray()
        self._to_client = self._to_worker = _NOTHING
        self._client_events = EPOLLIN
        self._worker_events = 0
        self._stalled_at = 0.0
        self._stalled_bytes = 0
        self._awaits_worker = self._has_answered = self._is_client_done = self._is_worker_deaf = False
        self._retries = 0
        self._watch: FrameWatch | None = None
        if self._is_tls:
            self.stage = Stage.HANDSHAKE
            self._deadline = front.now + front.limits.handshake_s
            front.attach(client, EPOLLIN, self._on_handshake)
        else:
            self.stage = Stage.HEAD
            self._deadline = front.now + front.limits.header_s
            front.attach(client, EPOLLIN, self._on_head)

    @property
    def is_silent(self) -> bool:
        """Whether the client has not sent a byte of a request yet."""
        return not self._head

    # Opening

    def _on_handshake(self, _events: int) -> None:
        client = self._client
        assert isinstance(client, ssl.SSLSocket)
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            self._listen_client(EPOLLIN)
        except ssl.SSLWantWriteError:
            self._listen_client(EPOLLOUT)
        except (OSError, ValueError):
            self.close()
        else:
            self._alpn = client.selected_alpn_protocol()
            self.stage = Stage.HEAD
            self._deadline = self._front.now + self._front.limits.header_s
            self._front.handlers[client.fileno()] = self._on_head
            self._listen_client(EPOLLIN)

    def _on_head(self, _events: int) -> None:
        size = self._receive()
        if size is None:
            return
        if not size:
            self.close()
            return
        head = self._head
        head += self._front.view[:size]
        opening = judge_opening(head, alpn=self._alpn, is_h2_allowed=self._front.limits.is_h2_allowed)
        if opening is Opening.INCOMPLETE:
            return
        if opening is Opening.HTTP2:
            self._watch = FrameWatch(self._front.limits.frames, now=self._front.now)
            if why := self._watch.feed(head, self._front.now):
                self.abort(why)
                return
            self._watch.moved = False
        elif opening is not Opening.HTTP1:
            self._refuse(opening.value, ANSWERS[opening])
            return
        self.find_worker()

    def find_worker(self) -> None:
        """Connect to the least busy worker and send on what has come in; without one, wait to be asked again."""
        front = self._front
        name = f"{front.folder}/{socket_name(self._address, self._port, is_tls=self._is_tls)}"
        for index, path in front.workers_by_load():
            try:
                worker = _connect(name, path)
            except OSError:
                continue
            self._worker = worker
            self._worker_index = index
            front.load[index] += 1
            self._worker_events = EPOLLIN
            front.attach(worker, EPOLLIN, self._on_worker)
            front.handlers[self._client.fileno()] = self._on_client
            self.stage = Stage.OPEN
            self._active_at = front.now
            self._awaits_worker = True
            self._send_worker(memoryview(bytes(self._head)))
            self._settle()
            return
        if self.stage != Stage.WAITING:
            self.stage = Stage.WAITING
            self._deadline = front.now + front.limits.worker_s
            # Only an end of the connection is news now.
            front.handlers[self._client.fileno()] = self._on_loss
            self._listen_client(0)
        front.wait_for_worker(self)

    def _on_loss(self, _events: int) -> None:
        self.abort("")

    # Open

    def _on_client(self, events: int) -> None:
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

    def _read_client(self) -> None:
        size = self._receive()
        if size is None:
            return
        if not size:
            self._is_client_done = True
            self._end_worker_input()
            self._settle()
            return
        front = self._front
        data = front.view[:size]
        watch = self._watch
        if watch is None:
            self._active_at = front.now
            self._awaits_worker = True
        else:
            if why := watch.feed(data, front.now):
                self.abort(why)
                return
            if watch.moved:
                watch.moved = False
                self._active_at = front.now
                self._awaits_worker = True
        if not self._has_answered:
            # The first request goes on coming: it can't be sent to another worker any more.
            self._retries = front.limits.retries
        self._send_worker(data)
        if self._to_worker:
            self._settle()

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

    def _read_worker(self) -> None:
        front = self._front
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
        if watch is None:
            self._active_at = front.now
            self._awaits_worker = False
        elif size > watch.answers_due:
            watch.answers_due = 0
            self._active_at = front.now
            self._awaits_worker = False
        else:
            watch.answers_due -= size
        if not self._has_answered:
            self._has_answered = True
            self._head.clear()
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
        client = self._client
        sent = 0
        try:
            sent = client.send(data)
            if self._is_tls:
                # One call writes one record.
                while sent < len(data):
                    sent += client.send(data[sent:])
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

    def _on_worker_end(self) -> None:
        self._drop_worker()
        front = self._front
        if (
            not self._has_answered
            and self._retries < front.limits.retries
            and not self._is_client_done
            and self._head.startswith((b"GET ", b"HEAD "))
        ):
            # It died before it said a word about a request that changes nothing: nobody needs to know.
            self._retries += 1
            self._is_worker_deaf = False
            self._to_worker = _NOTHING
            self.find_worker()
            return
        self._linger()

    # Ending

    def _refuse(self, why: str, answer: bytes) -> None:
        self._front.count_refusal(why)
        if self._alpn != "h2":
            with contextlib.suppress(OSError):
                self._client.send(answer)
        self._linger()

    def _linger(self) -> None:
        """Say goodbye and let the client have its last bytes: closing over unread input would reset them away."""
        if self._is_client_done:
            self.close()
            return
        try:
            if isinstance(self._client, ssl.SSLSocket):
                with contextlib.suppress(ssl.SSLError):
                    self._client.unwrap()
            socket.socket.shutdown(self._client, socket.SHUT_WR)
        except (OSError, ValueError):
            self.close()
            return
        self.stage = Stage.LINGER
        self._deadline = self._front.now + self._front.limits.linger_s
        self._front.handlers[self._client.fileno()] = self._on_linger
        self._listen_client(EPOLLIN)

    def _on_linger(self, _events: int) -> None:
        try:
            size = socket.socket.recv_into(self._client, self._front.buffer)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self.close()

    def abort(self, why: str) -> None:
        """End at once, and throw away what the kernel still holds for the client."""
        if why:
            self._front.count_refusal(why)
        with contextlib.suppress(OSError):
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.close()

    def close(self) -> None:
        """End; the worker sees its client go."""
        if self.stage == Stage.CLOSED:
            return
        self.stage = Stage.CLOSED
        self._drop_worker()
        self._front.detach(self._client)
        self._front.forget(self, self._slot)

    def _drop_worker(self) -> None:
        if self._worker is None:
            return
        self._front.load[self._worker_index] -= 1
        if not self._worker_events:
            self._front.bury(self._worker)
        else:
            self._front.detach(self._worker)
        self._worker = None
        self._worker_events = 0

    def overdue(self, now: float) -> str | None:
        """Return which limit this connection has broken, if any; asked about once a second."""
        limits = self._front.limits
        if self.stage != Stage.OPEN:
            return self.stage.name.lower() if now >= self._deadline else None
        if self._to_client:
            if now - self._stalled_at < limits.stall_s:
                return None
            if self._stalled_bytes < limits.least_bytes_per_s * limits.stall_s:
                return "stalled"
            self._stalled_at = now
            self._stalled_bytes = 0
            return None
        if self._watch is not None and not self._watch.requests and now - self._opened_at >= limits.header_s:
            return "no_request"
        allowed = limits.answer_s if self._awaits_worker else self._front.idle_s
        return "idle" if now - self._active_at >= allowed else None

    def expire(self, why: str) -> None:
        """End for having broken a limit, with an answer where one would still be understood."""
        if self.stage == Stage.HEAD and self._head and self._alpn != "h2":
            self._refuse(why, ANSWERS[Opening.INCOMPLETE])
        elif self.stage == Stage.WAITING and self._watch is None:
            self._refuse(why, NO_WORKER)
        elif why == "idle" and not self._awaits_worker:
            self._drop_worker()
            self._linger()
        elif self.stage == Stage.LINGER or (self.stage == Stage.HEAD and not self._head):
            self.close()
        else:
            self.abort(why)

    # Readiness

    def _receive(self) -> int | None:
        """Read from the client into the shared buffer; None: nothing now, or the pipe has just ended."""
        try:
            return self._client.recv_into(self._front.buffer)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError:
            # Also a TLS peer that wants us to write in order to be read: nobody honest does.
            self.abort("")
            return None

    def _settle(self) -> None:
        """Ask for the events that the present buffers call for."""
        if self.stage != Stage.OPEN:
            return
        wanted = 0 if self._to_worker or self._is_client_done else EPOLLIN
        if self._to_client:
            wanted |= EPOLLOUT
        self._listen_client(wanted)
        assert self._worker is not None
        wanted = 0 if self._to_client else EPOLLIN
        if self._to_worker:
            wanted |= EPOLLOUT
        if wanted == self._worker_events:
            return
        # A worker's end is reported even to those who ask for nothing, over and over: so don't ask at all.
        if not wanted:
            self._front.epoll.unregister(self._worker)
        elif not self._worker_events:
            self._front.epoll.register(self._worker, wanted)
        else:
            self._front.epoll.modify(self._worker, wanted)
        self._worker_events = wanted

    def _listen_client(self, wanted: int) -> None:
        if wanted != self._client_events:
            self._front.epoll.modify(self._client, wanted)
            self._client_events = wanted


def _connect(name: str, path: str) -> socket.socket:
    """Return a connection to a worker's socket, made from a socket called `name`. Raises OSError if it takes none."""
    worker = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        try:
            worker.bind(name)
            # On a Unix socket this is done at once or not at all.
            worker.connect(path)
        finally:
            # The name stays with the connection; the file has done its work.
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
    except BaseException:
        worker.close()
        raise
    return worker
