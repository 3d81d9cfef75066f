"""Secrets in output: found in every spelling, whatever is around them and wherever chunks end."""

from __future__ import annotations

import base64
import html
import itertools
import json
import shlex
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.rules.masking import MASK, PIECE, Mask, Masker, list_secrets, spell

SECRET = 'p@ss "w/ö\'rd" & $5 <b>'
LONG = "".join(chr(33 + (number * 31) % 90) for number in range(1000))
PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\nAASCBKcwggSjAgEAAoIBAQ\nend==\n-----END KEY-----\n"

SPELLINGS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "encodeURIComponent": lambda text: quote(text, safe="!'()*"),
    "python's quote": quote,
    "small hex digits": lambda text: quote(text).lower() if text.islower() else quote(text),
    "form": quote_plus,
    "json": lambda text: json.dumps({"key": text}),
    "json, utf-8": lambda text: json.dumps(text, ensure_ascii=False),
    "json in json": lambda text: json.dumps(json.dumps(text)),
    "python": repr,
    "shell": shlex.quote,
    "html": html.escape,
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 behind one byte": lambda text: base64.b64encode(b":" + text.encode() + b"ab").decode(),
    "base64 behind two bytes": lambda text: base64.b64encode(b"u:" + text.encode() + b"a").decode(),
    "base64, url-safe": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64, url-safe, behind bytes": lambda text: base64.urlsafe_b64encode(b"user:" + text.encode()).decode(),
    "base64 in lines": lambda text: base64.encodebytes(text.encode()).decode(),
}


def mask_all(secrets: list[str], data: bytes, cuts: list[int] | None = None) -> bytes:
    masker = Masker(Mask(secrets))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts or ()), len(data)]
    shown = b"".join(masker.feed(data[start:end]) for start, end in itertools.pairwise(edges))
    return shown + masker.finish()


@pytest.mark.parametrize("secret", [SECRET, LONG, "hunter2hunter2", "ÿþ~~~~??>>öö"], ids=["odd", "long", "plain", "+/"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_masked_written_byte_by_byte(secret: str, spelling: str) -> None:
    written = SPELLINGS[spelling](secret)
    data = f"before [{written}] after\n".encode()
    shown = mask_all([secret], data, list(range(len(data))))
    assert shown == mask_all([secret], data)
    assert shown.startswith(b"before [")
    assert shown.endswith(b"] after\n")
    assert MASK.encode() in shown
    # Of the whole nothing is left that could be put together: at the edges at most a letter or two, and padding.
    left = shown.removeprefix(b"before [").removesuffix(b"] after\n").decode()
    for known in ('{"key": ', "}", MASK):
        left = left.replace(known, "")
    assert len(left.replace("\n", "").strip("\"'\\=")) <= (8 if "base64" in spelling else 0), left


def test_lines_of_a_value_are_masked_one_by_one() -> None:
    shown = mask_all([PEM], b"key:\n  MIIEvQIBADANBgkqhkiG9w0BAQEF\n  AASCBKcwggSjAgEAAoIBAQ\n-----BEGIN KEY-----\n")
    assert shown == b"key:\n  ***\n  ***\n-----BEGIN KEY-----\n"
    assert b"end==" not in mask_all([PEM], f"echo {PEM}".encode())


def test_line_ends_stay_where_they_are() -> None:
    assert mask_all(["first line\nsecond line"], b"a first line\nsecond line b\n") == b"a ***\n*** b\n"


@pytest.mark.parametrize("secret", ["", "short", "1234567", "       x"])
def test_short_values_are_left(secret: str) -> None:
    assert spell(secret) == (frozenset() if len(secret) < 8 else spell("       x"))
    assert mask_all([secret], b"a short 1234567 x") == b"a short 1234567 x"


def test_what_can_be_no_secret_is_shown_at_once() -> None:
    masker = Masker(Mask(["abcdefghij", LONG]))
    assert masker.feed(b"Compiling ...\n") == b"Compiling ...\n"
    assert masker.feed(b"12 abcdefg") == b"12 "
    assert masker.feed(b"\n") == b"abcdefg\n"


SMALL = st.text(alphabet="ab\n", min_size=0, max_size=20)


@given(st.lists(SMALL, max_size=4), st.text(alphabet="ab\n ", max_size=300), st.lists(st.integers(0, 300), max_size=9))
def test_chunks_may_end_anywhere(secrets: list[str], text: str, cuts: list[int]) -> None:
    assert mask_all(secrets, text.encode(), cuts) == mask_all(secrets, text.encode())


@given(st.lists(SMALL, max_size=4), st.text(alphabet="ab\n ", max_size=200))
def test_exactly_what_a_pattern_covers_is_masked(secrets: list[str], text: str) -> None:
    data, covered = text.encode(), bytearray(len(text))
    for pattern in Mask(secrets).patterns:
        for start in range(len(data)):
            if data.startswith(pattern, start):
                covered[start : start + len(pattern)] = b"\1" * len(pattern)
    expected = "".join(
        "*" if is_hit and letter != "\n" else letter for letter, is_hit in zip(text, covered, strict=True)
    )
    parts = ["".join(group) if letter != "*" else MASK for letter, group in itertools.groupby(expected)]
    assert mask_all(secrets, data).decode() == "".join(parts)


@given(
    st.lists(st.text(min_size=8, max_size=200).filter(lambda text: "*" not in text), min_size=1, max_size=3),
    st.lists(st.one_of(st.text(max_size=20), st.sampled_from(sorted(SPELLINGS))), max_size=8),
    st.lists(st.integers(0, 900), max_size=6),
)
def test_no_spelling_gets_through(secrets: list[str], parts: list[str], cuts: list[int]) -> None:
    said = "".join(
        SPELLINGS[part](secrets[at % len(secrets)]) if part in SPELLINGS else part.replace("*", "")
        for at, part in enumerate(parts)
    )
    shown = mask_all(secrets, said.encode(), cuts)
    for secret in secrets:
        for spelling in spell(secret):
            assert spelling not in shown or not spelling.strip()


@given(st.text(min_size=8, max_size=3000), st.binary(max_size=500))
def test_no_more_is_held_back_than_a_piece(secret: str, data: bytes) -> None:
    mask = Mask([secret])
    masker = Masker(mask)
    for at in range(0, len(data), 7):
        masker.feed(data[at : at + 7])
        assert len(masker._held) < PIECE
    assert mask.longest <= PIECE


def test_texts_and_what_holds_them() -> None:
    mask = Mask(["abcdefghij"])
    assert mask.text("an abcdefghij, twice abcdefghij") == "an ***, twice ***"
    assert mask.text("\x1b[31mred\x1b[0m stays") == "\x1b[31mred\x1b[0m stays"
    assert mask.text("\x1b[31mabcde\x1b[1mfghij\x1b[0m!") == "***!"
    assert mask.value({"a": ("abcdefghij", 5), "b": ["x", None]}) == {"a": ("***", 5), "b": ["x", None]}


def test_secrets_of_a_build() -> None:
    found = list_secrets(
        environment={"NODE_ENV": "production", "KEY": "k" * 20, "DB": "postgres://me:s%2Fcret%21pw@h/x"},
        settings=["platform-secret"],
    )
    assert found == {"k" * 20, "postgres://me:s%2Fcret%21pw@h/x", "s%2Fcret%21pw", "s/cret!pw", "platform-secret"}
