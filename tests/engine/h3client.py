"""An HTTP/3 client made with aioquic, which can also misbehave."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection, H3Stream
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamReset
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Fields = Iterable[tuple[str, str]]


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    reset: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class ClientH3(H3Connection):
    """aioquic doesn't know which answers have no body although they say how long it would be."""

    def __init__(self, quic: QuicConnection) -> None:
        super().__init__(quic)
        self.heads: set[int] = set()

    def _check_content_length(self, stream: H3Stream) -> None:
        if stream.stream_id not in self.heads:
            super()._check_content_length(stream)


class Http3Client(QuicConnectionProtocol):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.http = ClientH3(self._quic)
        self.answers: dict[int, Answer] = {}
        self.closed: ConnectionTerminated | None = None
        self.goaway = asyncio.Event()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            self.closed = event
            for answer in self.answers.values():
                answer.ended.set()
        elif isinstance(event, StreamReset) and event.stream_id in self.answers:
            self.answers[event.stream_id].reset = event.error_code
            self.answers[event.stream_id].ended.set()
        for news in self.http.handle_event(event):
            if isinstance(news, HeadersReceived):
                answer = self.answers[news.stream_id]
                answer.headers = {name.decode(): value.decode() for name, value in news.headers}
                answer.status = int(answer.headers[":status"])
            elif isinstance(news, DataReceived):
                self.answers[news.stream_id].body += news.data
            if isinstance(news, HeadersReceived | DataReceived) and news.stream_ended:
                self.answers[news.stream_id].ended.set()

    def start(self, host: str, path: str, *, method: str = "GET", extra: Fields = (), end: bool = True) -> int:
        number = self._quic.get_next_available_stream_id()
        self.answers[number] = Answer()
        if method == "HEAD":
            self.http.heads.add(number)
        fields = [(":method", method), (":scheme", "https"), (":authority", host), (":path", path), *extra]
        self.http.send_headers(number, [(name.encode(), value.encode()) for name, value in fields], end_stream=end)
        self.transmit()
        return number

    async def finish(self, number: int, timeout_s: float = 20) -> Answer:
        answer = self.answers[number]
        await asyncio.wait_for(answer.ended.wait(), timeout_s)
        return answer

    async def fetch(self, host: str, path: str, **options: Any) -> Answer:
        return await self.finish(self.start(host, path, **options))

    def stop_reading(self) -> None:
        """Grant the server no more than it may send already."""
        quic = cast(Any, self._quic)
        quic._write_connection_limits = quic._write_stream_limits = lambda **_facts: None

    def leave(self, number: int) -> None:
        """Give up a download."""
        self._quic.stop_stream(number, 0x10C)
        self.transmit()

    def leave_early(self, host: str, path: str) -> None:
        """Want no answer before the request is whole."""
        number = self._quic.get_next_available_stream_id()
        self._quic.send_stream_data(number, b"")
        self._quic.stop_stream(number, 0x10C)
        self.transmit()
        self.answers[number] = Answer()
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", path)]
        self.http.send_headers(number, [(name.encode(), value.encode()) for name, value in fields], end_stream=True)
        self.transmit()

    def begin_head(self) -> int:
        """Send the first bytes of a request's head, and no more."""
        number = self._quic.get_next_available_stream_id()
        self.answers[number] = Answer()
        self._quic.send_stream_data(number, b"\x01\x20\x00")
        self.transmit()
        return number

    def send_raw(self, data: bytes, *, one_way: bool) -> None:
        """Send this as a whole stream."""
        number = self._quic.get_next_available_stream_id(is_unidirectional=one_way)
        self.answers[number] = Answer()
        self._quic.send_stream_data(number, data, end_stream=True)
        self.transmit()

    @property
    def retries(self) -> int:
        """How often the server wanted the address shown first."""
        return self._quic._retry_count

    def leaf(self) -> list[str]:
        """The names in the certificate that was served."""
        certificate = self._quic.tls._peer_certificate
        assert certificate is not None
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.DNSName)

    def key_digest(self) -> str:
        """The certificate's public key as Chromium names it."""
        certificate = self._quic.tls._peer_certificate
        assert certificate is not None
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(hashlib.sha256(key).digest()).decode()


async def until(holds: Callable[[], bool], within_s: float = 20) -> None:
    """Return as soon as this holds; fail when it never does."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def open_http3(
    port: int, name: str, *, authority: str | None = None, **options: Any
) -> AsyncIterator[Http3Client]:
    """Connect to 127.0.0.1, asking for `name`; trust the PEM `authority`, or anybody without one."""
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, server_name=name, **options)
    if authority is None:
        configuration.verify_mode = ssl.CERT_NONE
    else:
        configuration.cadata = authority.encode()
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Http3Client) as client:
        yield cast(Http3Client, client)
