"""A large document read in steps is what `json.loads` makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.rules.jsonpieces import parse_pieces

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.sampled_from([None, 0, 1]), st.sampled_from([",", " , ", ",\r\n\t"]), st.booleans())
def test_same_as_read_whole(value: Any, indent: int | None, comma: str, is_ascii: bool) -> None:
    text = json.dumps(value, indent=indent, separators=(comma, ":"), ensure_ascii=is_ascii)
    assert parse_pieces(f" {text}\n") == value


@given(st.text() | st.text(alphabet='{}[]":, 1a\\', max_size=24))
def test_refuses_what_json_refuses(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            parse_pieces(text)
    else:
        assert parse_pieces(text) == expected or expected != expected


@pytest.mark.parametrize(
    "text", ["", "{", "[1,]", '{"a"}', '{"a":}', "{1:2}", '{"a":1,}', "[1 2]", "[]x", '{"a":1"b":2}']
)
def test_refuses_what_is_broken(text: str) -> None:
    with pytest.raises(ValueError):
        parse_pieces(text)
