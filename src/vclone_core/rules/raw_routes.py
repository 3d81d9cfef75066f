"""Reads routes as files spell them: every field checked, every problem kept with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from vclone_core.errors import DetectFailed

PHASES: Final = ("filesystem", "rewrite", "miss", "resource", "hit", "error")
SHOWN: Final = 20


class Problems:
    """What is wrong with one file, place by place, to be told at once."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.found: list[str] = []

    def add(self, place: str, what: str) -> None:
        """Note what is wrong at a place."""
        self.found.append(f"{self._file} {place}{'' if what.startswith(':') else ' '}{what}")

    def raise_any(self) -> None:
        """Raise `DetectFailed` with everything that was noted; nothing happens when nothing was."""
        if self.found:
            more = len(self.found) - SHOWN
            told = [*self.found[:SHOWN], *([f"and {more} more"] if more > 0 else [])]
            raise DetectFailed(what="; ".join(told))


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_status(value: Any) -> bool:
    return type(value) is int and 100 <= value <= 599


def _is_headers(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _is_conditions(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


Field = tuple[Callable[[Any], bool], str, Callable[[Any], Any], str]

# The fields of a route -> check, what it must be, conversion, name in `Route`. Those without a name there belong to
# functions or to other platforms' machinery, and mean nothing here.
FIELDS: Final[Mapping[str, Field]] = {
    "dest": (is_text, "a text", str, "dest"),
    "headers": (_is_headers, "an object of texts", dict, "headers"),
    "status": (_is_status, "an HTTP status", int, "status"),
    "methods": (is_texts, "a list of texts", tuple, "methods"),
    "has": (_is_conditions, "a list of conditions", tuple, "has"),
    "missing": (_is_conditions, "a list of conditions", tuple, "missing"),
    "continue": (_is_flag, "true or false", bool, "is_continue"),
    "check": (_is_flag, "true or false", bool, "check"),
    "caseSensitive": (_is_flag, "true or false", bool, "case_sensitive"),
    "important": (_is_flag, "true or false", bool, "important"),
    "locale": (lambda value: isinstance(value, dict), "an object", dict, ""),
}


def read_fields(
    raw: Any,
    fields: Mapping[str, tuple[Any, ...]],
    place: str,
    problems: Problems,
    *,
    required: Iterable[str] = (),
    is_strict: bool = True,
) -> dict[str, Any] | None:
    """Return an object's checked and converted values, or None after noting what is wrong with it.

    Unless `is_strict`, keys that `fields` does not know are left out.
    """
    if not isinstance(raw, dict):
        problems.add(place, "must be an object")
        return None
    before = len(problems.found)
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in fields:
            if is_strict:
                problems.add(place, f"has {key!r}, which means nothing here")
        elif value is not None:
            is_right, what, convert = fields[key][:3]
            if is_right(value):
                values[key] = convert(value)
            else:
                problems.add(f"{place}.{key}", f"must be {what}")
    for key in required:
        if raw.get(key) is None:
            problems.add(f"{place}.{key}", "is missing")
    return values if len(problems.found) == before else None


def convert_route(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked values of a route under their names in `Route`."""
    return {FIELDS[key][3]: value for key, value in values.items() if key in FIELDS and FIELDS[key][3]}
