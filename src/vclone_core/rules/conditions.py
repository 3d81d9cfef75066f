"""A route's `has` and `missing`: does a header, cookie, query value or the host look as the rule wants?

https://vercel.com/docs/build-output-api/configuration#source-route: a condition without a value asks for presence; a
text is a pattern for the whole value, whose named groups become parameters; an object holds comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from vclone_core.errors import Invalid
from vclone_core.rules.patterns import Pattern, compile_pattern
from vclone_core.rules.requests import Request

Comparison = Callable[[str, Any], bool]


def _number(compare: Callable[[float, float], bool]) -> Comparison:
    def holds(value: str, wanted: Any) -> bool:
        try:
            return compare(float(value), float(wanted))
        except (TypeError, ValueError):
            return False

    return holds


COMPARISONS: Final[Mapping[str, Comparison]] = {
    "eq": lambda value, wanted: value == str(wanted),
    "neq": lambda value, wanted: value != str(wanted),
    "inc": lambda value, wanted: value in map(str, wanted),
    "ninc": lambda value, wanted: value not in map(str, wanted),
    "pre": lambda value, wanted: value.startswith(str(wanted)),
    "suf": lambda value, wanted: value.endswith(str(wanted)),
    "gt": _number(lambda value, wanted: value > wanted),
    "gte": _number(lambda value, wanted: value >= wanted),
    "lt": _number(lambda value, wanted: value < wanted),
    "lte": _number(lambda value, wanted: value <= wanted),
}
LISTS: Final = frozenset({"inc", "ninc"})


@dataclass(frozen=True, slots=True)
class Condition:
    """One entry of `has` or `missing`, ready to be tried."""

    kind: str
    key: str
    pattern: Pattern | None
    comparisons: tuple[tuple[str, Any], ...] = ()


def compile_condition(raw: Mapping[str, Any]) -> Condition:
    """Return a condition ready to be tried; raise `Invalid` for one that is not understood."""
    kind, key, value = raw.get("type"), raw.get("key", ""), raw.get("value")
    if kind not in ("host", "header", "cookie", "query") or not isinstance(key, str):
        raise Invalid(what=f"a condition has the unknown type {kind!r}")
    if kind != "host" and not key:
        raise Invalid(what=f"a condition of type {kind} needs a key")
    key = key.lower() if kind == "header" else key
    if value is None:
        return Condition(kind, key, None)
    if isinstance(value, str):
        return Condition(kind, key, compile_pattern(value, is_case_sensitive=kind != "host"))
    if not isinstance(value, Mapping):
        raise Invalid(what="a condition's value is neither a text nor an object")
    pattern = compile_pattern(str(value["re"]), is_case_sensitive=kind != "host") if "re" in value else None
    comparisons = tuple((name, wanted) for name, wanted in value.items() if name != "re")
    for name, wanted in comparisons:
        if name not in COMPARISONS or (name in LISTS and not isinstance(wanted, list)):
            raise Invalid(what=f"a condition has the unknown comparison {name!r}")
    return Condition(kind, key, pattern, comparisons)


def try_condition(condition: Condition, request: Request) -> Mapping[str, str] | None:
    """Return what the condition captured from the request, or None when it does not hold."""
    value = _find_value(condition, request)
    if value is None:
        return None
    captured: Mapping[str, str] = {}
    if condition.pattern is not None:
        found = condition.pattern.match(value)
        if found is None:
            return None
        captured = {name: text for name, text in found.items() if not name.isdigit()}
    if not all(COMPARISONS[name](value, wanted) for name, wanted in condition.comparisons):
        return None
    if captured:
        return captured
    name = condition.key or condition.kind
    return {name: value} if name.isidentifier() else captured


def list_captures(condition: Condition) -> frozenset[str]:
    """Return the names under which a condition gives what it found to the destination."""
    names = frozenset() if condition.pattern is None else condition.pattern.names
    return frozenset(name for name in names if not name.isdigit()) or frozenset({condition.key or condition.kind})


def _find_value(condition: Condition, request: Request) -> str | None:
    match condition.kind:
        case "host":
            return request.host
        case "header":
            raw = request.headers.get(condition.key.encode())
            return None if raw is None else raw.decode("latin-1")
        case "cookie":
            return find_cookie(request.headers.get(b"cookie", b""), condition.key)
        case _:
            return dict(reversed(parse_qsl(request.query, keep_blank_values=True))).get(condition.key)


def find_cookie(header: bytes, name: str) -> str | None:
    """Return the value of the first cookie called `name` (RFC 6265 §4.2.1), without quotes around it."""
    for pair in header.decode("latin-1").split(";"):
        key, separator, value = pair.strip(" \t").partition("=")
        if separator and key == name:
            return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    return None
