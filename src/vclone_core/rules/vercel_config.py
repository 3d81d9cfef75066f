"""`vercel.json` -> routes: redirects, rewrites, headers, cleanUrls, trailingSlash, and `routes`; and the build's keys.

Whatever else the file says belongs to other platforms' machinery. https://vercel.com/docs/project-configuration
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from vclone_core.errors import DetectFailed, Invalid
from vclone_core.models import Route
from vclone_core.rules.conditions import compile_condition, list_captures
from vclone_core.rules.file_settings import FileSettings
from vclone_core.rules.globs import match_linear
from vclone_core.rules.pathpatterns import PathPattern, compile_path, fill_names, fill_template, list_names
from vclone_core.rules.raw_routes import FIELDS, PHASES, Problems, convert_route, is_text, read_fields
from vclone_core.rules.tables import compile_rule

NAME: Final = "vercel.json"
COMMAND_LENGTH: Final = 4096
NAME_LENGTH: Final = 256

# With clean URLs a page has one address: without `.html`, without `index`.
INDEX_SOURCE: Final = "^/(?:(.+)/)?index(?:\\.html)?/?$"
HTML_SOURCE: Final = "^/(.+)\\.html/?$"
# A file keeps its name, and what stands below `.well-known` is fetched by programs that follow no redirect.
NO_SLASH_SOURCE: Final = "^/(?!\\.well-known(?:/|$))((?:[^/]+/)*[^/.]+)$"
FILE_SLASH_SOURCE: Final = "^/(?!\\.well-known/)((?:[^/]+/)*[^/]+\\.[A-Za-z0-9_]+)/$"
SLASH_SOURCE: Final = "^/(.+)/$"

_REDIRECTS: Final = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class VercelConfig:
    """What a `vercel.json` says of builds and of routing.

    `settings` are the build's; `deployed` says of branches, by name or glob, whether their pushes are deployed.
    `first` are its redirects and whatever else comes before the files, `headers` come behind them; `phases` are for
    later. With `clean_urls` a page is served without its `.html`.
    """

    first: tuple[Route, ...] = ()
    headers: tuple[Route, ...] = ()
    phases: Mapping[str, tuple[Route, ...]] = field(default_factory=dict)
    clean_urls: bool = False
    settings: FileSettings = field(default_factory=lambda: FileSettings(NAME))
    deployed: Mapping[str, bool] = field(default_factory=dict)


def parse_vercel_config(text: str) -> VercelConfig:
    """Return what the file says; raise `DetectFailed` with the places of everything in it that can't be used."""
    try:
        raw = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise DetectFailed(what=f"{NAME} is no JSON ({error})") from error
    if not isinstance(raw, dict):
        raise DetectFailed(what=f"{NAME} must be an object")
    problems = Problems(NAME)
    flags = {key: _read_flag(raw, key, problems) for key in ("cleanUrls", "trailingSlash")}
    legacy = _read_routes(raw.get("routes"), problems)
    redirects = [*_read_list(raw, "redirects", _make_redirect, problems)]
    headers = [*_read_list(raw, "headers", _make_headers, problems)]
    rewrites = [*_read_list(raw, "rewrites", _make_rewrite, problems)]
    settings = _read_settings(raw, problems)
    deployed = _read_deployed(raw.get("git"), problems)
    problems.raise_any()
    slash = flags["trailingSlash"]
    first = [*_clean_urls(flags["cleanUrls"], slash), *_trailing_slash(slash), *legacy.pop("", ()), *redirects]
    filesystem = (*legacy.pop("filesystem", ()), *rewrites)
    return VercelConfig(
        tuple(first),
        tuple(headers),
        {"filesystem": filesystem, **legacy},
        clean_urls=flags["cleanUrls"] is True,
        settings=FileSettings(NAME, settings),
        deployed=deployed,
    )


def is_branch_deployed(config: VercelConfig, branch: str | None) -> bool:
    """Say whether a push of `branch` is deployed: `git.deploymentEnabled`, where the branch's own name comes first."""
    named = {name: flag for name, flag in config.deployed.items() if name == branch}
    matching = {name: flag for name, flag in config.deployed.items() if branch and match_linear(name, branch)}
    return next(iter((named or matching).values()), True)


# Key of the file -> the project setting that it is.
_SETTINGS: Final = {
    "buildCommand": "build_command",
    "installCommand": "install_command",
    "outputDirectory": "output_directory",
    "ignoreCommand": "ignore_command",
    "framework": "framework",
}


def _read_settings(raw: Mapping[str, Any], problems: Problems) -> dict[str, str]:
    """Return the settings that the file says; null means the default, but of `framework`: none."""
    found: dict[str, str] = {}
    for key, name in _SETTINGS.items():
        value = raw.get(key)
        if key == "framework" and key in raw and value is None:
            found[name] = "static"
        elif value is None:
            continue
        elif not isinstance(value, str) or len(value) > COMMAND_LENGTH or "\0" in value:
            problems.add(key, f"must be a text of at most {COMMAND_LENGTH} characters, or null")
        else:
            found[name] = value
    return found


