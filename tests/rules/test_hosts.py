from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import BadHost, VcloneError
from vclone_core.rules.hosts import parse_host


@pytest.mark.parametrize(
    ("value", "host"),
    [
        (b"example.com", "example.com"),
        (b"Shop.Example.COM", "shop.example.com"),
        (b"example.com:8080", "example.com"),
        (b"example.com:", "example.com"),
        (b"example.com.", "example.com"),
        (b"example.com.:443", "example.com"),
        (b"localhost", "localhost"),
        (b"127.0.0.1:8080", "127.0.0.1"),
        (b"[::1]:8080", "[::1]"),
        (b"[0:0:0:0:0:0:0:1]", "[::1]"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("bücher.example".encode(), "xn--bcher-kva.example"),
        ("BÜCHER.example".encode(), "xn--bcher-kva.example"),
        ("例え。テスト".encode(), "xn--r8jz45g.xn--zckzah"),
        (b"a" * 63 + b".com", "a" * 63 + ".com"),
    ],
)
def test_host_is_brought_to_one_spelling(value: bytes, host: str) -> None:
    assert parse_host([value]) == host


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b""],
        [b"a.example", b"a.example"],
        [b"a.example", b"b.example"],
        [b"a.example, b.example"],
        [b"a b"],
        [b" a.example"],
        [b"a.example\t"],
        [b"user@a.example"],
        [b"a.example/path"],
        [b"a.example?x"],
        [b"a.example#x"],
        [b"a@b:99999/x?y#z"],
        [b"a.example:65536"],
        [b"a.example:-1"],
        [b"a.example:80:80"],
        [b"a.example:http"],
        [b"a..example"],
        [b"a.example.."],
        [b"."],
        [b".a.example"],
        [b"-a.example"],
        [b"a-.example"],
        [b"a_b.example"],
        [b"*.example"],
        [b"a%2eexample"],
        [b"a\x00.example"],
        [b"a\\b.example"],
        [b"::1"],
        [b"[::1"],
        [b"[fe80::1%25eth0]"],
        [b"[1.2.3.4]"],
        [b"\xff\xfe.example"],
        [b"xn--\xc3\xbc.example"],
        [b"a" * 64 + b".example"],
        [b".".join([b"a" * 49] * 6)],
    ],
)
@pytest.mark.product("B1.5")
def test_malformed_host_is_refused(values: list[bytes]) -> None:
    with pytest.raises(BadHost):
        parse_host(values)


@given(st.lists(st.binary(max_size=300), max_size=2))
def test_any_bytes_give_a_name_or_a_refusal(values: list[bytes]) -> None:
    try:
        host = parse_host(values)
    except VcloneError:
        return
    assert parse_host([host.encode()]) == host
    assert host == host.lower()
    assert host.isascii()
    assert len(host) <= 253


@given(st.text(max_size=80))
def test_any_text_gives_a_name_or_a_refusal(text: str) -> None:
    try:
        host = parse_host([text.encode("utf-8", "surrogatepass")])
    except VcloneError:
        return
    assert parse_host([host.encode()]) == host
