"""serverevents: any cut of a stream gives the same events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import TooLarge
from vclone_core.rules.serverevents import EventDecoder, ServerEvent

CASES = [
    ("one line", b"data: hi\n\n", [ServerEvent("message", "hi", "")]),
    ("named, with an id", b"id: 7\nevent: line\ndata: {}\n\n", [ServerEvent("line", "{}", "7")]),
    ("several data lines", b"data: a\ndata:b\n\n", [ServerEvent("message", "a\nb", "")]),
    ("a comment is no event", b": beat\n\ndata: x\n\n", [ServerEvent("message", "x", "")]),
    ("an id is kept for later events", b"id: 7\n\ndata: x\n\n", [ServerEvent("message", "x", "7")]),
    ("carriage returns", b"id: 1\r\ndata: a\r\n\r\ndata: b\r\r", [ServerEvent("message", t, "1") for t in "ab"]),
    ("an event without its end", b"data: a\n\ndata: b\n", [ServerEvent("message", "a", "")]),
    ("not UTF-8", b"data: \xff\n\n", [ServerEvent("message", "\N{REPLACEMENT CHARACTER}", "")]),
]


@pytest.mark.parametrize(("stream", "events"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_a_stream_gives_its_events_however_it_is_cut(stream: bytes, events: list[ServerEvent], piece: int) -> None:
    decoder = EventDecoder()
    pieces = [stream[at : at + piece] for at in range(0, len(stream), piece)]
    assert [event for part in pieces for event in decoder.feed(part)] == events


@given(st.lists(st.binary(max_size=40)))
def test_hostile_bytes_never_break_it_and_cuts_never_matter(pieces: list[bytes]) -> None:
    cut, whole = EventDecoder(), EventDecoder()
    assert [e for part in pieces for e in cut.feed(part)] == list(whole.feed(b"".join(pieces)))


def test_an_event_over_the_limit_is_refused_before_it_is_held() -> None:
    decoder = EventDecoder(limit_bytes=100)
    with pytest.raises(TooLarge):
        for _ in range(100):
            list(decoder.feed(b"data: 0123456789"))
    with pytest.raises(TooLarge):
        for _ in range(100):
            list(EventDecoder(limit_bytes=100).feed(b"data: 0123456789\n" * 100))
