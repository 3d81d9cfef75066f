from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.rules.tokens import PREFIXES, SPACE, build_token, is_token


@given(st.integers(0, SPACE - 1), st.sampled_from(sorted(PREFIXES)))
def test_a_token_has_its_shape_and_only_opens_its_own_kind(number: int, kind: str) -> None:
    token = build_token(kind, random=number)
    assert len(token) == 50
    assert [other for other in PREFIXES if is_token(other, token)] == [kind]


@given(st.integers(0, SPACE - 1), st.integers(4, 49), st.sampled_from("0aZ"))
def test_one_wrong_digit_is_seen(number: int, place: int, digit: str) -> None:
    token = build_token("api", random=number)
    wrong = token[:place] + digit + token[place + 1 :]
    assert is_token("api", wrong) == (wrong == token)


@pytest.mark.parametrize("text", ["", "vct_", "x" * 50, "vct_" + "0" * 46 + "\n", "vct_" + "é" * 46, "vct_" + "0" * 47])
def test_other_text_is_no_token(text: str) -> None:
    assert not is_token("api", text)
