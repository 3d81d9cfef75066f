from __future__ import annotations

import pytest

from vclone_core.errors import BadFraming, HeadersTooLarge
from vclone_core.rules.requests import check_framing, find_hosts, join_fields
from vclone_core.rules.templates import parse_template


def test_fields_of_one_name_are_joined() -> None:
    fields = [(b"a", b"1"), (b"cookie", b"x=1"), (b"a", b"2"), (b"cookie", b"y=2")]
    assert join_fields(fields) == {b"a": b"1, 2", b"cookie": b"x=1; y=2"}


def test_too_many_or_too_large_fields_are_refused() -> None:
    assert len(join_fields([(b"x-%d" % n, b"") for n in range(100)])) == 100
    for fields in ([(b"x-%d" % n, b"") for n in range(101)], [(b"a", b"x" * 32 * 1024)]):
        with pytest.raises(HeadersTooLarge):
            join_fields(fields)


@pytest.mark.parametrize(
    ("version", "headers"),
    [
        ("1.1", {b"transfer-encoding": b"chunked", b"content-length": b"1"}),
        ("1.0", {b"transfer-encoding": b"chunked"}),
        ("2", {b"transfer-encoding": b"chunked"}),
        ("1.9", {}),
        ("0.9", {}),
        ("1.1", {b"content-length": b"1, 2"}),
        ("1.1", {b"content-length": b"+1"}),
    ],
)
def test_ambiguous_framing_is_refused(version: str, headers: dict[bytes, bytes]) -> None:
    with pytest.raises(BadFraming):
        check_framing("GET", version, headers)


def test_plain_framing_passes() -> None:
    for version in ("1.0", "1.1", "2", "3"):
        check_framing("GET", version, {b"content-length": b"1"})
    check_framing("GET", "1.1", {b"transfer-encoding": b"chunked"})


def test_same_host_twice_is_one_only_where_authority_is_host() -> None:
    fields = [(b"host", b"a.example"), (b"host", b"a.example")]
    assert find_hosts(fields, "2") == [b"a.example"]
    assert find_hosts(fields, "1.1") == [b"a.example", b"a.example"]
    assert find_hosts([(b"host", b"a"), (b"host", b"b")], "2") == [b"a", b"b"]


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("/a", "/a"),
        ("/$1/$x", "/1st/ex"),
        ("/${x}y", "/exy"),
        ("/$2", "/"),
        ("$", "$"),
        ("/$1$1", "/1st1st"),
        ("$0", "all"),
    ],
)
def test_template_is_filled(text: str, filled: str) -> None:
    assert parse_template(text).fill({"0": "all", "1": "1st", "x": "ex"}) == filled


@pytest.mark.parametrize("method", ["", "GET /x", "GET\r\n", "G\u00cbT", "a" * 65, "(GET)"])
def test_methods_are_tokens(method: str) -> None:
    with pytest.raises(BadFraming):
        check_framing(method, "2", {})
