"""What a put is given, cut into pieces and compared with what was announced."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Final

from vclone_core import errors

HASHED_INLINE_BYTES: Final = 64 * 1024


async def cut(
    body: bytes | Path | AsyncIterator[bytes], piece_bytes: int, *, size: int, sha256: str | None
) -> AsyncGenerator[bytes]:
    """Yield `body` in pieces of exactly `piece_bytes`, the last one shorter; at least one, even if empty.

    The last piece comes only when the size and the hash of the whole are right; otherwise `Invalid` is raised.
    """
    digest = hashlib.sha256() if sha256 is not None else None
    seen = 0
    held = b""
    async for piece in _pieces(body, piece_bytes):
        seen += len(piece)
        if seen > size:
            raise errors.Invalid(what=f"the object has more than the {size} bytes announced")
        if digest is not None:
            if len(piece) > HASHED_INLINE_BYTES:
                await asyncio.to_thread(digest.update, piece)
            else:
                digest.update(piece)
        if len(piece) == piece_bytes and seen < size:
            yield piece
        else:
            held = piece
    if seen != size:
        raise errors.Invalid(what=f"the object has {seen} bytes, not the {size} announced")
    if digest is not None and digest.hexdigest() != sha256:
        raise errors.Invalid(what="the object's bytes do not have the SHA-256 that was announced")
    yield held


async def _pieces(body: bytes | Path | AsyncIterator[bytes], piece_bytes: int) -> AsyncGenerator[bytes]:
    if isinstance(body, bytes):
        for start in range(0, len(body), piece_bytes):
            yield body[start : start + piece_bytes]
    elif isinstance(body, Path):
        start = 0
        while piece := await asyncio.to_thread(_read_source, body, start, piece_bytes):
            start += len(piece)
            yield piece
    else:
        buffer = bytearray()
        async for chunk in body:
            buffer += chunk
            while len(buffer) >= piece_bytes:
                yield bytes(memoryview(buffer)[:piece_bytes])
                del buffer[:piece_bytes]
        if buffer:
            yield bytes(buffer)


def _read_source(path: Path, start: int, size: int) -> bytes:
    try:
        with path.open("rb") as source:
            source.seek(start)
            return source.read(size)
    except OSError as error:
        raise errors.Invalid(what=f"{path.name} can't be read ({error.strerror})") from error
