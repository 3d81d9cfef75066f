"""Framework definitions: the text of a TOML file -> `Framework`, or every mistake in it, by name and place.

The keys are the tables at the end of this file; docs/howto/add-a-framework.md has an example.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from vclone_core.errors import Invalid


@dataclass(frozen=True, slots=True)
class Detector:
    """One question to a source: a dependency (with a version like `version`), or a file.

    The file's text has `contains`, or imports the JavaScript package `imports`.
    """

    dependency: str | None = None
    version: str | None = None
    file: str | None = None
    contains: str | None = None
    imports: str | None = None


@dataclass(frozen=True, slots=True)
class ConfiguredOutput:
    """An output folder that a project names itself: group 1 of `value` in the first `file` that has it."""

    file: str
    value: str


@dataclass(frozen=True, slots=True)
class Framework:
    """How to recognise, build and serve one kind of project.

    `kind` is what it needs at run time: "static", "server", or "functions" beside static files; `static_when` and
    `static_command` (an expression for the build command) tell the projects that need files only. `language` and its
    `packages` say what is installed beside package.json's.
    `output_prefer` is tried before `output_directory`; in both `*` stands for a folder's only entry; `output_built`
    takes the place of both where a project of this kind has a build command. The build copies
    the files of `copied_from` as they are, so their names say nothing about their content. With `clean_urls` its pages
    link to `/about` where the build writes `about.html`. With `proves_static` only a
    static build makes `output_directory`, so a project of kind "server" is built to see.
    """

    id: str
    name: str
    order: int
    kind: str
    supersedes: tuple[str, ...] = ()
    replaces: bool = False
    is_experimental: bool = False
    is_fallback: bool = False
    every: tuple[Detector, ...] = ()
    some: tuple[Detector, ...] = ()
    static_when: tuple[Detector, ...] = ()
    server_when: tuple[Detector, ...] = ()
    static_command: str | None = None
    language: str | None = None
    packages: tuple[str, ...] = ()
    install_command: str | None = None
    build_command: str | None = None
    ignores_script: bool = False
    build_environment: Mapping[str, str] = field(default_factory=dict)
    output_directory: str = "dist"
    output_prefer: tuple[str, ...] = ()
    output_built: tuple[str, ...] = ()
    output_configured: ConfiguredOutput | None = None
    output_hint: str = ""
    proves_static: bool = False
    single_page: bool = False
    clean_urls: bool = False
    immutable: tuple[str, ...] = ()
    copied_from: str | None = None
    cache_paths: tuple[str, ...] = ()
    public_prefix: str | None = None
    file: str = ""
    distribution: str = ""


class DefinitionText(Protocol):
    """The text of one definition and where it came from."""

    @property
    def file(self) -> str: ...
    @property
    def distribution(self) -> str: ...
    @property
    def text(self) -> str: ...


def parse_frameworks(texts: Iterable[DefinitionText]) -> tuple[tuple[Framework, ...], tuple[str, ...]]:
    """Return the definitions in their order of precedence, and a sentence for each text that is refused.

    A later definition of a known id needs `replaces = true`, or it is refused: nobody takes a framework over unnoticed.
    """
    found: dict[str, Framework] = {}
    problems: list[str] = []
    for text in texts:
        try:
            framework = parse_framework(text.text, file=text.file, distribution=text.distribution)
        except Invalid as error:
            problems.append(error.sentence)
            continue
        if framework.id in found and not framework.replaces:
            problems.append(
                f"{text.file}: {framework.id} is defined in {found[framework.id].file}; say replaces = true."
            )
            continue
        found[framework.id] = framework
    return tuple(sorted(found.values(), key=lambda one: (one.order, one.id))), tuple(problems)


def parse_framework(text: str, *, file: str, distribution: str = "") -> Framework:
    """Return the definition in `text`; raise `Invalid` that names the file and everything wrong in it."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(what=f"{file}: {error}") from error
    problems: list[str] = []
    values: dict[str, Any] = {}
    _read_table(raw, _TOP, "", values, problems)
    for table, keys in _TABLES.items():
        inner = raw.pop(table, {})
        if isinstance(inner, dict):
            _read_table(inner, keys, f"{table}.", values, problems)
        else:
            problems.append(f"{table} must be a table")
    for key in raw:
        problems.append(_unknown(key, (*_TOP, *_TABLES)))
    for key in ("id", "name", "order", "kind"):
        if key not in values:
            problems.append(f"{key} is missing")
    if not problems and not values.get("is_fallback") and not (values.get("every") or values.get("some")):
        problems.append("detect needs `every` or `some`")
    if problems:
        raise Invalid(what=f"{file}: " + "; ".join(problems))
    return Framework(**values, file=file, distribution=distribution)


