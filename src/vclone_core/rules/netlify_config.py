"""`netlify.toml` -> settings of the build, its variables, redirects and headers.

`[context.…]` tables change `[build]` for production (`production`), for previews (`deploy-preview`, `branch-deploy`),
and for one branch (its name), in that order. What can't be used fails the build with its place; a rule that can't be
used is left out and told, as in `_redirects`. https://docs.netlify.com/build/configure-builds/file-based-configuration/
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vclone_core.errors import DetectFailed
from vclone_core.rules.file_settings import FileSettings
from vclone_core.rules.headers_file import HeaderRules, make_headers
from vclone_core.rules.raw_routes import Problems, is_text
from vclone_core.rules.redirects_file import RedirectRules, make_redirects

NAME: Final = "netlify.toml"
COMMAND_LENGTH: Final = 4096
_UNUSED: Final = ("functions", "edge_functions", "plugins", "images", "dev", "database")


@dataclass(frozen=True, slots=True)
class NetlifyConfig:
    """What a `netlify.toml` says. `base` is the root directory it names; `unused` are tables that mean nothing here."""

    settings: FileSettings = field(default_factory=lambda: FileSettings(NAME))
    base: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    redirects: RedirectRules = field(default_factory=RedirectRules)
    headers: HeaderRules = field(default_factory=HeaderRules)
    unused: tuple[str, ...] = ()


def parse_netlify_config(text: str, *, target: str, branch: str | None) -> NetlifyConfig:
    """Return what the file says to a build of `branch` for `target`; raise `DetectFailed` with every place."""
    try:
        raw = tomllib.loads(text.removeprefix("\ufeff"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DetectFailed(what=f"{NAME} is no TOML ({error})") from error
    problems = Problems(NAME)
    build: dict[str, Any] = {}
    environment: dict[str, str] = {}
    for place, table in _list_tables(raw, target, branch, problems):
        for key, value in table.items():
            if key == "environment":
                environment |= _read_environment(value, f"{place}.environment", problems)
            elif key in _BUILD:
                _read_build(key, value, f"{place}.{key}", build, problems)
    redirects = make_redirects(NAME, _list_redirects(raw.get("redirects", []), problems))
    headers = make_headers(NAME, _list_headers(raw.get("headers", []), problems))
    problems.raise_any()
    base = build.pop("base", None)
    settings = {_BUILD[key][0]: value for key, value in build.items()}
    if node := environment.get("NODE_VERSION"):
        settings["node_version"] = node
    unused = tuple(name for name in _UNUSED if raw.get(name))
    return NetlifyConfig(FileSettings(NAME, settings), base, environment, redirects, headers, unused)


def _list_tables(
    raw: Mapping[str, Any], target: str, branch: str | None, problems: Problems
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the tables that speak of this build, with their places, the weakest first."""
    contexts = raw.get("context", {})
    if not isinstance(contexts, dict):
        problems.add("context", "must be a table")
        contexts = {}
    names = ["production"] if target == "production" else ["deploy-preview", "branch-deploy"]
    wanted = [("build", raw.get("build", {}))]
    for name in (*names, *([branch] if branch else [])):
        context = contexts.get(name, {})
        # Both spellings are known: [context.production] and [context.production.build].
        inner = context.get("build", {}) if isinstance(context, dict) else {}
        wanted += [(f"context.{name}", context), (f"context.{name}.build", inner)]
    for place, table in wanted:
        if isinstance(table, dict):
            yield place, table
        else:
            problems.add(place, "must be a table")


def _read_build(key: str, value: Any, place: str, build: dict[str, Any], problems: Problems) -> None:
    if not is_text(value):
        problems.add(place, "must be a text")
    elif problem := _BUILD[key][1](value):
        problems.add(place, problem)
    else:
        build[key] = value


def _check_command(value: str) -> str | None:
    return f"is longer than {COMMAND_LENGTH} characters" if len(value) > COMMAND_LENGTH or "\0" in value else None


