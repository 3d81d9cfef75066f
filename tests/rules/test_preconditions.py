from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.rules.preconditions import allows_range, check_preconditions, parse_date

ETAG = b'"abc"'
NOW = 784111777
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
LATER = b"Sun, 06 Nov 1994 08:49:38 GMT"
EARLIER = b"Sun, 06 Nov 1994 08:49:36 GMT"


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, None),
        ("GET", {b"if-none-match": b'"abc"'}, 304),
        ("HEAD", {b"if-none-match": b'"abc"'}, 304),
        ("POST", {b"if-none-match": b'"abc"'}, 412),
        ("GET", {b"if-none-match": b'W/"abc"'}, 304),
        ("GET", {b"if-none-match": b'"x", W/"abc"'}, 304),
        ("GET", {b"if-none-match": b"*"}, 304),
        ("GET", {b"if-none-match": b'"x"'}, None),
        ("GET", {b"if-none-match": b"abc"}, None),
        ("GET", {b"if-match": b'"abc"'}, None),
        ("GET", {b"if-match": b"*"}, None),
        ("GET", {b"if-match": b'W/"abc"'}, 412),
        ("GET", {b"if-match": b'"x"'}, 412),
        ("GET", {b"if-match": b'"x"', b"if-none-match": b'"abc"'}, 412),
        ("GET", {b"if-match": b'"abc"', b"if-none-match": b'"abc"'}, 304),
        ("GET", {b"if-unmodified-since": EARLIER}, 412),
        ("GET", {b"if-unmodified-since": DATE}, None),
        ("GET", {b"if-unmodified-since": EARLIER, b"if-match": b'"abc"'}, None),
        ("GET", {b"if-modified-since": DATE}, 304),
        ("GET", {b"if-modified-since": LATER}, 304),
        ("GET", {b"if-modified-since": EARLIER}, None),
        ("GET", {b"if-modified-since": DATE, b"if-none-match": b'"x"'}, None),
        ("POST", {b"if-modified-since": DATE}, None),
        ("GET", {b"if-modified-since": b"yesterday"}, None),
    ],
)
@pytest.mark.product("B6.2")
def test_conditions_are_taken_in_the_order_of_the_standard(
    method: str, headers: dict[bytes, bytes], status: int | None
) -> None:
    assert check_preconditions(method, headers, ETAG, modified_s=NOW) == status


def test_dates_are_ignored_where_no_date_is_known() -> None:
    assert check_preconditions("GET", {b"if-modified-since": LATER}, ETAG) is None
    assert check_preconditions("GET", {b"if-unmodified-since": EARLIER}, ETAG) is None


@pytest.mark.parametrize(
    ("header", "is_allowed"),
    [(None, True), (b'"abc"', True), (b'"x"', False), (b'W/"abc"', False), (DATE, True), (LATER, False), (b"", False)],
)
@pytest.mark.product("B6.4")
def test_if_range_asks_for_the_same_bytes(header: bytes | None, is_allowed: bool) -> None:
    assert allows_range(header, ETAG, modified_s=NOW) is is_allowed


@pytest.mark.parametrize("text", [DATE, b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"])
def test_three_forms_of_date_are_read(text: bytes) -> None:
    assert parse_date(text) == NOW


@given(st.integers(0, 2**32))
def test_date_written_is_read_back(unix_s: int) -> None:
    assert parse_date(formatdate(unix_s, usegmt=True).encode()) == unix_s


@given(st.binary(max_size=60), st.binary(max_size=40), st.binary(max_size=40))
def test_any_header_gives_a_status(tags: bytes, date: bytes, other: bytes) -> None:
    headers = {b"if-none-match": tags, b"if-modified-since": date, b"if-match": other, b"if-unmodified-since": date}
    assert check_preconditions("GET", headers, ETAG, modified_s=NOW) in {None, 304, 412}
    assert allows_range(tags, ETAG, modified_s=NOW) in {True, False}
