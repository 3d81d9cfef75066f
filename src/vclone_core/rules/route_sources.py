"""Everything that says how a deployment answers -> one routing table in the Build Output API v3 model.

Sources are a ready `.vercel/output/config.json`, which stands alone; else `vercel.json`, then `_redirects` and
`_headers`, and last what the framework and the files themselves imply.
https://vercel.com/docs/build-output-api/configuration
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from vclone_core.errors import DetectFailed
from vclone_core.models import Route
from vclone_core.rules.headers_file import HeaderRules
from vclone_core.rules.raw_routes import FIELDS, PHASES, Problems, convert_route, is_text, read_fields
from vclone_core.rules.redirects_file import RedirectRules
from vclone_core.rules.templates import escape_template
from vclone_core.rules.vercel_config import VercelConfig

_FILE: Final = ".vercel/output/config.json"
# A page's address has no extension in its last segment: a missing script must be a 404, never a page with status 200.
NAVIGATION: Final = "^/(?:.*/)?[^/.]*$"
_PLAIN: Final = re.compile(r"[^?#%]+")
# They say how files are served, and are none of them.
RULE_FILES: Final = frozenset({"_redirects", "_headers"})


@dataclass(frozen=True, slots=True)
class OutputConfig:
    """What a ready output says of itself. `overrides` maps a file's path to (the path it is served at, its type)."""

    routes: tuple[Route, ...] = ()
    overrides: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sources:
    """What of a deployment says how it answers. With `ready` routes the others don't count."""

    ready: tuple[Route, ...] | None = None
    vercel: VercelConfig = field(default_factory=VercelConfig)
    redirects: RedirectRules = field(default_factory=RedirectRules)
    headers: HeaderRules = field(default_factory=HeaderRules)
    is_single_page: bool = False
    has_clean_urls: bool = False


def parse_output_config(text: str) -> OutputConfig:
    """Return what a Build Output v3 config.json says; raise `DetectFailed` with the places of what can't be used."""
    problems = Problems(_FILE)
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DetectFailed(what=f"{_FILE} is no JSON ({error})", hint=_HINT) from error
    if not isinstance(raw, dict) or raw.get("version") != 3:
        raise DetectFailed(what=f"{_FILE}: version must be 3", hint=_HINT)
    routes, overrides = raw.get("routes", []), raw.get("overrides", {})
    if not isinstance(routes, list):
        problems.add("routes", "must be a list")
    if not isinstance(overrides, dict):
        problems.add("overrides", "must be an object")
    problems.raise_any()
    config = OutputConfig(
        tuple(_read_routes(routes, problems)),
        {name: _read_override(item, f"overrides.{name}", problems) for name, item in overrides.items()},
    )
    problems.raise_any()
    return config


_HINT: Final = "Correct the file, or let the build write it anew."


def _read_routes(routes: Iterable[Any], problems: Problems) -> Iterator[Route]:
    for number, item in enumerate(routes):
        place = f"routes[{number}]"
        if isinstance(item, dict) and "handle" in item:
            if item["handle"] in PHASES:
                yield Route(handle=item["handle"])
            else:
                problems.add(f"{place}.handle", f"must be one of {', '.join(PHASES)}")
            continue
        fields = {"src": (is_text, "a text", str), **FIELDS}
        values = read_fields(item, fields, place, problems, required=("src",), is_strict=False)
        if values is not None:
            yield Route(src=values["src"], **convert_route(values), origin=f"config.json {place}")


def _read_override(raw: Any, place: str, problems: Problems) -> tuple[str | None, str | None]:
    fields = {"path": (is_text, "a text", str), "contentType": (is_text, "a text", str)}
    values = read_fields(raw, fields, place, problems, is_strict=False) or {}
    return values.get("path"), values.get("contentType")


def plan_routes(sources: Sources, files: Iterable[str], *, before: Iterable[Route] = ()) -> tuple[Route, ...]:
    """Return a deployment's routing table; `before` are put first (plugins).

    Redirects come before the files, rewrites behind them. What `vercel.json` says goes before what the other files say:
    its redirects and rewrites are asked first, its headers are said last. A single page answers navigations that
    nothing else does, unless there is a 404.html; a miss shows the nearest 404.html, the deepest folder's first.
    """
    files = frozenset(files)
    if sources.ready is not None:
        return (*before, *sources.ready, Route(handle="filesystem"), *_plan_missing_pages(files))
    vercel, redirects = sources.vercel, sources.redirects
    phases: dict[str, list[Route]] = {name: list(vercel.phases.get(name, ())) for name in PHASES}
    phases["filesystem"] += [
        *redirects.others,
        *_plan_clean_pages(files, is_on=sources.has_clean_urls),
        *_plan_single_page(files, is_on=sources.is_single_page),
    ]
    if vercel.clean_urls:
        phases = {name: [_clean_dest(route, files) for route in routes] for name, routes in phases.items()}
    table = [*before, *sources.headers.routes, *vercel.first, *redirects.forced, *vercel.headers]
    for name, routes in phases.items():
        if routes or name == "filesystem":
            table += [Route(handle=name), *routes]
    return (*table, *_plan_missing_pages(files))


def _plan_clean_pages(files: Collection[str], *, is_on: bool) -> Iterator[Route]:
    """Yield a literal route for each page that is linked without its `.html`; both addresses show it."""
    if is_on:
        for page, clean in clean_pages(path.removeprefix("/") for path in files).items():
            # What would be a query in an address is asked for with its own name.
            if _PLAIN.fullmatch(page):
                dest = escape_template(f"/{page}")
                yield Route(src=f"^/{re.escape(clean)}$", dest=dest, case_sensitive=True, origin="framework")


def _plan_single_page(files: Collection[str], *, is_on: bool) -> Iterator[Route]:
    if not is_on or "/index.html" not in files or "/404.html" in files:
        return
    # Below a folder with its own 404.html nothing is the single page's.
    yield from (replace(route, handle=None) for route in _plan_missing_pages(files) if route.handle is None)
    yield Route(src=NAVIGATION, dest="/index.html", origin="framework")


def _plan_missing_pages(files: Collection[str]) -> Iterator[Route]:
    pages = sorted((path for path in files if path.endswith("/404.html")), key=lambda path: (-path.count("/"), path))
    if pages:
        yield Route(handle="error")
    for page in pages:
        folder = re.escape(page.removesuffix("/404.html"))
        yield Route(src=f"^{folder}(?:/.*)?$", dest=page, status=404, origin=page)


def clean_pages(paths: Iterable[str]) -> dict[str, str]:
    """Return where clean URLs serve each page: without its `.html`. Only pages whose place that changes are named.

    >>> clean_pages(["a.html", "docs/index.html", "b.html", "b", "404.html"])
    {'a.html': 'a'}
    """
    paths = frozenset(paths)
    pages = sorted(path for path in paths if path.endswith(".html"))
    return {
        path: clean
        for path in pages
        if path.rpartition("/")[2] not in _KEPT_PAGES and (clean := path.removesuffix(".html")) not in paths
    }


# An index is found through its folder, and an error page is no page of its own.
_KEPT_PAGES: Final = frozenset({"index.html", "404.html", ".html"})


def _clean_dest(route: Route, files: Collection[str]) -> Route:
    """Return a rewrite that leads to a page's clean place: the file is not called `.html` any more."""
    dest = route.dest
    if dest is None or not dest.startswith("/") or not dest.endswith(".html") or dest in files:
        return route
    return replace(route, dest=dest.removesuffix(".html"))