def _check_folder(value: str) -> str | None:
    return "must be a folder of the repository" if ".." in value.split("/") or "\0" in value else None


# Key of [build] -> the setting it is, and what is wrong with a value.
_BUILD: Final[Mapping[str, tuple[str, Callable[[str], str | None]]]] = {
    "command": ("build_command", _check_command),
    "ignore": ("ignore_command", _check_command),
    "publish": ("output_directory", _check_folder),
    "base": ("root_directory", _check_folder),
}


def _read_environment(value: Any, place: str, problems: Problems) -> dict[str, str]:
    if not isinstance(value, dict):
        problems.add(place, "must be a table")
        return {}
    found = {}
    for name, text in value.items():
        if isinstance(text, bool):
            found[name] = "true" if text else "false"
        elif isinstance(text, str | int | float) and name.isidentifier() and "\0" not in str(text):
            found[name] = str(text)
        else:
            problems.add(f"{place}.{name}", "must be a variable's name with a text")
    return found


def _list_redirects(raw: Any, problems: Problems) -> Iterator[tuple[str, list[str]]]:
    """Yield each rule as the words of a line of `_redirects`, with its place."""
    for number, item in enumerate(_read_list(raw, "redirects", problems)):
        place = f"redirects[{number}]"
        unknown = item.keys() - _REDIRECT.keys()
        wrong = [key for key, value in item.items() if key in _REDIRECT and not isinstance(value, _REDIRECT[key])]
        if unknown or wrong or "from" not in item or "to" not in item:
            for key in sorted(unknown):
                problems.add(f"{place}.{key}", "is no key of a redirect")
            for key in wrong:
                problems.add(f"{place}.{key}", "has a wrong type")
            for key in ("from", "to"):
                if key not in item:
                    problems.add(place, f"needs {key}")
            continue
        yield place, _spell_redirect(item)


_REDIRECT: Final[Mapping[str, type | tuple[type, ...]]] = {
    "from": str, "to": str, "status": int, "force": bool, "query": dict, "conditions": dict, "headers": dict,
    "signed": str, "rate_limit": dict, "edge_handler": str,
}  # fmt: skip


def _spell_redirect(item: Mapping[str, Any]) -> list[str]:
    query = [f"{key}={value}" if value else str(key) for key, value in item.get("query", {}).items()]
    conditions = [
        f"{key}={','.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in item.get("conditions", {}).items()
    ]
    # They change what the rule does, so that a rule without them would be another one.
    conditions += [f"{key}=" for key in ("signed", "rate_limit", "edge_handler", "headers") if item.get(key)]
    status = f"{item.get('status', 301)}{'!' if item.get('force') else ''}"
    return [item["from"], *query, item["to"], status, *conditions]


def _list_headers(raw: Any, problems: Problems) -> Iterator[tuple[str, str]]:
    """Yield each block as the lines of a `_headers`, with its place."""
    for number, item in enumerate(_read_list(raw, "headers", problems)):
        place = f"headers[{number}]"
        path, values = item.get("for"), item.get("values")
        is_path = isinstance(path, str) and path.startswith(("/", "http://", "https://"))
        if not is_path or not isinstance(values, dict):
            problems.add(place, "needs for, a path from /, and the table values")
            continue
        yield place, str(path)
        for name, value in values.items():
            texts = value if isinstance(value, list) else [value]
            if not _FIELD.fullmatch(name) or not all(map(is_text, texts)):
                problems.add(f"{place}.values.{name}", "must be a header field with a text")
                continue
            # A field on several lines is one with several values.
            yield from ((place, f"{name}: {' '.join(text.split())}") for text in texts)


_FIELD: Final = re.compile(r"[A-Za-z0-9_-]+")


def _read_list(raw: Any, key: str, problems: Problems) -> Iterator[dict[str, Any]]:
    if not isinstance(raw, list):
        problems.add(key, "must be a list of tables")
        return
    for number, item in enumerate(raw):
        if isinstance(item, dict):
            yield item
        else:
            problems.add(f"{key}[{number}]", "must be a table")
