from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import BadTarget, TargetTooLong, VcloneError
from vclone_core.rules.targets import LONGEST, Target, parse_query, parse_target
from vclone_core.rules.templates import quote_path


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/", "/"),
        (b"/a/b.html", "/a/b.html"),
        (b"/a/", "/a/"),
        (b"//a", "//a"),
        (b"/caf%C3%A9", "/café"),
        (b"/%61", "/a"),
        (b"/a%2Fb", "/a%2Fb"),
        (b"/a%2fb", "/a%2Fb"),
        (b"/a%20b", "/a b"),
        (b"/%252e%252e/x", "/%2e%2e/x"),
        (b"/a%3Fb%23c", "/a?b#c"),
        (b"/...", "/..."),
        (b"/.well-known/x", "/.well-known/x"),
        (b"/a..b", "/a..b"),
        (b'/[id]"<>^`{|}', '/[id]"<>^`{|}'),
    ],
)
def test_path_is_decoded_once(raw: bytes, path: str) -> None:
    assert parse_target(raw) == Target(path)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"*",
        b"a",
        b"/..",
        b"/.",
        b"/a/../b",
        b"/a/./b",
        b"/%2e%2e/b",
        b"/.%2E/b",
        b"/..%2fb",
        b"/a%2f..%2fb",
        b"/a%5cb",
        b"/a\\b",
        b"/%00",
        b"/a%0d%0ab",
        b"/a b",
        b"/a#b",
        b"/a?b",
        b"/%",
        b"/%a",
        b"/%zz",
        b"/%c0%ae",
        b"/%ff",
        b"/%ed%a0%80",
        b"/\xc3\xa9",
        b"/a\x7f",
        b"/%c2%85",
        b"ftp://a.example/",
        b"//a.example/..",
        b"http://a.example/../x",
    ],
)
def test_unsafe_path_is_refused(raw: bytes) -> None:
    with pytest.raises(BadTarget):
        parse_target(raw)


def test_absolute_form_keeps_its_authority() -> None:
    assert parse_target(b"http://a.example:80/x") == Target("/x", b"a.example:80")
    assert parse_target(b"HTTPS://a.example") == Target("/", b"a.example")


def test_long_path_is_refused() -> None:
    with pytest.raises(TargetTooLong):
        parse_target(b"/" + b"a" * LONGEST)


def test_query_is_kept_as_it_is() -> None:
    assert parse_query(b"a=%2F&b[]=1") == "a=%2F&b[]=1"
    assert parse_query("ü=1".encode()) == "%C3%BC=1"
    for raw in (b"a b", b"a\r\nb", b"a\x00"):
        with pytest.raises(BadTarget):
            parse_query(raw)


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda raw: b"/" + raw))
def test_any_bytes_give_a_safe_path_or_a_refusal(raw: bytes) -> None:
    try:
        path = parse_target(raw).path
    except VcloneError:
        return
    assert path.startswith("/")
    assert not {".", ".."} & set(path.split("/"))
    assert "\\" not in path
    assert path.isprintable() or all(ord(letter) >= 0xA0 or 0x20 <= ord(letter) < 0x7F for letter in path)


@given(st.lists(st.text(min_size=1, max_size=12), max_size=4))
def test_what_is_written_is_read_back(segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    try:
        encoded = quote_path(path).encode("ascii")
    except UnicodeEncodeError:  # A lone surrogate has no UTF-8.
        return
    try:
        decoded = parse_target(encoded).path
    except VcloneError:
        return
    assert decoded == path


@given(st.binary(max_size=60))
def test_any_query_is_ascii_or_refused(raw: bytes) -> None:
    try:
        query = parse_query(raw)
    except VcloneError:
        return
    assert query.isascii()
    assert query.isprintable()
    assert " " not in query
