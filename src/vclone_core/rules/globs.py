"""Path patterns of definitions: `*` and `?` stay in one segment, `**` crosses segments, `{a,b}` chooses."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import re2

_TOKENS: Final = re.compile(r"\*\*/|\*\*|\*|\?|[^*?]+")
_MEANINGS: Final = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def expand_braces(pattern: str) -> tuple[str, ...]:
    """Return the patterns that `{a,b}` stands for, in order; braces may nest.

    >>> expand_braces("config.{js,ts}")
    ('config.js', 'config.ts')
    """
    start = pattern.find("{")
    if start < 0:
        return (pattern,)
    depth, cuts = 0, [start]
    for index in range(start, len(pattern)):
        letter = pattern[index]
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 1:
            cuts.append(index)
        if depth == 0:
            cuts.append(index)
            break
    else:
        return (pattern,)
    head, tail = pattern[:start], pattern[cuts[-1] + 1 :]
    choices = [pattern[left + 1 : right] for left, right in pairwise(cuts)]
    return tuple(whole for choice in choices for whole in expand_braces(f"{head}{choice}{tail}"))


@lru_cache(maxsize=1024)
def split_globs(patterns: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the plain names that `patterns` mean, which a set finds at once, and the globs that are left.

    >>> split_globs(("{a,b}.js", "src/*.js"))
    (('a.js', 'b.js'), ('src/*.js',))
    """
    every = tuple(dict.fromkeys(one for pattern in patterns for one in expand_braces(pattern)))
    return (
        tuple(one for one in every if not any(letter in one for letter in "*?")),
        tuple(one for one in every if any(letter in one for letter in "*?")),
    )


@lru_cache(maxsize=1024)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """Return the expression that matches a whole path exactly when `pattern` does."""
    return re.compile("|".join(f"(?:{_translate(one)})" for one in expand_braces(pattern)), re.DOTALL)


def match_glob(pattern: str, path: str) -> bool:
    """Say whether `path` is one that `pattern` means.

    >>> match_glob("/assets/**", "/assets/js/app.js")
    True
    """
    return compile_glob(pattern).fullmatch(path) is not None


def match_linear(pattern: str, path: str) -> bool:
    """Say the same of a stranger's pattern, by an engine that takes linear time whatever stands in it.

    Braces beyond the first two mean themselves.
    """
    return _compile_linear(pattern).fullmatch(path) is not None


@lru_cache(maxsize=1024)
def _compile_linear(pattern: str) -> Any:
    choices = expand_braces(pattern) if pattern.count("{") <= 2 else (pattern,)
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    return re2.compile("|".join(f"(?:{_translate(one)})" for one in choices), options)


def _translate(pattern: str) -> str:
    return "".join(_MEANINGS.get(token) or re.escape(token) for token in _TOKENS.findall(pattern))
