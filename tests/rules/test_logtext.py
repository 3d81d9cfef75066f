"""Safe log lines: what stays, what goes, and what no input can do."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.rules.logtext import CUT, LINE_BYTES, LineSplitter, clean_line


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain", "plain"),
        ("größe ✓".encode(), "größe ✓"),
        (b"\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        (b"\x1b[38;5;196mred", "\x1b[38;5;196mred\x1b[0m"),
        (b"\x1b[1;31mred\x1b[m", "\x1b[1;31mred\x1b[m"),
        (b"a\x1b[2Kb\x1b[1;1Hc\x1b[?25l", "abc"),
        (b"a\x1b]0;title\x07b", "ab"),
        (b"a\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "alink"),
        (b"a\x1bPdevice\x1b\\b\x1b_apc\x1b\\c", "abc"),
        (b"a\x1b]52;c;c2VjcmV0", "a"),
        (b"a\x1bcb\x1b(0c", "abc"),
        (b"a\xc2\x9b2Jb\xc2\x9d0;t\x07c", "abc"),
        (b"10%\r50%\r100%", "100%"),
        (b"windows\r", "windows"),
        (b"tab\tkept\x00\x07\x08", "tab\tkept"),
        (b"bad \xff utf-8", "bad � utf-8"),
        ("safe‮evil".encode(), "safeevil"),
        (b"\x1b[" + b"1;" * 100 + b"m", ""),
        (b"x" * (LINE_BYTES + 5), "x" * LINE_BYTES + CUT),
    ],
)
def test_clean_line(data: bytes, text: str) -> None:
    assert clean_line(data) == text


@given(st.binary(max_size=400))
def test_no_bytes_make_a_control_character(data: bytes) -> None:
    text = clean_line(data)
    rest = text.replace("\x1b[", "").replace("\t", "")
    assert all(ord(letter) >= 0x20 and not 0x7F <= ord(letter) < 0xA0 for letter in rest)
    text.encode()


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_chunks_may_end_anywhere(data: bytes, cuts: list[int]) -> None:
    whole, parts = LineSplitter(), LineSplitter()
    lines = []
    edges = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        lines += parts.feed(data[start:end])
    assert lines + parts.finish() == whole.feed(data) + whole.finish()


def test_endless_line_is_not_kept_whole() -> None:
    splitter = LineSplitter()
    for _ in range(100):
        assert splitter.feed(b"x" * 100_000) == []
    assert len(splitter._rest) <= LINE_BYTES + 1
    (line,) = splitter.finish()
    assert line.endswith(CUT)
