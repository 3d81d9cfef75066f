from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.models import Span
from vclone_core.rules.ranges import format_content_range, parse_range


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, "whole"),
        (b"bytes=0-0", Span(0, 0)),
        (b"bytes=0-9", Span(0, 9)),
        (b"bytes=0-99", Span(0, 9)),
        (b"bytes=3-", Span(3, 9)),
        (b"bytes=-3", Span(7, 9)),
        (b"bytes=-99", Span(0, 9)),
        (b"Bytes=1-2", Span(1, 2)),
        (b"bytes= 1-2", Span(1, 2)),
        (b"bytes=1-2,", Span(1, 2)),
        (b"bytes=0-99999999999999999999", Span(0, 9)),
        (b"bytes=10-", "unsatisfiable"),
        (b"bytes=10-20", "unsatisfiable"),
        (b"bytes=-0", "unsatisfiable"),
        (b"bytes=0-1,3-4", "whole"),
        (b"bytes=5-3", "whole"),
        (b"bytes=a-b", "whole"),
        (b"bytes=-", "whole"),
        (b"bytes=", "whole"),
        (b"bytes", "whole"),
        (b"items=0-1", "whole"),
        (b"bytes=+1-2", "whole"),
        (b"bytes=\xb2-3", "whole"),
    ],
)
@pytest.mark.product("B6.4", "B6.5")
def test_range_of_ten_bytes(header: bytes | None, span: object) -> None:
    assert parse_range(header, 10) == span


def test_empty_file_has_no_range() -> None:
    assert parse_range(b"bytes=0-", 0) == "unsatisfiable"
    assert parse_range(b"bytes=-1", 0) == "unsatisfiable"


@given(st.binary(max_size=40) | st.from_regex(rb"bytes=[0-9]{0,4}-[0-9]{0,4}", fullmatch=True), st.integers(0, 2000))
def test_any_header_stays_inside_the_file(header: bytes, size: int) -> None:
    span = parse_range(header, size)
    if isinstance(span, Span):
        assert 0 <= span.start <= span.end < size
        assert format_content_range(span, size) == b"bytes %d-%d/%d" % (span.start, span.end, size)
    else:
        assert span in {"whole", "unsatisfiable"}
