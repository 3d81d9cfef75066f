"""Tokens as text: a prefix that says what it opens, 40 random digits, and 6 check digits.

The prefix lets a scanner find a leaked token; the check digits let a mistyped one be refused without a look-up.
Only the SHA-256 of a token is ever stored: with 238 random bits there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LENGTH: Final = 40
CHECK_LENGTH: Final = 6  # 62**6 > 2**32
SPACE: Final = len(ALPHABET) ** LENGTH

# What people read off one screen and type into another (RFC 8628 §6.1): no vowels, so no words.
USER_CODE_ALPHABET: Final = "BCDFGHJKLMNPQRSTVWXZ"
USER_CODE_LENGTH: Final = 8

PREFIXES: Final = {
    "api": "vct",
    "session": "vcs",
    "link": "vcl",
    "hook": "vch",
    "refresh": "vcr",
    "invitation": "vci",
    "device": "vcd",
    "browser": "vcb",  # the cookie of one try to sign in with a provider
    "state": "vco",
    "webhook": "vcw",  # signs what a webhook is sent, or sends
    "bypass": "vcp",  # what automation sends to protected sites
}
_PATTERNS: Final = {
    kind: re.compile(rf"({prefix}_[{ALPHABET}]{{{LENGTH}}})([{ALPHABET}]{{{CHECK_LENGTH}}})")
    for kind, prefix in PREFIXES.items()
}


def build_token(kind: str, *, random: int) -> str:
    """Return a token of `kind` (a key of `PREFIXES`) from a random number below `SPACE`.

    >>> build_token("api", random=1)
    'vct_00000000000000000000000000000000000000011a3xM0'
    """
    body = f"{PREFIXES[kind]}_{_digits(random % SPACE, LENGTH)}"
    return body + _digits(zlib.crc32(body.encode()), CHECK_LENGTH)


def is_token(kind: str, text: str) -> bool:
    """Say whether `text` has the shape and the check digits of a token of `kind`."""
    match = _PATTERNS[kind].fullmatch(text)
    return match is not None and _digits(zlib.crc32(match[1].encode()), CHECK_LENGTH) == match[2]


def parse_user_code(text: str) -> str:
    """Return a typed user code as it is stored.

    >>> parse_user_code("bcdf-ghjk")
    'BCDFGHJK'
    """
    return "".join(letter for letter in text.upper() if letter in USER_CODE_ALPHABET)[: USER_CODE_LENGTH + 1]


def show_user_code(code: str) -> str:
    """Return a user code as it is shown: in two halves."""
    return f"{code[:4]}-{code[4:]}"


def hash_token(text: str) -> bytes:
    """Return what is stored of a token."""
    return hashlib.sha256(text.encode()).digest()


def _digits(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