def _read_deployed(raw: Any, problems: Problems) -> dict[str, bool]:
    """Return which branches `git.deploymentEnabled` speaks of, by name or glob; `**` is every branch."""
    said = raw.get("deploymentEnabled") if isinstance(raw, dict) else None
    if said is None:
        return {}
    if isinstance(said, bool):
        return {"**": said}
    if not isinstance(said, dict) or not all(isinstance(flag, bool) for flag in said.values()):
        problems.add("git.deploymentEnabled", "must be true, false, or an object of branches with true or false")
        return {}
    return {name: flag for name, flag in said.items() if len(name) <= NAME_LENGTH}


def _clean_urls(is_on: bool | None, slash: bool | None) -> Iterator[Route]:
    location = "/$1/" if slash else "/$1"
    for source in (INDEX_SOURCE, HTML_SOURCE) if is_on else ():
        yield _redirect(source, location, "cleanUrls")


def _trailing_slash(is_on: bool | None) -> Iterator[Route]:
    if is_on:
        yield _redirect(NO_SLASH_SOURCE, "/$1/", "trailingSlash")
        yield _redirect(FILE_SLASH_SOURCE, "/$1", "trailingSlash")
    elif is_on is False:
        yield _redirect(SLASH_SOURCE, "/$1", "trailingSlash")


def _redirect(source: str, location: str, key: str) -> Route:
    return Route(src=source, status=308, headers={"Location": location}, origin=f"{NAME} {key}")


def _read_flag(raw: Mapping[str, Any], key: str, problems: Problems) -> bool | None:
    value = raw.get(key)
    if value is None or isinstance(value, bool):
        return value
    problems.add(key, "must be true or false")
    return None


def _read_list(raw: Mapping[str, Any], key: str, make: Any, problems: Problems) -> Iterator[Route]:
    """Yield the routes of one of the file's lists; what is wrong with the others is noted."""
    items = raw.get(key)
    if items is None:
        return
    if not isinstance(items, list):
        problems.add(key, "must be a list")
        return
    for number, item in enumerate(items):
        place = f"{key}[{number}]"
        required = ("source", "headers" if key == "headers" else "destination")
        values = read_fields(item, _ITEMS[key], place, problems, required=required)
        if values is None:
            continue
        try:
            route = replace(
                make(values), has=values.get("has", ()), missing=values.get("missing", ()), origin=f"{NAME} {place}"
            )
            compile_rule(number, route)
        except Invalid as error:
            problems.add(place, f": {error.facts.get('what', error)}")
        else:
            yield route


_CONDITIONS: Final = {"has": FIELDS["has"], "missing": FIELDS["missing"]}
_STATUS: Final = FIELDS["status"]
_TEXT: Final = (is_text, "a text", str)


def _is_headers(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, dict) and item.keys() == {"key", "value"} and all(map(is_text, item.values()))
        for item in value
    )


# What the items of each list may say: check, what it must be, conversion.
_ITEMS: Final[Mapping[str, Mapping[str, Any]]] = {
    "redirects": {
        "source": _TEXT,
        "destination": _TEXT,
        "permanent": FIELDS["continue"],
        "statusCode": (lambda value: value in _REDIRECTS, f"one of {', '.join(map(str, _REDIRECTS))}", int),
        **_CONDITIONS,
    },
    "rewrites": {
        "source": _TEXT,
        "destination": _TEXT,
        "statusCode": _STATUS,
        "respectOriginCacheControl": FIELDS["continue"],
        **_CONDITIONS,
    },
    "headers": {"source": _TEXT, "headers": (_is_headers, "a list of objects with key and value", list), **_CONDITIONS},
}


def _make_redirect(values: Mapping[str, Any]) -> Route:
    if "permanent" in values and "statusCode" in values:
        raise Invalid(what="permanent and statusCode say the same thing twice")
    pattern = _compile_source(values["source"])
    places = _find_places(pattern, values.get("has", ()))
    status = values.get("statusCode", 308 if values.get("permanent", True) else 307)
    location = _fill_destination(values["destination"], places, is_redirect=True)
    return Route(src=pattern.source, status=status, headers={"Location": location})


def _make_rewrite(values: Mapping[str, Any]) -> Route:
    pattern = _compile_source(values["source"])
    places = _find_places(pattern, values.get("has", ()))
    dest = _fill_destination(values["destination"], places, is_redirect=False)
    return Route(src=pattern.source, dest=dest, check=True, status=values.get("statusCode"))


def _make_headers(values: Mapping[str, Any]) -> Route:
    pattern = _compile_source(values["source"])
    places = _find_places(pattern, values.get("has", ()))
    headers = {fill_names(item["key"], places): fill_names(item["value"], places) for item in values["headers"]}
    return Route(src=pattern.source, headers=headers, is_continue=True)


def _compile_source(source: str) -> PathPattern:
    return compile_path(source if source[:1] in ("/", "(", ":", "{") else f"/{source}")


