"""A large JSON object read piece by piece: what one step reads is small, however large the whole is.

Python's own reader takes ten megabytes in one step, in which no other thread of the process does anything, an event
loop's included.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_read: Final = json.JSONDecoder().raw_decode


def parse_pieces(text: str) -> Any:
    """Return what `json.loads` makes of `text`, read in steps two levels deep; raise `ValueError` where it does.

    >>> parse_pieces('{"routes": [{"src": "/a"}], "files": {"/a": {"size": 1}}}')
    {'routes': [{'src': '/a'}], 'files': {'/a': {'size': 1}}}
    """
    value, end = _parse(text, _skip(text, 0), depth=2)
    if end != len(text):
        raise ValueError(f"there is more behind character {end}")
    return value


def _parse(text: str, at: int, *, depth: int) -> tuple[Any, int]:
    """Return the value that starts at a place, and where the next thing behind it starts."""
    opening = text[at : at + 1]
    if depth == 0 or opening not in ("{", "["):
        value, end = _read(text, at)
        return value, _skip(text, end)
    closing = "}" if opening == "{" else "]"
    found: Any = {} if opening == "{" else []
    at = _skip(text, at + 1)
    if text[at : at + 1] == closing:
        return found, _skip(text, at + 1)
    while True:
        if opening == "{":
            key, at = _read(text, at)
            if not isinstance(key, str):
                raise ValueError(f"a name is missing before character {at}")
            at = _skip(text, at)
            _expect(text, at, ":")
            found[key], at = _parse(text, _skip(text, at + 1), depth=depth - 1)
        else:
            value, at = _parse(text, at, depth=depth - 1)
            found.append(value)
        if text[at : at + 1] == closing:
            return found, _skip(text, at + 1)
        _expect(text, at, ",")
        at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    assert space is not None  # it may be empty
    return space.end()


def _expect(text: str, at: int, letter: str) -> None:
    if text[at : at + 1] != letter:
        raise ValueError(f"{letter!r} is missing at character {at}")
