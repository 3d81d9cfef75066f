"""ids: the text order is the order of making, and only ids are accepted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import BadId
from vclone_core.ids import PREFIXES, build_id, parse_id, short_id

MS = st.integers(min_value=0, max_value=(1 << 48) - 1)
BITS = st.integers(min_value=0, max_value=(1 << 64) - 1)


@given(MS, BITS, MS, BITS)
def test_later_ids_sort_after_earlier_ones(first: int, a: int, second: int, b: int) -> None:
    one, two = build_id("deployment", unix_ms=first, random=a), build_id("deployment", unix_ms=second, random=b)
    if first < second:
        assert one < two


@given(MS, BITS, st.sampled_from(sorted(PREFIXES)))
def test_parse_of_build_is_identity(unix_ms: int, random: int, kind: str) -> None:
    made = build_id(kind, unix_ms=unix_ms, random=random)
    assert parse_id(kind, made) == made
    assert len(short_id(made)) == 10


@given(st.text())
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(BadId):
        parse_id("deployment", text)


def test_an_id_of_another_kind_is_refused() -> None:
    with pytest.raises(BadId):
        parse_id("project", build_id("deployment", unix_ms=1, random=1))
