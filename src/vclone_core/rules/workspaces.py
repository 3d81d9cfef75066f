"""Workspaces: which packages a repository holds, which of them another one needs, and what builds one of them.

A workspace is a package.json with `workspaces` (npm, yarn, bun), a pnpm-workspace.yaml, or an nx.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vclone_core.rules.frameworks import Listing
from vclone_core.rules.globs import match_linear

PNPM_FILE: Final = "pnpm-workspace.yaml"
NX_FILE: Final = "nx.json"
TURBO_FILES: Final = ("turbo.json", "turbo.jsonc")
ROOT_FILES: Final = ("package.json", PNPM_FILE, NX_FILE, *TURBO_FILES)
GLOB_LENGTH: Final = 256
_DEPENDENCIES: Final = ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies")
_ITEM: Final = re.compile(r"""\s*-\s*(?:'([^']*)'|"([^"]*)"|([^'"#\s][^#]*?))\s*(?:#.*)?""")


@dataclass(frozen=True, slots=True)
class Workspace:
    """The workspace that a root directory is a package of.

    `place` is where its root lies in the repository, `member` leads from there to the package; neither has a slash at
    its ends, and `place` is empty at the repository's root. `listing` has the files beside each other at its root.
    """

    place: str
    member: str
    listing: Listing

    @property
    def up(self) -> str:
        """The way from the package to the workspace's root.

        >>> Workspace("", "apps/web", Listing(frozenset())).up
        '../..'
        """
        return "/".join([".."] * len(self.member.split("/")))


@dataclass(frozen=True, slots=True)
class Package:
    """One package of a workspace: its name, empty where it has none, and the names that it depends on."""

    name: str
    needs: frozenset[str]


Packages = Mapping[str, Package]
"""Packages by their folder, from the repository's root."""


def read_globs(listing: Listing) -> tuple[str, ...]:
    """Return the globs that the workspace at this root names its packages by; empty where it is none.

    A glob behind `!` takes packages out.
    """
    found = [*_read_pnpm(listing.texts.get(PNPM_FILE, "")), *_read_npm(listing.texts.get("package.json", "{}"))]
    tidy = (glob.strip().removeprefix("./").rstrip("/") for glob in found)
    return tuple(glob for glob in tidy if glob and len(glob) <= GLOB_LENGTH and glob.count("*") <= 8)


def is_member(globs: tuple[str, ...], path: str) -> bool:
    """Say whether the folder `path`, from the workspace's root, is a package of it.

    >>> is_member(("apps/*", "!apps/old"), "apps/web"), is_member(("apps/*", "!apps/old"), "apps/old")
    (True, False)
    """
    inside = any(match_linear(glob, path) for glob in globs if not glob.startswith("!"))
    return inside and not any(match_linear(glob[1:].removeprefix("./"), path) for glob in globs if glob.startswith("!"))


def parse_package(text: str) -> Package:
    """Return what a package.json says of its package; one that can't be read has no name."""
    raw = _read_object(text)
    name = raw.get("name")
    tables = [raw.get(key) for key in _DEPENDENCIES]
    needs = frozenset(needed for table in tables if isinstance(table, dict) for needed in table)
    return Package(name if isinstance(name, str) else "", needs)


def find_affecting(packages: Packages, root: str) -> frozenset[str] | None:
    """Return the folders of the package at `root` and of all it depends on; None where that can't be known."""
    places = {package.name: place for place, package in packages.items()}
    if root not in packages or len(places) < len(packages) or "" in places:
        return None
    found: set[str] = set()
    waiting = [root]
    while waiting:
        place = waiting.pop()
        if place not in found:
            found.add(place)
            waiting += [places[name] for name in packages[place].needs if name in places]
    return frozenset(found)


def find_owner(packages: Packages, path: str) -> str | None:
    """Return the folder of the innermost package that holds the file `path`; None: it belongs to none."""
    while "/" in path:
        path = path.rpartition("/")[0]
        if path in packages:
            return path
    return None


def pick_task_runner(workspace: Workspace, scripts: Mapping[str, Any], paths: frozenset[str]) -> tuple[str, str] | None:
    """Return the command by which the workspace's task runner builds a package and what it needs, and why.

    `scripts` and `paths` are the package's. None where there is no task runner, or it has nothing to build.
    """
    there = workspace.listing.paths
    raw = _read_object(workspace.listing.texts.get("package.json", "{}"))
    installed = {name for key in _DEPENDENCIES if isinstance(table := raw.get(key), dict) for name in table}
    if "turbo" in installed and (file := next((name for name in TURBO_FILES if name in there), None)):
        if scripts.get("build"):
            return "turbo run build", f"{file} at the root of the workspace"
    elif "nx" in installed and NX_FILE in there and (scripts.get("build") or "project.json" in paths):
        return "nx build", f"{NX_FILE} at the root of the workspace"
    return None


def _read_npm(text: str) -> Iterator[str]:
    raw = _read_object(text).get("workspaces")
    if isinstance(raw, dict):
        raw = raw.get("packages")
    if isinstance(raw, list):
        yield from (item for item in raw if isinstance(item, str))


def _read_pnpm(text: str) -> Iterator[str]:
    """Yield the items of the list `packages` of a pnpm-workspace.yaml, in block or flow style."""
    lines = iter(text.splitlines())
    for line in lines:
        key, colon, rest = line.partition(":")
        if key.strip("'\"") != "packages" or not colon:
            continue
        rest = rest.partition("#")[0].strip()
        if rest.startswith("["):
            while "]" not in rest and (more := next(lines, None)) is not None:
                rest += more.partition("#")[0].strip()
            yield from (item.strip().strip("'\"") for item in rest.strip("[]").split(",") if item.strip())
            return
        for item in lines:
            if not item.strip() or item.lstrip().startswith("#"):
                continue
            if (found := _ITEM.fullmatch(item)) is None:
                return
            yield found[1] or found[2] or found[3] or ""
        return


def _read_object(text: str) -> dict[str, Any]:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}
