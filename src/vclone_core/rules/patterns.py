"""Where a route's source becomes something that matches: the one place that knows the regex engine.

Sources are written as JavaScript's, the way the Build Output API v3 spells them, and match a whole path.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from vclone_core.errors import Invalid

LONGEST: Final = 4096
_ESCAPED: Final = re.compile(r"\\([^A-Za-z0-9])")
_SPECIAL: Final = re.compile(r"[\\.^$*+?()\[\]{}|]")
# JavaScript's `(?<name>`; look-behinds (`(?<=`, `(?<!`) stay as they are.
_NAMED: Final = re.compile(r"(?<!\\)\(\?<(?=[A-Za-z_])")
_REFERENCE: Final = re.compile(r"\\k<([A-Za-z_][A-Za-z0-9_]*)>")

Pattern = re.Pattern[str]


def find_literal(source: str) -> str | None:
    r"""Return the one path that `source` matches, or None when it is a real pattern.

    >>> find_literal(r"^/a\.html$"), find_literal("/a/(.*)")
    ('/a.html', None)
    """
    bare = _strip_anchors(source)
    if "\\" not in bare:
        return None if _SPECIAL.search(bare) else bare
    literal = _ESCAPED.sub("", bare)
    if _SPECIAL.search(literal):
        return None
    return _ESCAPED.sub(r"\1", bare)


@lru_cache(maxsize=4096)
def compile_pattern(source: str, *, is_case_sensitive: bool = False) -> Pattern:
    """Return a pattern whose `fullmatch` tells whether a path is meant; raise `Invalid` where `source` is none."""
    text = _REFERENCE.sub(r"(?P=\1)", _NAMED.sub("(?P<", _strip_anchors(source)))
    try:
        return re.compile(text, 0 if is_case_sensitive else re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as error:
        raise Invalid(what=f"the pattern {source!r} can't be used ({error})") from error


def _strip_anchors(source: str) -> str:
    start = 1 if source.startswith("^") else 0
    # `\$` at the end is a dollar sign, `\\$` is a backslash and an anchor.
    tail = source[:-1]
    is_anchor = source.endswith("$") and (len(tail) - len(tail.rstrip("\\"))) % 2 == 0
    return source[start : len(source) - 1 if is_anchor else len(source)]
