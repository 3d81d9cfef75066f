"""Secrets at rest: what opens, and what must not."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import Invalid
from vclone_core.rules.sealing import is_current, parse_ring, seal, unseal

NEW = "b:" + base64.b64encode(b"n" * 32).decode()
OLD = "a:" + base64.urlsafe_b64encode(b"\xff" * 32).decode().rstrip("=")
NONCE = bytes(12)


@given(st.text(), st.text(min_size=1))
def test_what_is_sealed_opens_in_its_row(secret: str, identity: str) -> None:
    ring = parse_ring(NEW, fallback="")
    assert unseal(ring, seal(ring, secret, identity=identity, nonce=NONCE), identity=identity) == secret


def test_a_sealed_value_names_its_key_and_shows_nothing_else() -> None:
    sealed = seal(parse_ring(NEW, fallback=""), "hunter2", identity="row", nonce=NONCE)
    assert sealed.startswith("v1.b.AAAAAAAAAAAAAAAA.")
    assert "hunter2" not in sealed


def test_another_row_key_or_byte_does_not_open() -> None:
    ring = parse_ring(NEW, fallback="")
    sealed = seal(ring, "secret", identity="row", nonce=NONCE)
    *head, body = sealed.split(".")
    changed = ".".join((*head, ("A" if body[0] != "A" else "B") + body[1:]))
    for text, identity in ((sealed, "other"), (changed, "row"), (sealed[:-8], "row"), ("", "row"), ("v2.b.x.y", "row")):
        with pytest.raises(Invalid):
            unseal(ring, text, identity=identity)
    with pytest.raises(Invalid, match="not in the ring"):
        unseal(parse_ring(OLD, fallback=""), sealed, identity="row")


def test_a_key_is_replaced_by_putting_a_new_one_in_front() -> None:
    old, both = parse_ring(OLD, fallback=""), parse_ring(f"{NEW},{OLD}", fallback="")
    sealed = seal(old, "secret", identity="row", nonce=NONCE)
    assert unseal(both, sealed, identity="row") == "secret"
    assert not is_current(both, sealed)
    assert is_current(both, seal(both, "secret", identity="row", nonce=NONCE))


def test_without_keys_one_is_derived_and_stays_of_use() -> None:
    derived = parse_ring("", fallback="x" * 40)
    sealed = seal(derived, "secret", identity="row", nonce=NONCE)
    assert unseal(parse_ring(NEW, fallback="x" * 40), sealed, identity="row") == "secret"
    with pytest.raises(Invalid):
        unseal(parse_ring("", fallback="y" * 40), sealed, identity="row")


@pytest.mark.parametrize("text", ["a", "a:short", f"{NEW},{NEW}", "a b:" + NEW[2:], "a:" + "!" * 43])
def test_a_bad_ring_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_ring(text, fallback="")
    assert NEW[2:] not in str(caught.value)
    with pytest.raises(Invalid):
        parse_ring("", fallback="")
