"""A connection that has not got as far as a worker: handshake, first bytes, and the choice of a worker."""

from __future__ import annotations

import contextlib
import socket
import ssl
from enum import Enum
from pathlib import Path
from select import EPOLLIN, EPOLLOUT
from typing import TYPE_CHECKING, Final

from vclone_edge.connection import Client, Connection, say_goodbye
from vclone_edge.h1watch import RequestWatch
from vclone_edge.h2watch import FrameWatch
from vclone_edge.lane import may_ask
from vclone_edge.opening import ANSWERS, NO_WORKER, Opening, judge_opening
from vclone_edge.pipe import Pipe

if TYPE_CHECKING:
    from vclone_edge.front import Front


# How long a visitor who has not said anything yet is waited for when the front stops. Shorter than the time the
# workers are left alone for (supervise.py).
LAST_CALL_S: Final = 0.15


class _Stage(Enum):
    HANDSHAKE = "handshake"
    HEAD = "head"
    WAITING = "waiting"


class Arrival(Connection):
    """Ends, or becomes a `Visit` or a `Pipe`."""

    __slots__ = ("_deadline", "_head", "_requests", "_retries", "_stage", "_watch")

    def __init__(self, front: Front, client: Client, *, head: bytes = b"", retries: int = 0) -> None:
        """Begin with the client's first byte; or, with a `head` that a worker took to its grave, at the next worker."""
        super().__init__(front, client)
        self._head = bytearray(head)
        self._retries = retries
        self._watch: FrameWatch | None = None
        self._requests = RequestWatch()
        self._stage = _Stage.HANDSHAKE if client.is_tls else _Stage.HEAD
        self._deadline = front.now + (front.limits.handshake_s if client.is_tls else front.limits.header_s)

    def on_client(self, _events: int) -> None:
        if self._stage is _Stage.HEAD:
            self._read_head()
        elif self._stage is _Stage.HANDSHAKE:
            self._shake_hands()
        else:
            # Only its end is news while it waits for a worker.
            self.abort("")

    def _shake_hands(self) -> None:
        sock = self.client.sock
        assert isinstance(sock, ssl.SSLSocket)
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            self.listen(EPOLLIN)
        except ssl.SSLWantWriteError:
            self.listen(EPOLLOUT)
        except (OSError, ValueError):
            self.close()
        else:
            self.client.alpn = sock.selected_alpn_protocol()
            # Absent where the client named no server.
            self.client.certificate = getattr(sock, "certificate_identity", "")
            self._stage = _Stage.HEAD
            self._deadline = self.front.now + self.front.limits.header_s
            self.listen(EPOLLIN)

    def _read_head(self) -> None:
        size = self.receive()
        if size is None:
            return
        if not size:
            self.close()
            return
        front, head = self.front, self._head
        head += front.view[:size]
        opening = judge_opening(head, alpn=self.client.alpn, is_h2_allowed=front.limits.is_h2_allowed)
        if opening is Opening.INCOMPLETE:
            return
        if opening is Opening.HTTP2:
            self._watch = FrameWatch(front.limits.frames, now=front.now)
            if why := self._watch.feed(head, front.now):
                self.abort(why)
                return
            self._watch.moved = False
        elif opening is Opening.HTTP1 and self._requests.feed(head):
            self._refuse(Opening.AMBIGUOUS.value, ANSWERS[Opening.AMBIGUOUS])
            return
        elif opening is not Opening.HTTP1:
            self._refuse(opening.value, ANSWERS[opening])
            return
        elif may_ask(head) and front.pick_lane() is not None:
            front.visit(self, bytes(head))
            return
        self.find_worker()

    def go_on(self) -> None:
        """Take up the head that came with it: to a worker, unless it can be read in two ways."""
        if self._requests.feed(self._head):
            self._refuse(Opening.AMBIGUOUS.value, ANSWERS[Opening.AMBIGUOUS])
        else:
            self.find_worker()

    def find_worker(self) -> None:
        """Connect to the least busy worker and become a pipe; without one, wait to be asked again."""
        front = self.front
        name = f"{front.folder}/{self.client.name}"
        for index, path in front.workers_by_load():
            try:
                worker = _connect(name, path)
            except OSError:
                continue
            watch = self._watch if self._watch is not None else self._requests
            pipe = Pipe(front, self.client, worker, index=index, watch=watch, retries=self._retries)
            self.become(pipe)
            pipe.begin(bytes(self._head))
            return
        if self._stage is not _Stage.WAITING:
            self._stage = _Stage.WAITING
            self._deadline = front.now + front.limits.worker_s
            self.listen(0)
        front.wait_for_worker(self)

    def overdue(self, now: float) -> str | None:
        return self._stage.value if now >= self._deadline else None

    def expire(self, why: str) -> None:
        if self._stage is _Stage.HEAD and not self._head:
            self.close()
        elif self._stage is _Stage.HEAD:
            self._refuse(why, ANSWERS[Opening.INCOMPLETE])
        elif self._stage is _Stage.WAITING and self._watch is None:
            self._refuse(why, NO_WORKER)
        else:
            self.abort(why)

    def on_drain(self) -> None:
        # Who connected a moment ago is about to ask, and closing now would lose that request.
        if not self._head:
            self._deadline = min(self._deadline, self.front.now + LAST_CALL_S)

    def _refuse(self, why: str, answer: bytes) -> None:
        self.front.count_refusal(why)
        # Nothing is said where nothing would be understood.
        if self.client.alpn != "h2":
            with contextlib.suppress(OSError):
                self.client.sock.send(answer)
        say_goodbye(self)


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
