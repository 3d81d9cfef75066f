"""Clients that can misbehave: HTTP/1.1 by hand, HTTP/2 by frames."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS = [(":method", "GET"), (":scheme", "http"), (":authority", "site.localhost")]


_open: list[socket.socket] = []
_Socket = TypeVar("_Socket", bound=socket.socket)


def _opened(sock: _Socket) -> _Socket:
    _open.append(sock)
    return sock


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def connect(port: int, *, source: str = "127.0.0.1", timeout_s: float = 10) -> socket.socket:
    return _opened(socket.create_connection(("127.0.0.1", port), timeout=timeout_s, source_address=(source, 0)))


def connect_tls(
    port: int,
    context: ssl.SSLContext,
    *,
    alpn: list[str],
    name: str = "site.localhost",
    source: str = "127.0.0.1",
) -> ssl.SSLSocket:
    return wrap(connect(port, source=source), context, alpn=alpn, name=name)


def wrap(
    sock: socket.socket, context: ssl.SSLContext, *, alpn: list[str], name: str = "site.localhost"
) -> ssl.SSLSocket:
    """Shake hands on a connection."""
    context.set_alpn_protocols(alpn)
    return _opened(context.wrap_socket(sock, server_hostname=name))


def close_all() -> None:
    """Close what a test has left open."""
    for sock in _open:
        sock.close()
    _open.clear()


def request(path: str, *, method: str = "GET", extra: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: site.localhost\r\n{extra}\r\n".encode()


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return an HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def read_answer(sock: socket.socket) -> Answer:
    """Read one answer with a Content-Length. Raises EOFError when it is cut short."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            raise EOFError("no whole head")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    size = int(headers.get("content-length", "0"))
    pieces = [body]
    have = len(body)
    while have < size:
        piece = sock.recv(1 << 20)
        if not piece:
            raise EOFError(f"{have} of {size}")
        pieces.append(piece)
        have += len(piece)
    return Answer(int(lines[0].split()[1]), headers, b"".join(pieces))


def get(port: int, path: str, *, source: str = "127.0.0.1") -> Answer:
    with connect(port, source=source) as sock:
        sock.sendall(request(path))
        return read_answer(sock)


def read_until_end(sock: socket.socket, timeout_s: float = 10) -> bytes:
    """Read until the other side ends, by FIN or RST. Raises TimeoutError."""
    sock.settimeout(timeout_s)
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except ConnectionError:
        pass
    return data


@dataclass
class Stream:
    status: int = 0
    body: bytearray = field(default_factory=bytearray)
    is_ended: bool = False
    reset: int | None = None


class H2Client:
    """One HTTP/2 connection, driven step by step. `window` is what the server may send per stream."""

    def __init__(self, sock: socket.socket, *, window: int = 1 << 20) -> None:
        self.sock = sock
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.connection.initiate_connection()
        self.connection.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.streams: dict[int, Stream] = {}
        self.goaway: int | None = None
        self.is_closed = False
        self._buffer = b""
        self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.connection.data_to_send())

    def start(self, path: str, *, method: str = "GET", end: bool = True) -> int:
        number = self.connection.get_next_available_stream_id()
        self.streams[number] = Stream()
        headers = [*HEADERS, (":path", path)]
        headers[0] = (":method", method)
        self.connection.send_headers(number, headers, end_stream=end)
        self.flush()
        return number

    def start_raw(self, fields: Iterable[tuple[str, str]]) -> int:
        """Send a whole request with these fields, right or wrong, as the connection's first."""
        self.streams[1] = Stream()
        # So that what is answered to it is understood.
        self.connection.send_headers(1, [*HEADERS, (":path", "/")], end_stream=True)
        self.connection.clear_outbound_data_buffer()
        block = hpack.Encoder().encode([(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields])
        pieces = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
        for place, piece in enumerate(pieces):
            last = 4 if place == len(pieces) - 1 else 0
            self.sock.sendall(frame(9, last, 1, piece) if place else frame(1, last | 1, 1, piece))
        return 1

    def pump(self, timeout_s: float, *, until: int | None = None, acknowledge: bool = True) -> None:
        """Take in what comes for a while; return early when stream `until` has ended or the connection has."""
        deadline = time.monotonic() + timeout_s
        while not self.is_closed:
            stream = self.streams.get(until) if until else None
            if stream is not None and (stream.is_ended or stream.reset is not None):
                return
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(1 << 20)
            except TimeoutError:
                return
            except (ConnectionError, ssl.SSLError):
                data = b""
            if not data:
                self.is_closed = True
                return
            for piece in self._frames(data):
                for event in self.connection.receive_data(piece):
                    self._take(event, acknowledge=acknowledge)
            try:
                self.flush()
            except OSError:
                self.is_closed = True

    def _frames(self, data: bytes) -> Iterator[bytes]:
        """Yield whole frames, all but GOAWAY: h2 takes no more after it, but open streams go on."""
        self._buffer += data
        while len(self._buffer) >= 9 and len(self._buffer) >= (size := 9 + int.from_bytes(self._buffer[:3], "big")):
            piece, self._buffer = self._buffer[:size], self._buffer[size:]
            if piece[3] == 7:
                self.goaway = int.from_bytes(piece[13:17], "big")
            else:
                yield piece

    def _take(self, event: h2.events.Event, *, acknowledge: bool) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            self.streams[event.stream_id].status = int(dict(event.headers)[":status"])
        elif isinstance(event, h2.events.DataReceived):
            self.streams[event.stream_id].body += event.data
            if acknowledge:
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.streams[event.stream_id].is_ended = True
        elif isinstance(event, h2.events.StreamReset):
            self.streams[event.stream_id].reset = int(event.error_code)

    def fetch(self, path: str, timeout_s: float = 10) -> Stream:
        number = self.start(path)
        self.pump(timeout_s, until=number)
        return self.streams[number]

    def close(self) -> None:
        self.sock.close()
