"""Safe log lines: what stays, what goes, and what no input can do."""

from __future__ import annotations

import itertools
import re
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.rules.logtext import CUT, LINE_BYTES, LineSplitter, clean_line

BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


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
        (b"tab\tkept\x00\x07", "tab\tkept"),
        (b"|\b/\b-\b\\\b \bdone", "done"),
        (b"\b\bab\x1b[31m\b\x1b[0mc", "a\x1b[31m\x1b[0mc"),
        (b"\xc2\x85a\xc2\x84b\xe2\x80\xa8c\xf3\xa0\x81\x81", "abc"),
        ("\u2066\u202bab\u061c\u2069".encode(), "ab"),
        (b"bad \xff utf-8", "bad � utf-8"),
        ("safe‮evil".encode(), "safeevil"),
        (b"\x1b[" + b"1;" * 100 + b"m", ""),
        (b"x" * LINE_BYTES, "x" * LINE_BYTES),
        (b"x" * (LINE_BYTES + 5), "x" * (LINE_BYTES - len(CUT.encode()) - 4) + CUT),
    ],
)
def test_clean_line(data: bytes, text: str) -> None:
    assert clean_line(data) == text


PARTS = [
    b"\x1b[",
    b"\x1b]8;;",
    b"\x07",
    b"\x1b\\",
    b"31m",
    b"m",
    b";",
    b"\b",
    b"\r",
    b"\xc2\x9b",
    b"\xe2\x80\xae",
    b"x",
    b"\xff",
]


@given(st.one_of(st.binary(max_size=400), st.lists(st.sampled_from(PARTS), max_size=80).map(b"".join)), st.booleans())
def test_no_bytes_make_a_control_character(data: bytes, is_long: bool) -> None:
    text = clean_line(data + b"\xffx\x1b[1m" * 3000 if is_long else data)
    rest = re.sub(r"\x1b\[[0-9;:]*m", "", text).replace("\t", "")
    assert all(unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp") for letter in rest)
    assert all(unicodedata.bidirectional(letter) not in BIDI for letter in rest)
    assert len(text.encode()) <= LINE_BYTES


def test_work_for_a_line_grows_with_its_length_alone() -> None:
    started = time.process_time()
    for _ in range(20):
        clean_line(b"\x1b[1m" * 2000 + b"\b" * 8000)
        clean_line(b"\x1b[" * 8000)
        clean_line(b"\x1b[1m" * 4000)
    assert time.process_time() - started < 2


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
