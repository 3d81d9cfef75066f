from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.models import Variant
from vclone_core.rules.negotiation import choose_coding, parse_weights

VARIANTS = {"br": Variant("b" * 64, 50), "gzip": Variant("c" * 64, 70), "zstd": Variant("d" * 64, 60)}


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        (None, "identity"),
        (b"", "identity"),
        (b"br", "br"),
        (b"gzip, deflate, br, zstd", "br"),
        (b"gzip, deflate, zstd", "zstd"),
        (b"GZIP", "gzip"),
        (b"x-gzip", "gzip"),
        (b"deflate", "identity"),
        (b"*", "br"),
        (b"br;q=0, *", "zstd"),
        (b"gzip;q=1.0, br;q=0.5", "gzip"),
        (b"gzip;q=0.001", "gzip"),
        (b"identity;q=1, gzip;q=0.5", "identity"),
        (b"identity;q=0.5, gzip;q=0.5", "gzip"),
        (b"gzip;q=0", "identity"),
        (b"gzip; q=0.9 , br ; q = 0.8", "gzip"),
        (b"identity;q=0", None),
        (b"*;q=0", None),
        (b"*;q=0, gzip", "gzip"),
        (b"identity;q=0, *", "br"),
        (b"gzip;q=2", "identity"),
        (b"gzip;q=abc, br", "br"),
        (b"\xff\x00, gzip", "gzip"),
        (b",,,", "identity"),
    ],
)
@pytest.mark.product("B7.1")
def test_weights_choose_the_coding(header: bytes | None, coding: str | None) -> None:
    assert choose_coding(header, 100, VARIANTS) == coding


def test_equal_weights_choose_the_smallest() -> None:
    assert choose_coding(b"br, gzip", 100, {"br": Variant("b" * 64, 90), "gzip": Variant("c" * 64, 80)}) == "gzip"


def test_file_without_variants_is_sent_as_it_is() -> None:
    assert choose_coding(b"identity;q=0", 100, {}) == "identity"


@given(st.binary(max_size=80))
def test_any_header_chooses_something_it_does_not_exclude(header: bytes) -> None:
    coding = choose_coding(header, 100, VARIANTS)
    assert coding in {None, "identity", *VARIANTS}
    assert coding is None or parse_weights(header).get(coding) != 0
