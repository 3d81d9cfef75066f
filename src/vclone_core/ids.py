"""Prefixed, time-ordered ids: `dep_` and 20 characters of lower-case base32.

100 bits: 48 of Unix milliseconds, then 52 random ones. The text order of two ids is the order of their making.
New ids are made from a given time and given random bits, so this module stays pure; text becomes an id only here.
"""

from __future__ import annotations

import re
from typing import Final

from vclone_core.errors import BadId

# Crockford's alphabet in lower case: sorts like the numbers it stands for, and has no i, l, o, u to misread.
ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH: Final = 20
RANDOM_BITS: Final = 52

PREFIXES: Final = {
    "user": "usr",
    "team": "tem",
    "project": "prj",
    "deployment": "dep",
    "domain": "dom",
    "token": "tok",
    "session": "ses",
    "invitation": "inv",
    "variable": "env",
    "webhook": "whk",
    "hook": "dhk",
    "share": "shr",
    "git_token": "gtk",
    "deploy_key": "dky",
    "git_connection": "gcn",
    "git_secret": "gsc",
    "git_app": "gap",
    "certificate": "crt",
    "request": "req",
    "edge": "edg",
}
_PATTERNS: Final = {kind: re.compile(rf"{prefix}_[{ALPHABET}]{{{LENGTH}}}") for kind, prefix in PREFIXES.items()}


def build_id(kind: str, *, unix_ms: int, random: int) -> str:
    """Return a new id of `kind` (a key of `PREFIXES`) from a time and at least 52 random bits.

    >>> build_id("deployment", unix_ms=1_700_000_000_000, random=1)
    'dep_065wzsb8000000000001'
    """
    number = (unix_ms << RANDOM_BITS) | (random & ((1 << RANDOM_BITS) - 1))
    letters = [ALPHABET[(number >> shift) & 31] for shift in range((LENGTH - 1) * 5, -1, -5)]
    return f"{PREFIXES[kind]}_{''.join(letters)}"


def parse_id(kind: str, text: str) -> str:
    """Return `text` if it is an id of `kind`; raise `BadId` otherwise."""
    if not _PATTERNS[kind].fullmatch(text):
        raise BadId(kind=kind)
    return text


def short_id(text: str) -> str:
    """Return the ten random characters that stand for an id in a host name.

    >>> short_id("dep_065wxvr000000000001")
    '0000000001'
    """
    return text[-10:]
