"""How blobs travel from a client to the API: frames in one body, read piece by piece (deploy flow, upload of a source).

A frame is 32 bytes of SHA-256, 8 bytes of big-endian size, then that many bytes. A body is any number of frames and
nothing else. The decoder checks sizes; who stores a frame's bytes checks their hash.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vclone_core.errors import Invalid, TooLarge

CONTENT_TYPE: Final = "application/vnd.vclone.blobs"
FRAME_LIMIT_BYTES: Final = 100 * 1024**2
_HEADER: Final = struct.Struct(">32sQ")
HEADER_BYTES: Final = _HEADER.size


@dataclass(frozen=True, slots=True)
class FrameStart:
    """A frame begins: `size` bytes follow, whose SHA-256 (hex) should be `sha256`."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class FramePiece:
    """Some of a frame's bytes, never none."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FrameEnd:
    """The frame that began last is complete."""


FrameEvent = FrameStart | FramePiece | FrameEnd


def encode_header(sha256: str, size: int) -> bytes:
    """Return the 40 bytes that go before a blob's bytes. `sha256` is 64 hexadecimal digits."""
    return _HEADER.pack(bytes.fromhex(sha256), size)


def encode_frame(data: bytes) -> bytes:
    """Return one whole frame for `data`; for large files send `encode_header` and then the file."""
    return _HEADER.pack(hashlib.sha256(data).digest(), len(data)) + data


class FrameDecoder:
    """Turns a body, in pieces of any size, into frame events. Holds at most one header, never a frame's bytes."""

    def __init__(self, *, limit_bytes: int = FRAME_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._header = b""
        self._left: int | None = None  # bytes of the current frame still to come; None between frames

    def feed(self, data: bytes) -> Iterator[FrameEvent]:
        """Yield what `data` adds. Raises `TooLarge` at the header of a frame over the limit; use no more after that."""
        at = 0
        while at < len(data):
            if self._left is None:
                taken = data[at : at + HEADER_BYTES - len(self._header)]
                self._header += taken
                at += len(taken)
                if len(self._header) < HEADER_BYTES:
                    return
                digest, size = _HEADER.unpack(self._header)
                if size > self._limit_bytes:
                    raise TooLarge(what=f"The file {digest.hex()[:12]}…", limit=f"{self._limit_bytes} bytes")
                self._header, self._left = b"", size
                yield FrameStart(digest.hex(), size)
            else:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                yield FramePiece(piece)
            if self._left == 0:
                self._left = None
                yield FrameEnd()

    def finish(self) -> None:
        """Say that the body has ended; raises `Invalid` when that is in the middle of a frame."""
        if self._left is not None:
            raise Invalid(what=f"the body ends {self._left} bytes before the end of a file")
        if self._header:
            raise Invalid(what=f"the body ends {HEADER_BYTES - len(self._header)} bytes before the end of a header")
