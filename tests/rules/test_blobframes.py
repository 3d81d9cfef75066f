"""The upload framing: whatever way the bytes are cut, the same frames come out."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import Invalid, TooLarge
from vclone_core.rules.blobframes import (
    HEADER_BYTES,
    FrameDecoder,
    FrameEnd,
    FramePiece,
    FrameStart,
    encode_frame,
    encode_header,
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def collect(decoder: FrameDecoder, chunks: list[bytes]) -> list[tuple[str, int, bytes]]:
    """Read frames, checking the order of events on the way."""
    frames: list[tuple[str, int, bytes]] = []
    start: FrameStart | None = None
    held = b""
    for chunk in chunks:
        for event in decoder.feed(chunk):
            match event:
                case FrameStart():
                    assert start is None
                    start, held = event, b""
                case FramePiece(data):
                    assert start is not None and data
                    held += data
                case FrameEnd():
                    assert start is not None
                    frames.append((start.sha256, start.size, held))
                    start = None
    return frames


@given(st.lists(st.binary(max_size=200), max_size=6), st.lists(st.integers(min_value=0), max_size=12))
def test_any_cutting_gives_the_same_frames(blobs: list[bytes], places: list[int]) -> None:
    body = b"".join(encode_frame(blob) for blob in blobs)
    decoder = FrameDecoder()
    assert collect(decoder, cut(body, places)) == [(hashlib.sha256(b).hexdigest(), len(b), b) for b in blobs]
    decoder.finish()


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=3), st.data())
def test_a_body_cut_short_is_an_error_unless_cut_between_frames(blobs: list[bytes], data: st.DataObject) -> None:
    frames = [encode_frame(blob) for blob in blobs]
    body = b"".join(frames)
    whole_ends = {0} | {sum(map(len, frames[: n + 1])) for n in range(len(frames))}
    end = data.draw(st.integers(min_value=0, max_value=len(body)))
    decoder = FrameDecoder()
    collect(decoder, [body[:end]])
    if end in whole_ends:
        decoder.finish()
    else:
        with pytest.raises(Invalid, match="the body ends"):
            decoder.finish()


@given(st.binary(max_size=300), st.lists(st.integers(min_value=0), max_size=6))
def test_strangers_bytes_give_frames_or_our_errors(body: bytes, places: list[int]) -> None:
    decoder = FrameDecoder(limit_bytes=100)
    try:
        frames = collect(decoder, cut(body, places))
        decoder.finish()
    except (Invalid, TooLarge):
        return
    assert b"".join(bytes.fromhex(sha) + size.to_bytes(8, "big") + data for sha, size, data in frames) == body


def test_a_frame_over_the_limit_is_refused_at_its_header() -> None:
    sha256 = hashlib.sha256(b"x").hexdigest()
    assert list(FrameDecoder(limit_bytes=10).feed(encode_header(sha256, 10))) == [FrameStart(sha256, 10)]
    with pytest.raises(TooLarge, match="10 bytes"):
        list(FrameDecoder(limit_bytes=10).feed(encode_header(sha256, 11)))


def test_an_empty_file_is_a_frame() -> None:
    frame = encode_frame(b"")
    assert len(frame) == HEADER_BYTES
    assert list(FrameDecoder().feed(frame)) == [FrameStart(hashlib.sha256(b"").hexdigest(), 0), FrameEnd()]