def _read_table(
    raw: dict[str, Any], keys: Mapping[str, _Key], prefix: str, values: dict[str, Any], problems: list[str]
) -> None:
    """Move what `keys` knows from `raw` to `values`; at the top level the rest is left for the tables."""
    for key in list(raw):
        if key not in keys:
            if prefix:
                problems.append(_unknown(f"{prefix}{key}", tuple(f"{prefix}{known}" for known in keys)))
            continue
        name, read = keys[key]
        try:
            values[name] = read(raw.pop(key))
        except ValueError as error:
            problems.append(f"{prefix}{key} {error}")


def _unknown(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"unknown key {key}" + (f", did you mean {near[0]}?" if near else "")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _number(value: object) -> int:
    if type(value) is not int:
        raise ValueError("must be a whole number")
    return value


def _one_of(*known: str) -> Callable[[object], str]:
    words = " or ".join(f'"{one}"' for one in known)

    def read(value: object) -> str:
        if value not in known:
            raise ValueError(f"must be {words}")
        return _text(value)

    return read


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("must be a list of texts")
    return tuple(value)


def _variables(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError("must be a table of texts")
    return dict(value)


def _expression(value: object) -> str:
    text = _text(value)
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is no regular expression ({error})") from error
    return text


def _record(value: object, keys: Mapping[str, Callable[[object], str]]) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("must be a table")
    for key in value:
        if key not in keys:
            raise ValueError(f"has an {_unknown(key, keys)}")
    return {key: keys[key](item) for key, item in value.items()}


def _detectors(value: object) -> tuple[Detector, ...]:
    if not isinstance(value, list):
        raise ValueError("must be a list of detectors")
    detectors = tuple(Detector(**_record(item, _DETECTOR)) for item in value)
    for one in detectors:
        if (one.dependency is None) == (one.file is None):
            raise ValueError("has a detector without exactly one of dependency and file")
        if (one.version and one.dependency is None) or ((one.contains or one.imports) and one.file is None):
            raise ValueError("has a detector with version without dependency, or contains or imports without file")
    return detectors


def _configured(value: object) -> ConfiguredOutput:
    record = _record(value, {"file": _text, "value": _expression})
    if len(record) != 2 or re.compile(record["value"]).groups != 1:
        raise ValueError("needs file, and value with one group")
    return ConfiguredOutput(**record)


_Key = tuple[str, Callable[[object], Any]]
_DETECTOR: Final[Mapping[str, Callable[[object], str]]] = {
    "dependency": _text,
    "version": _expression,
    "file": _text,
    "contains": _expression,
    "imports": _text,
}
_TOP: Final[Mapping[str, _Key]] = {
    "id": ("id", _text),
    "name": ("name", _text),
    "order": ("order", _number),
    "kind": ("kind", _one_of("static", "server", "functions")),
    "supersedes": ("supersedes", _texts),
    "replaces": ("replaces", _flag),
    "experimental": ("is_experimental", _flag),
    "fallback": ("is_fallback", _flag),
}
_TABLES: Final[Mapping[str, Mapping[str, _Key]]] = {
    "detect": {
        "every": ("every", _detectors),
        "some": ("some", _detectors),
        "static_when": ("static_when", _detectors),
        "server_when": ("server_when", _detectors),
        "static_command": ("static_command", _expression),
    },
    "build": {
        "language": ("language", _one_of("python", "ruby")),
        "packages": ("packages", _texts),
        "install": ("install_command", _text),
        "command": ("build_command", _text),
        "ignores_script": ("ignores_script", _flag),
        "environment": ("build_environment", _variables),
        "public_prefix": ("public_prefix", _text),
    },
    "output": {
        "directory": ("output_directory", _text),
        "prefer": ("output_prefer", _texts),
        "built": ("output_built", _texts),
        "configured": ("output_configured", _configured),
        "hint": ("output_hint", _text),
        "proves_static": ("proves_static", _flag),
    },
    "serve": {
        "single_page": ("single_page", _flag),
        "clean_urls": ("clean_urls", _flag),
        "immutable": ("immutable", _texts),
        "copied_from": ("copied_from", _text),
    },
    "cache": {"paths": ("cache_paths", _texts)},
}
