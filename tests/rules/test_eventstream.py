from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import Invalid
from vclone_core.rules.eventstream import EVENT_LIMIT, Event, EventParser

STREAM = (
    b'\xef\xbb\xbf: hi\n\nevent: hello\ndata: {"version": 1}\n\n'
    b"id: 7\r\nevent: move\r\ndata:a\r\ndata: b\r\n\r\ndata\n\n"
)


def test_stream_is_read_as_the_standard_says() -> None:
    assert EventParser().feed(STREAM) == [
        Event("hello", '{"version": 1}', ""),
        Event("move", "a\nb", "7"),
        Event("message", "", "7"),
    ]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_cuts_make_no_difference(cuts: list[int]) -> None:
    parser = EventParser()
    places = [0, *sorted(cuts), len(STREAM)]
    events = [event for start, end in itertools.pairwise(places) for event in parser.feed(STREAM[start:end])]
    assert events == EventParser().feed(STREAM)


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_any_bytes_give_events(pieces: list[bytes]) -> None:
    parser = EventParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    # What is still held may be completed by a line end; nothing else differs from reading it all at once.
    assert [*events, *parser.feed(b"\n\n")] == EventParser().feed(b"".join(pieces) + b"\n\n")


def test_endless_event_is_refused() -> None:
    parser = EventParser()
    with pytest.raises(Invalid):
        for _ in range(20):
            parser.feed(b"data: " + b"x" * (EVENT_LIMIT // 16) + b"\n")
