"""Judges the first bytes of a connection: which protocol they speak, and whether they are one whole request head.

Pure. The front keeps a connection to itself until this says what it is, so that a client that dribbles, or speaks
something else, never costs a worker anything. Everything above bytes is checked behind, by the server and the app.
"""

from __future__ import annotations

from enum import Enum

from vclone_edge.h2watch import PREFACE

HEAD_BYTES = 32 * 1024
LINE_BYTES = 16 * 1024

_METHOD_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ-_")


class Opening(Enum):
    """What the first bytes are."""

    INCOMPLETE = "incomplete"
    HTTP1 = "http1"
    HTTP2 = "http2"
    HTTP2_REFUSED = "http2_refused"
    NOT_HTTP = "not_http"
    TOO_LARGE = "too_large"
    AMBIGUOUS = "ambiguous"


def judge_opening(data: bytes | bytearray, *, alpn: str | None, is_h2_allowed: bool) -> Opening:
    """Return what `data`, all that a client has sent so far, is.

    `alpn` is what a TLS handshake agreed on: `h2`, `http/1.1` or None. Without it HTTP/2 is prior knowledge, and needs
    `is_h2_allowed`. A head is whole at its empty line (RFC 9112 §2.1; a bare LF doesn't end a line here).
    """
    if not data:
        return Opening.INCOMPLETE
    if data[: len(PREFACE)] == PREFACE[: len(data)] and (len(data) > 3 or alpn == "h2"):
        if alpn == "http/1.1" or (alpn is None and not is_h2_allowed):
            return Opening.HTTP2_REFUSED
        return Opening.HTTP2 if len(data) >= len(PREFACE) else Opening.INCOMPLETE
    if alpn == "h2" or data[0] not in _METHOD_BYTES:
        return Opening.NOT_HTTP
    end = data.find(b"\r\n\r\n")
    if end >= 0:
        return Opening.TOO_LARGE if end > HEAD_BYTES else Opening.HTTP1
    if len(data) > HEAD_BYTES or (len(data) > LINE_BYTES and b"\n" not in data):
        return Opening.TOO_LARGE
    return Opening.INCOMPLETE


def _refusal(status: str, text: str) -> bytes:
    body = f"{text}\n".encode()
    return (
        f"HTTP/1.1 {status}\r\nserver: vclone\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(body)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
    ).encode() + body


# A server preface, then GOAWAY with HTTP_1_1_REQUIRED (RFC 9113 §7).
_GOAWAY_HTTP11 = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + bytes(7) + b"\x0d"

# What a client is told before the connection ends; nothing is said where nothing would be understood.
ANSWERS = {
    Opening.HTTP2_REFUSED: _GOAWAY_HTTP11,
    Opening.NOT_HTTP: _refusal("400 Bad Request", "This port speaks HTTP."),
    Opening.AMBIGUOUS: _refusal("400 Bad Request", "This request can be read in two ways."),
    Opening.TOO_LARGE: _refusal("431 Request Header Fields Too Large", "The request head is over 32 KiB."),
    Opening.INCOMPLETE: _refusal("408 Request Timeout", "The request did not arrive in time."),
}
# Ends of an HTTP/2 connection, by what `FrameWatch` says: GOAWAY with FRAME_SIZE_ERROR (RFC 9113 §4.2).
GOAWAYS = {"frame_too_large": b"\x00\x00\x08\x07" + bytes(12) + b"\x06"}
NO_WORKER = _refusal("503 Service Unavailable", "Try again shortly.").replace(
    b"connection: close", b"retry-after: 1\r\nconnection: close"
)
