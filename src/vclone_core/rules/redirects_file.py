"""`_redirects`: one rule a line, `from [query=value …] [to] [status[!]] [conditions]`.

A rule leads on with 301 unless it says otherwise. The first that matches counts, and a file that exists goes before all
of them but those with `!`. A line that can't be used is left out and told.
https://docs.netlify.com/routing/redirects/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from vclone_core.errors import Invalid
from vclone_core.models import Route
from vclone_core.rules.patterns import LONGEST
from vclone_core.rules.splatpaths import SplatPath, compile_splat, fill_splat
from vclone_core.rules.tables import compile_rule

NAME: Final = "_redirects"
# Each is tried for every path that no file has; literal ones are not, and may be as many as the file has room for.
PATTERN_LIMIT: Final = 2_048
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_STATUS: Final = re.compile(r"([0-9]{3})(!?)")
_TO: Final = re.compile(r"/|https?://", re.IGNORECASE)
_PLACEHOLDER: Final = re.compile(r":([A-Za-z][A-Za-z0-9_]*)")
# What these ask for is not known here: a rule without its condition would do something else than was meant.
_UNSUPPORTED: Final = {
    "country": "the visitor's country is not known here",
    "language": "rules by language are not supported",
    "role": "rules by role are not supported",
    "sign": "signed rewrites are not supported",
    "signed": "signed rewrites are not supported",
    "rate_limit": "limits of rules are not supported",
    "edge_handler": "edge functions are not supported",
    "headers": "headers for other servers are not supported",
}


@dataclass(frozen=True, slots=True)
class RedirectRules:
    """What a `_redirects` says: `forced` rules come before the files, `others` behind them; `problems` are told."""

    forced: tuple[Route, ...] = ()
    others: tuple[Route, ...] = ()
    problems: tuple[str, ...] = ()


def parse_redirects(text: str) -> RedirectRules:
    """Return the rules of a file. Every text is one: what can't be used is in `problems`, by line."""
    lines = enumerate(text.removeprefix("\ufeff").split("\n"), 1)
    return make_redirects(NAME, ((f"line {number}", words) for number, line in lines if (words := _split_words(line))))


def make_redirects(file: str, rules: Iterable[tuple[str, Sequence[str]]]) -> RedirectRules:
    """Return the rules that are spelt as the words of a line each, with its place in `file`."""
    forced: list[Route] = []
    others: list[Route] = []
    problems: list[str] = []
    patterns = 0
    for number, (place, words) in enumerate(rules):
        try:
            route, is_forced = _parse_line(words)
            if compile_rule(number, route).literal is None:
                patterns += 1
                if patterns > PATTERN_LIMIT:
                    raise Invalid(what=f"there are more than {PATTERN_LIMIT:,} rules with * or :names")
        except Invalid as error:
            problems.append(f"{file} {place}: {error.facts.get('what', error)} (left out)")
            continue
        (forced if is_forced else others).append(replace(route, origin=f"{file} {place}"))
    return RedirectRules(tuple(forced), tuple(others), tuple(problems))


def join_redirects(first: RedirectRules, then: RedirectRules) -> RedirectRules:
    """Return the rules of two files, of which `first` is asked first."""
    return RedirectRules(first.forced + then.forced, first.others + then.others, first.problems + then.problems)


def _split_words(line: str) -> list[str]:
    """Return a line's words up to a comment."""
    words = line.split()
    for place, word in enumerate(words):
        if word.startswith("#"):
            return words[:place]
    return words


def _parse_line(words: Sequence[str]) -> tuple[Route, bool]:
    if sum(map(len, words)) > LONGEST:
        raise Invalid(what=f"the line is longer than {LONGEST} characters")
    source, *others = words
    if not _TO.match(source):
        raise Invalid(what="a rule starts with a path from /, or with an http(s) address")
    query, to, rest = _find_destination(source, others)
    status, is_forced = _parse_status(rest[0] if rest else "301")
    conditions = [_parse_condition(word) for word in rest[1:]]
    path = _compile_source(source, to)
    names = set(path.names)
    has = [*path.has, *(_ask_query(word, names) for word in query), *conditions]
    dest = fill_splat(to, names)
    route = Route(src=path.source, has=tuple(has), case_sensitive=True)
    if status in _REDIRECTS:
        return replace(route, status=status, headers={"Location": dest}), is_forced
    return replace(route, dest=dest, status=None if status == 200 else status), is_forced


def _find_destination(source: str, words: Sequence[str]) -> tuple[Sequence[str], str, Sequence[str]]:
    """Return (query parameters, destination, what follows it)."""
    for place, word in enumerate(words):
        if _TO.match(word):
            return words[:place], word, words[place + 1 :]
    if words and (found := _STATUS.fullmatch(words[0])) and source.endswith("/*") and found[1].startswith("2"):
        # `/admin/* 200` serves what is there, where a condition holds.
        return (), f"{source[:-1]}:splat", words
    raise Invalid(what="it has no destination: a path from /, or an http(s) address")


def _parse_status(word: str) -> tuple[int, bool]:
    found = _STATUS.fullmatch(word)
    if found is None:
        raise Invalid(what=f"{word!r} is no status")
    status = int(found[1])
    if status not in _REDIRECTS and status != 200 and not 400 <= status <= 599:
        raise Invalid(what=f"the status {status} means nothing in a rule")
    return status, bool(found[2])


def _parse_condition(word: str) -> Mapping[str, Any]:
    key, equals, value = word.partition("=")
    if reason := _UNSUPPORTED.get(key.lower()):
        raise Invalid(what=reason)
    if key.lower() == "cookie" and value:
        return {"type": "cookie", "key": value}
    raise Invalid(what=f"{word if equals else key!r} is no condition")


def _compile_source(source: str, to: str) -> SplatPath:
    is_same = source.rstrip("/") == to.rstrip("/")
    if is_same and source == to:
        raise Invalid(what="it leads to itself")
    # `/about/ /about` is about the slash, and would never end if it meant both.
    return compile_splat(source, is_exact=is_same)


def _ask_query(word: str, names: set[str]) -> Mapping[str, Any]:
    """Return the condition for one query parameter, and add the name that it gives to the destination."""
    key, equals, value = word.partition("=")
    if not key or (equals and not value):
        raise Invalid(what=f"{word!r} is no query parameter with its value")
    if not equals:
        return {"type": "query", "key": key}
    found = _PLACEHOLDER.fullmatch(value)
    if found is None:
        return {"type": "query", "key": key, "value": {"eq": value}}
    if found[1] in names:
        raise Invalid(what=f"it has :{found[1]} twice")
    names.add(found[1])
    return {"type": "query", "key": key, "value": f"(?<{found[1]}>.*)"}
