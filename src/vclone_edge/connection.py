"""What every connection of a front has: its client's socket, its place among the counted, and its end.

A connection is one of four things in turn, each its own class with this base: an `Arrival`, a `Visit`, a `Pipe`, a
`Goodbye`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from dataclasses import dataclass
from select import EPOLLIN
from typing import TYPE_CHECKING

from vclone_edge.peers import socket_name

if TYPE_CHECKING:
    from vclone_edge.front import Front

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Client:
    """Who is connected, from first to last. `slot` is its place in the gate, `events` what is asked of epoll."""

    sock: socket.socket
    address: str
    port: int
    slot: int
    opened_at: float
    is_tls: bool
    alpn: str | None = None
    certificate: str = ""
    events: int = EPOLLIN

    @property
    def name(self) -> str:
        """What connections to workers on its behalf are called."""
        return socket_name(self.address, self.port, is_tls=self.is_tls, certificate=self.certificate)


class Connection:
    """Owned by one front; every method runs on its thread and returns without waiting."""

    __slots__ = ("client", "front", "is_closed")

    def __init__(self, front: Front, client: Client) -> None:
        self.front = front
        self.client = client
        self.is_closed = False

    def on_client(self, events: int) -> None:
        """Take note of what epoll says of the client."""
        raise NotImplementedError

    def overdue(self, now: float) -> str | None:
        """Return which limit is broken, if any; asked about once a second."""
        raise NotImplementedError

    def expire(self, why: str) -> None:
        """End for having broken a limit."""
        raise NotImplementedError

    def on_drain(self) -> None:
        """The front is stopping: end if nothing would be lost."""

    def release(self) -> None:
        """Let go of what is held besides the client."""

    def listen(self, events: int) -> None:
        """Ask for these events of the client."""
        if events != self.client.events:
            self.front.epoll.modify(self.client.sock, events)
            self.client.events = events

    def receive(self) -> int | None:
        """Read from the client into the shared buffer; None: nothing now, or the connection has just ended."""
        try:
            return self.client.sock.recv_into(self.front.buffer)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError:
            # Also a TLS peer that wants us to write in order to be read: nobody honest does.
            self.abort("")
            return None

    def become(self, other: Connection) -> None:
        """Go on as `other`, with the same client."""
        self.is_closed = True
        self.front.replace(self, other)

    def abort(self, why: str) -> None:
        """End at once, and throw away what the kernel still holds for the client. An empty reason isn't counted."""
        if why:
            self.front.count_refusal(why)
        with contextlib.suppress(OSError):
            self.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.close()

    def close(self) -> None:
        """End; a worker sees its client go."""
        if self.is_closed:
            return
        self.is_closed = True
        self.release()
        self.front.detach(self.client.sock)
        self.front.forget(self)


class Goodbye(Connection):
    """Has said its last word and lets the client have it: closing over unread input would reset it away."""

    __slots__ = ("_deadline",)

    def __init__(self, front: Front, client: Client) -> None:
        super().__init__(front, client)
        self._deadline = front.now + front.limits.linger_s

    def begin(self) -> None:
        """End our direction."""
        sock = self.client.sock
        try:
            if isinstance(sock, ssl.SSLSocket):
                with contextlib.suppress(ssl.SSLError):
                    sock.unwrap()
            socket.socket.shutdown(sock, socket.SHUT_WR)
        except (OSError, ValueError):
            self.close()
            return
        self.listen(EPOLLIN)

    def on_client(self, _events: int) -> None:
        try:
            size = socket.socket.recv_into(self.client.sock, self.front.buffer)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self.close()

    def overdue(self, now: float) -> str | None:
        return "goodbye" if now >= self._deadline else None

    def expire(self, _why: str) -> None:
        self.close()


def say_goodbye(connection: Connection) -> None:
    """End a connection in peace."""
    goodbye = Goodbye(connection.front, connection.client)
    connection.become(goodbye)
    goodbye.begin()
