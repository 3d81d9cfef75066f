"""Detection: the definitions and a listing of the source -> one framework, with the reasons and the losers.

Every definition is asked on its own; a match removes those it supersedes; the first survivor by `order` wins.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from vclone_core.errors import DetectFailed
from vclone_core.rules.definitions import Detector, Framework
from vclone_core.rules.globs import match_glob, split_globs

# What the build plan reads, whatever the definitions ask for.
PLAN_FILES: Final = (
    "package.json", "pnpm-lock.yaml", "yarn.lock", ".yarnrc.yml", ".nvmrc", ".node-version",
    ".tool-versions", ".python-version", "pyproject.toml", "Pipfile", "runtime.txt",
)  # fmt: skip

# import … from "x", import "x", import("x") and require("x"), also of a path below the package.
_IMPORT: Final = r"""(?:\bfrom|\bimport|\brequire)\s*\(?\s*['"`]%s(?:/[^'"`\n]*)?['"`]"""


@dataclass(frozen=True, slots=True)
class Listing:
    """A source as the rules see it: relative file paths with `/`, and the texts of the few files they ask for."""

    paths: frozenset[str]
    texts: Mapping[str, str] = field(default_factory=dict)

    def read_package(self) -> Mapping[str, Any]:
        """Return package.json as an object, empty when there is none; raise `DetectFailed` when it can't be read."""
        text = self.texts.get("package.json")
        if text is None:
            return {}
        try:
            package = json.loads(text)
        except ValueError as error:
            raise DetectFailed(what=f"package.json is no JSON: {error}") from error
        if not isinstance(package, dict):
            raise DetectFailed(what="package.json must be an object")
        return package


@dataclass(frozen=True, slots=True)
class Detection:
    """The framework of a source. `losers` are the others that matched: (id, why it lost)."""

    framework: str
    kind: str
    reasons: tuple[str, ...]
    losers: tuple[tuple[str, str], ...]
    definition: Framework


def list_wanted_texts(frameworks: Sequence[Framework]) -> tuple[str, ...]:
    """Return the globs of all files whose text `detect` and the build plan may ask for."""
    asked = [
        detector.file
        for one in frameworks
        for detector in (*one.every, *one.some, *one.static_when, *one.server_when)
        if (detector.contains or detector.imports) and detector.file
    ]
    configured = [one.output_configured.file for one in frameworks if one.output_configured]
    return tuple(dict.fromkeys((*PLAN_FILES, *asked, *configured)))


def detect(listing: Listing, frameworks: Sequence[Framework], *, chosen: str | None = None, why: str = "") -> Detection:
    """Return the framework of a source; `chosen` (an id, with `why`) ends the search before it begins.

    Raises `DetectFailed` when `chosen` is unknown, or nothing matches and no definition is a fallback.
    """
    dependencies = _read_dependencies(listing.read_package())
    by_id = {one.id: one for one in frameworks}
    if chosen is not None:
        if chosen not in by_id:
            near = difflib.get_close_matches(chosen, by_id, n=3) or sorted(by_id)
            raise DetectFailed(
                what=f"there is no framework {chosen}", hint="Known ones: {known}.", known=", ".join(near)
            )
        definition = by_id[chosen]
        return Detection(chosen, _decide_kind(definition, listing, dependencies), (why or "chosen",), (), definition)
    matched = {one.id: found for one in frameworks if (found := _match(one, listing, dependencies)) is not None}
    beaten = _list_superseded(matched, by_id)
    survivors = [one for one in frameworks if one.id in matched and one.id not in beaten]
    if not survivors:
        survivors = [one for one in frameworks if one.is_fallback]
        matched |= {one.id: ("no framework was recognised",) for one in survivors}
    if not survivors:
        raise DetectFailed(what="no framework was recognised")
    winner = survivors[0]
    losers = [(name, f"superseded by {by}") for name, by in beaten.items()]
    losers += [(one.id, f"after {winner.id} in order") for one in survivors[1:]]
    kind = _decide_kind(winner, listing, dependencies)
    return Detection(winner.id, kind, matched[winner.id], tuple(losers), winner)


def find_configured_output(framework: Framework, listing: Listing) -> str | None:
    """Return the output folder that the project's own configuration names, if the definition knows where to look."""
    if (configured := framework.output_configured) is None:
        return None
    for path in _find(configured.file, listing):
        if found := re.search(configured.value, listing.texts.get(path, "")):
            return found[1]
    return None


def _list_superseded(matched: Mapping[str, object], by_id: Mapping[str, Framework]) -> dict[str, str]:
    """Return which matches lose to which other: what a match supersedes, and on through what those supersede."""
    beaten: dict[str, str] = {}
    for winner in matched:
        queue, seen = list(by_id[winner].supersedes), {winner}
        while queue:
            loser = queue.pop()
            if loser in seen:
                continue
            seen.add(loser)
            if loser in matched:
                beaten.setdefault(loser, winner)
            if loser in by_id:
                queue.extend(by_id[loser].supersedes)
    return beaten


def _match(one: Framework, listing: Listing, dependencies: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return why a definition matches, or None. `every` must hold wholly, `some` at least once."""
    if one.is_experimental or not (one.every or one.some):
        return None
    every = [_answer(detector, listing, dependencies) for detector in one.every]
    some = [reason for detector in one.some if (reason := _answer(detector, listing, dependencies))]
    if None in every or (one.some and not some):
        return None
    return tuple(reason for reason in (*every, *some) if reason)


def _answer(detector: Detector, listing: Listing, dependencies: Mapping[str, str]) -> str | None:
    """Return the reason a detector says yes, or None."""
    if detector.dependency is not None:
        version = dependencies.get(detector.dependency)
        if version is None or (detector.version and not re.search(detector.version, version)):
            return None
        return f"package.json depends on {detector.dependency}" + (f" {version}" if detector.version else "")
    for path in _find(detector.file or "", listing):
        text = listing.texts.get(path, "")
        if detector.imports is not None:
            if re.search(_IMPORT % re.escape(detector.imports), text):
                return f"{path} imports {detector.imports}"
        elif detector.contains is None:
            return f"{path} exists"
        elif re.search(detector.contains, text, re.MULTILINE):
            return f"{path} contains {detector.contains}"
    return None


def _find(pattern: str, listing: Listing) -> list[str]:
    """Return the paths that a glob means, in the order of its choices."""
    names, globs = split_globs((pattern,))
    found = [name for name in names if name in listing.paths]
    return found + sorted(path for path in listing.paths if any(match_glob(glob, path) for glob in globs))


def _read_dependencies(package: Mapping[str, Any]) -> dict[str, str]:
    """Return name -> wanted version of what package.json needs; peer and optional dependencies don't count."""
    tables = (package.get("devDependencies"), package.get("dependencies"))
    return {name: str(version) for table in tables if isinstance(table, dict) for name, version in table.items()}


def _decide_kind(definition: Framework, listing: Listing, dependencies: Mapping[str, str]) -> str:
    if any(_answer(detector, listing, dependencies) for detector in definition.static_when):
        return "static"
    if any(_answer(detector, listing, dependencies) for detector in definition.server_when):
        return "server"
    return definition.kind
