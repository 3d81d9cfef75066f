"""QUIC by aioquic, and what an edge needs of it: certificates by server name, windows that grow with what was read.

Both reach into classes that promise nothing, so the edge refuses any other version.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from importlib.metadata import version
from typing import Any, Final

import pylsqpack
from aioquic.buffer import Buffer, encode_uint_var  # type: ignore[attr-defined]
from aioquic.h3.connection import H3_ALPN, FrameType, H3Connection, Setting, encode_frame
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.tls import pull_client_hello
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from vclone_core.errors import BadSettings
from vclone_edge.tls import Certificate
from vclone_edge.workers import CONNECTION_WINDOW_BYTES, HEADER_BYTES, STREAMS

TESTED: Final = "1.7.2"
STREAM_WINDOW_BYTES: Final = 256 * 1024
_UNIDIRECTIONAL: Final = 16

FindCertificate = Callable[[str | None], Certificate]


def check_version() -> None:
    """Raise `BadSettings` unless aioquic is the version that our changes to it were written for."""
    found = version("aioquic")
    if found != TESTED:
        raise BadSettings(problems=f"VCLONE_EDGE_HTTP3: aioquic {found} is installed; the edge needs {TESTED}.")


@lru_cache(maxsize=1024)
def _load(chain: bytes, key: bytes) -> tuple[list[x509.Certificate], Any]:
    return x509.load_pem_x509_certificates(chain), load_pem_private_key(key, None)


def make_configuration(fallback: Certificate, *, idle_s: float) -> QuicConfiguration:
    """Return what every connection begins with. `fallback` stands in until the client has named a server."""
    certificates, key = _load(fallback.chain, fallback.key)
    return QuicConfiguration(
        is_client=False,
        alpn_protocols=H3_ALPN,
        idle_timeout=idle_s,
        max_data=CONNECTION_WINDOW_BYTES,
        max_stream_data=STREAM_WINDOW_BYTES,
        certificate=certificates[0],
        certificate_chain=certificates[1:],
        private_key=key,
    )


class EdgeQuic(QuicConnection):
    """One QUIC connection. `identity` is its certificate's, "" where the client named no server that there is one for.

    aioquic doubles a window when half of it has come, read or not. Here `consumed` bytes free as many: what is unread
    never exceeds a window. `unread` has, by stream, what lies with an app that hasn't asked for it.
    """

    def __init__(self, *, find_certificate: FindCertificate, **options: Any) -> None:
        super().__init__(**options)
        self.identity = ""
        self.consumed = 0
        self.unread: dict[int, int] = {}
        self._find_certificate = find_certificate
        for limit, count in ((self._local_max_streams_bidi, STREAMS), (self._local_max_streams_uni, _UNIDIRECTIONAL)):
            limit.value = limit.sent = count

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        # The one place where the server's name is known and its certificate isn't chosen yet.
        self.tls._server_handle_hello = partial(  # type: ignore[method-assign]
            self._on_hello, self.tls._server_handle_hello
        )

    def _on_hello(self, go_on: Callable[..., None], hello: Buffer, *outputs: Buffer) -> None:
        start = hello.tell()
        found = self._find_certificate(pull_client_hello(hello).server_name)
        hello.seek(start)
        certificates, key = _load(found.chain, found.key)
        self.tls.certificate, self.tls.certificate_chain = certificates[0], certificates[1:]
        self.tls.certificate_private_key = key
        self.identity = found.identity
        go_on(hello, *outputs)

    def _write_connection_limits(self, builder: Any, space: Any) -> None:
        limit = self._local_max_data
        if self.consumed + CONNECTION_WINDOW_BYTES - limit.value >= CONNECTION_WINDOW_BYTES // 4:
            limit.value = self.consumed + CONNECTION_WINDOW_BYTES
        # Unused, it isn't doubled.
        used, limit.used = limit.used, 0
        try:
            super()._write_connection_limits(builder=builder, space=space)
        finally:
            limit.used = used

    def _write_stream_limits(self, builder: Any, space: Any, stream: Any) -> None:
        receiver = stream.receiver
        if stream.max_stream_data_local:
            read = receiver.starting_offset() - self.unread.get(stream.stream_id, 0)
            if read + STREAM_WINDOW_BYTES - stream.max_stream_data_local >= STREAM_WINDOW_BYTES // 4:
                stream.max_stream_data_local = read + STREAM_WINDOW_BYTES
        seen, receiver.highest_offset = receiver.highest_offset, 0
        try:
            super()._write_stream_limits(builder=builder, space=space, stream=stream)
        finally:
            receiver.highest_offset = seen

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """End a stream, and let go of what waits on it: aioquic keeps that until the client has confirmed."""
        super().reset_stream(stream_id, error_code)
        stream = self._streams.get(stream_id)
        if stream is not None and stream.sender._reset_error_code is not None:
            stream.sender._buffer.clear()

    def never_delivered(self, stream_id: int) -> int:
        """Return how many bytes of a stream that was reset count as received, and were never handed on."""
        stream = self._streams.get(stream_id)
        return stream.receiver.highest_offset - stream.receiver.starting_offset() if stream is not None else 0

    def held(self, stream_id: int) -> int:
        """Return how many bytes of a stream aren't acknowledged yet, sent or not."""
        stream = self._streams.get(stream_id)
        return len(stream.sender._buffer) if stream is not None else 0

    def held_in_all(self) -> int:
        """Return the same for all streams together."""
        return sum(len(stream.sender._buffer) for stream in self._streams.values())

    def unread_in_all(self) -> int:
        """Return how many bytes have come and aren't read, in their order or out of it."""
        return max(0, self._local_max_data.used - self.consumed)

    def stop(self, stream_id: int, code: int) -> None:
        """Have the client send no more on a stream, if it still could."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.receiver.is_finished:
            self.stop_stream(stream_id, code)


class EdgeH3(H3Connection):
    """HTTP/3 on one connection. Its QPACK has no dynamic table: a few bytes can't stand for megabytes of fields."""

    def _init_connection(self) -> None:
        self._max_table_capacity = self._blocked_streams = 0
        self._decoder = pylsqpack.Decoder(0, 0)
        super()._init_connection()

    def _get_local_settings(self) -> dict[int, int]:
        settings = super()._get_local_settings()
        # There is nothing behind the edge that an extended CONNECT could reach.
        settings.pop(Setting.ENABLE_CONNECT_PROTOCOL, None)
        return {**settings, Setting.MAX_FIELD_SECTION_SIZE: HEADER_BYTES}

    def buffered(self, stream_id: int) -> int:
        """Return how many bytes of a frame that isn't whole lie here, or are announced."""
        stream = self._stream.get(stream_id)
        if stream is None:
            return 0
        is_kept_whole = stream.frame_type == FrameType.HEADERS or stream_id % 4 != 0
        return max(len(stream.buffer), (stream.frame_size or 0) if is_kept_whole else 0)

    def only_open(self, numbers: set[int]) -> set[int]:
        """Return those of these streams that haven't ended in both directions."""
        return numbers & self._stream.keys()

    def say_goodbye(self, next_stream_id: int) -> None:
        """Tell the client that streams from this one on won't be answered (RFC 9114 §5.2)."""
        assert self._local_control_stream_id is not None
        frame = encode_frame(FrameType.GOAWAY, encode_uint_var(next_stream_id))
        self._quic.send_stream_data(self._local_control_stream_id, frame)
