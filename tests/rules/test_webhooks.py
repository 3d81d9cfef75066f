"""What every host's webhook needs: a signature over raw bytes, fields that are there once, JSON that is one."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import BadSignature, Invalid
from vclone_core.rules.webhooks import (
    check_delivery_id,
    check_signature,
    check_token,
    dig,
    dig_text,
    is_nothing,
    one_header,
    parse_payload,
    read_time,
)


@given(st.text(min_size=1), st.binary(), st.binary())
def test_only_the_right_bytes_have_the_signature(secret: str, body: bytes, other: bytes) -> None:
    key = secret.encode("utf-8", "surrogatepass") if secret.isprintable() else b""
    if not key:
        return
    good = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    check_signature(secret, body, good)
    if other != body:
        with pytest.raises(BadSignature):
            check_signature(secret, other, good)


@pytest.mark.parametrize("given_text", ["", "0" * 64, "é" * 64, "0" * 63, "0" * 65, "\n" + "0" * 63])
def test_what_is_no_signature_is_refused(given_text: str) -> None:
    with pytest.raises(BadSignature):
        check_signature("secret", b"x", given_text)


def test_no_secret_is_never_right() -> None:
    with pytest.raises(BadSignature):
        check_signature("", b"x", hmac.new(b"", b"x", hashlib.sha256).hexdigest())
    with pytest.raises(BadSignature):
        check_token("", "")


def test_a_token_is_right_or_not() -> None:
    check_token("sécret", "sécret")
    for text in ("", "secret", "sécret ", "Sécret"):
        with pytest.raises(BadSignature):
            check_token("sécret", text)


def test_a_field_is_there_once() -> None:
    assert one_header([("X-A", " 1 "), ("x-b", "2")], "x-a") == "1"
    assert one_header([], "x-a") == ""
    with pytest.raises(BadSignature):
        one_header([("X-A", "1"), ("x-a", "1")], "x-a")


@given(st.binary(max_size=200), st.sampled_from(["application/json", "application/x-www-form-urlencoded", ""]))
def test_any_bytes_are_an_object_or_refused(body: bytes, kind: str) -> None:
    with contextlib.suppress(Invalid):
        assert isinstance(parse_payload(body, kind), dict)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_any_json_is_dug_in_without_a_failure(value: object) -> None:
    assert dig_text(value, "a.b") == "" or isinstance(dig(value, "a.b"), str)
    if isinstance(value, dict):
        assert parse_payload(json.dumps(value).encode(), "application/json; charset=utf-16") == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01T00:00:00Z", 1_767_225_600.0),
        ("2026-01-01T01:00:00+01:00", 1_767_225_600.0),
        ("2026-01-01 00:00:00 UTC", 1_767_225_600.0),
        ("2026-01-01T00:00:00.500000+00:00", 1_767_225_600.5),
        ("yesterday", None),
        ("", None),
    ],
)
def test_times_of_hosts(text: str, expected: float | None) -> None:
    assert read_time(text) == expected


def test_ids_and_commits() -> None:
    assert check_delivery_id("72d3162e-cc78-11e3-81ab-4c9367dc0958")
    for text in ("", "a b", "x" * 101, "é"):
        with pytest.raises(Invalid):
            check_delivery_id(text)
    assert is_nothing("0" * 40)
    assert is_nothing("")
    assert not is_nothing("a" * 40)