def _find_places(pattern: PathPattern, has: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return where each name of the source and of its conditions is found: names of conditions win."""
    places = {name: f"${number}" for number, name in enumerate(pattern.names, 1) if name is not None}
    for raw in has:
        places |= {name: f"${name}" for name in list_captures(compile_condition(raw)) if name.isidentifier()}
    return places


_URL: Final = re.compile(
    r"(?P<scheme>(?:[A-Za-z][A-Za-z0-9+.-]*:)?//)?(?P<user>(?(scheme)(?:[^/?#@]*@)?))"
    r"(?P<host>(?(scheme)[^/?#]*?(?=(?::[0-9]+)?(?:[/?#]|\Z))))(?P<port>(?(scheme)(?::[0-9]+)?))"
    r"(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#(?P<hash>.*))?",
    re.DOTALL,
)


def _fill_destination(destination: str, places: Mapping[str, str], *, is_redirect: bool) -> str:
    """Return a destination with its names replaced.

    A rewrite whose path has none of them gets them as query parameters, so that a server behind it can read them.
    """
    # Optional parameters of a template (`/:id?`) are no queries.
    marked = _MARKED.sub(lambda found: f"{found[1]}\0", destination)
    found = _URL.fullmatch(marked)
    assert found is not None  # every text is one
    parts = {name: (text or "").replace("\0", "?") for name, text in found.groupdict().items()}
    if not parts["scheme"] and not parts["path"].startswith(("/", "$", ":")) and not is_redirect:
        raise Invalid(what=f"the destination {destination!r} is neither a path nor an http(s) address")
    if parts["scheme"] not in ("", "//", "http://", "https://"):
        raise Invalid(what=f"the destination {destination!r} is neither a path nor an http(s) address")
    pairs = [pair.partition("=") for pair in parts["query"].split("&")] if parts["query"] else []
    used = list_names(parts["path"]) | list_names(parts["host"])
    asked = used | frozenset().union(*(list_names(value) for _, _, value in pairs))
    if unknown := sorted(asked - places.keys()):
        raise Invalid(what=f"the destination asks for :{unknown[0]}, which neither the source nor has gives")
    used |= list_names(parts["hash"])
    text = f"{parts['scheme']}{parts['user']}{fill_template(parts['host'], places)}{parts['port']}"
    path = fill_template(parts["path"], places)
    text += path or ("/" if parts["scheme"] and not is_redirect else "")
    said = [f"{key}{equals}{fill_template(value, places)}" for key, equals, value in pairs]
    if not is_redirect and used.isdisjoint(places):
        keys = {key for key, _, _ in pairs}
        said += [f"{name}={place}" for name, place in places.items() if name not in keys]
    query = f"?{'&'.join(said)}" if said else ""
    return text + query + (f"#{fill_template(parts['hash'], places)}" if parts["hash"] else "")


_MARKED: Final = re.compile(r"(:[A-Za-z0-9_]+)\?(?=[/#]|\Z)")


def _read_routes(raw: Any, problems: Problems) -> dict[str, tuple[Route, ...]]:
    """Return the file's `routes` by phase."""
    if raw is None:
        return {}
    if not isinstance(raw, list):
        problems.add("routes", "must be a list")
        return {}
    phases: dict[str, list[Route]] = {"": []}
    phase = ""
    for number, item in enumerate(raw):
        place = f"routes[{number}]"
        if isinstance(item, dict) and "handle" in item:
            if item["handle"] not in PHASES or len(item) > 1:
                problems.add(f"{place}.handle", f"must stand alone, and be one of {', '.join(PHASES)}")
            elif item["handle"] in phases:
                problems.add(f"{place}.handle", "is there already")
            else:
                phase = item["handle"]
                phases[phase] = []
            continue
        values = read_fields(_rename(item, place, problems), _ROUTE, place, problems, required=("src",))
        if values is None:
            continue
        route = _make_route(values, place)
        try:
            _check_phase(route, phase)
            compile_rule(number, route)
        except Invalid as error:
            problems.add(place, f": {error.facts.get('what', error)}")
        else:
            phases[phase].append(route)
    return {name: tuple(routes) for name, routes in phases.items()}


_ROUTE: Final = {"src": _TEXT, **FIELDS, "override": FIELDS["continue"]}
_ALIASES: Final = {"source": "src", "destination": "dest", "statusCode": "status"}


def _rename(item: Any, place: str, problems: Problems) -> Any:
    if not isinstance(item, dict):
        return item
    for alias in _ALIASES.keys() & item.keys():
        if _ALIASES[alias] in item:
            problems.add(place, f"says both {_ALIASES[alias]} and {alias}")
    return {_ALIASES.get(key, key): value for key, value in item.items()}


def _make_route(values: Mapping[str, Any], place: str) -> Route:
    source = values["src"].replace("\\/", "/")
    body = source.removeprefix("^")
    # `about` stands for `/about`.
    source = f"^/{body}" if body[:1].isalnum() else source
    return Route(src=source, **convert_route(values), origin=f"{NAME} {place}")


def _check_phase(route: Route, phase: str) -> None:
    if phase == "hit" and (route.dest is not None or route.status is not None or not route.is_continue):
        raise Invalid(what="behind handle hit a route may only say headers, with continue")
    if phase == "miss" and not (route.check if route.dest is not None else route.is_continue):
        raise Invalid(what="behind handle miss a route needs check with a dest, or continue without one")
