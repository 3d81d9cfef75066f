"""Everything that says how a deployment answers -> one routing table in the Build Output API v3 model.

Sources are a ready `.vercel/output/config.json`, and what the framework and the files themselves imply.
https://vercel.com/docs/build-output-api/configuration
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vclone_core.errors import DetectFailed
from vclone_core.models import Route

PHASES: Final = ("filesystem", "rewrite", "miss", "resource", "hit", "error")
_FILE: Final = ".vercel/output/config.json"
# A page's address has no extension in its last segment: a missing script must be a 404, never a page with status 200.
NAVIGATION: Final = "^/(?:.*/)?[^/.]*$"


@dataclass(frozen=True, slots=True)
class OutputConfig:
    """What a ready output says of itself. `overrides` maps a file's path to (the path it is served at, its type)."""

    routes: tuple[Route, ...] = ()
    overrides: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)


def parse_output_config(text: str) -> OutputConfig:
    """Return what a Build Output v3 config.json says; raise `DetectFailed` with the place of what can't be used."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise _bad("", f"is no JSON ({error})") from error
    if not isinstance(raw, dict) or raw.get("version") != 3:
        raise _bad("version", "must be 3")
    routes = raw.get("routes", [])
    if not isinstance(routes, list):
        raise _bad("routes", "must be a list")
    overrides = raw.get("overrides", {})
    if not isinstance(overrides, dict):
        raise _bad("overrides", "must be an object")
    return OutputConfig(
        tuple(_parse_route(item, f"routes[{index}]") for index, item in enumerate(routes)),
        {name: _parse_override(item, f"overrides.{name}") for name, item in overrides.items()},
    )


def plan_routes(
    *, configured: Iterable[Route], files: Iterable[str], is_single_page: bool, before: Iterable[Route] = ()
) -> tuple[Route, ...]:
    """Return a deployment's routing table.

    `configured` come from the ready output, `before` are put first (plugins). Files are served before any rewrite; a
    single page answers navigations that no file does; a miss shows the nearest 404.html, the deepest folder's first.
    """
    files = frozenset(files)
    table = [*before, *configured]
    table.append(Route(handle="filesystem"))
    if is_single_page and "/index.html" in files:
        table.append(Route(src=NAVIGATION, dest="/index.html", origin="framework"))
    pages = sorted((path for path in files if path.endswith("/404.html")), key=lambda path: (-path.count("/"), path))
    if pages:
        table.append(Route(handle="error"))
    for page in pages:
        folder = re.escape(page.removesuffix("/404.html"))
        table.append(Route(src=f"^{folder}(?:/.*)?$", dest=page, status=404, origin=page))
    return tuple(table)


def _bad(place: str, what: str) -> DetectFailed:
    where = f"{_FILE}: {place}".rstrip(": ")
    return DetectFailed(what=f"{where} {what}", hint="Correct the file, or let the build write it anew.")


def _parse_override(raw: Any, place: str) -> tuple[str | None, str | None]:
    if not isinstance(raw, dict):
        raise _bad(place, "must be an object")
    path, type_ = raw.get("path"), raw.get("contentType")
    if not (path is None or isinstance(path, str)) or not (type_ is None or isinstance(type_, str)):
        raise _bad(place, "must have texts in path and contentType")
    return path, type_


def _parse_route(raw: Any, place: str) -> Route:
    if not isinstance(raw, dict):
        raise _bad(place, "must be an object")
    if "handle" in raw:
        if raw["handle"] not in PHASES:
            raise _bad(f"{place}.handle", f"must be one of {', '.join(PHASES)}")
        return Route(handle=raw["handle"])
    if not isinstance(raw.get("src"), str):
        raise _bad(f"{place}.src", "must be a text")
    values: dict[str, Any] = {"src": raw["src"], "origin": f"config.json {place}"}
    for key, (name, is_right, what, convert) in _FIELDS.items():
        if (value := raw.get(key)) is None:
            continue
        if not is_right(value):
            raise _bad(f"{place}.{key}", f"must be {what}")
        values[name] = convert(value)
    return Route(**values)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_status(value: Any) -> bool:
    return type(value) is int and 100 <= value <= 599


def _is_headers(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_conditions(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


# The fields of a route that mean something here -> (name in `Route`, check, what it must be, conversion). Others, such
# as `middlewarePath` and `locale`, belong to functions and are left out.
_FIELDS: Final[Mapping[str, tuple[str, Any, str, Any]]] = {
    "dest": ("dest", _is_text, "a text", str),
    "headers": ("headers", _is_headers, "an object of texts", dict),
    "status": ("status", _is_status, "an HTTP status", int),
    "methods": ("methods", _is_texts, "a list of texts", tuple),
    "has": ("has", _is_conditions, "a list of conditions", tuple),
    "missing": ("missing", _is_conditions, "a list of conditions", tuple),
    "continue": ("is_continue", _is_flag, "true or false", bool),
    "check": ("check", _is_flag, "true or false", bool),
    "caseSensitive": ("case_sensitive", _is_flag, "true or false", bool),
}
