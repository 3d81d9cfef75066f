"""Which texts are keys: compared with the sentence in `ObjectStore`'s docstring, spelled out segment by segment."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import Invalid
from vclone_core.rules.objectkeys import (
    blob_key,
    cache_key,
    check_object_key,
    check_object_prefix,
    manifest_key,
)

LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
SEGMENTS = st.text(alphabet=sorted(LETTERS), min_size=1, max_size=20).filter(lambda text: text not in (".", ".."))
KEYS = st.lists(SEGMENTS, min_size=1, max_size=8).map("/".join)
NEARLY_KEYS = st.text(alphabet=st.sampled_from("ab.-_/\\%\n\0é ~٣"), max_size=12) | st.text(max_size=600)


def is_key(text: str) -> bool:
    segments = text.split("/")
    return len(text) <= 512 and all(
        0 < len(segment) <= 255 and segment not in (".", "..") and LETTERS.issuperset(segment) for segment in segments
    )


@given(KEYS)
def test_keys_are_accepted_and_stay_below_the_root(key: str) -> None:
    assert check_object_key(key) == key
    path = PurePosixPath("/store") / key
    assert path.is_relative_to("/store")
    assert path.parts[2:] == tuple(key.split("/"))


@given(NEARLY_KEYS | KEYS)
def test_nothing_else_is_accepted(text: str) -> None:
    if is_key(text):
        assert check_object_key(text) == text
    else:
        with pytest.raises(Invalid):
            check_object_key(text)


@given(KEYS, st.data())
def test_every_start_of_a_key_is_a_prefix(key: str, data: st.DataObject) -> None:
    prefix = key[: data.draw(st.integers(0, len(key)))]
    assert check_object_prefix(prefix) == prefix


@given(NEARLY_KEYS)
def test_a_prefix_is_what_some_key_starts_with(text: str) -> None:
    if is_key(text + "a") or (is_key(text) and len(text) == 512) or is_key(text):
        assert check_object_prefix(text) == text
    else:
        with pytest.raises(Invalid):
            check_object_prefix(text)


@pytest.mark.parametrize(
    "key",
    [
        blob_key("prj_065wxvr000000000001", "a" * 64),
        manifest_key("prj_065wxvr000000000001", "dep_065wxvr000000000001"),
        cache_key("prj_065wxvr000000000001", "npm-" + "b" * 64),
    ],
)
def test_our_own_keys_are_keys(key: str) -> None:
    assert check_object_key(key) == key
