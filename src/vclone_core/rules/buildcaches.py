"""What of a build is kept for the next one: which folders, under which keys, who may read them, and what goes first.

A cache is written by the commands of strangers, so it is read by builds of the same trust only: production's by
production, previews' by previews, those of another repository's pull requests by that repository's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vclone_core.models import Source, Target
from vclone_core.rules.buildplan import BuildPlan
from vclone_core.rules.output import check_path

# What one archive may hold and weigh, and what a project may keep in all.
MAX_FILES: Final = 150_000
MAX_BYTES: Final = 3 * 1024**3
MAX_ARCHIVE_BYTES: Final = 768 * 1024**2
PROJECT_BYTES: Final = 3 * 1024**3
KEPT_DAYS: Final = 30
DAY_S: Final = 86_400
# The files that decide what an install makes. Their bytes are part of the key.
KEY_FILES: Final = (
    "**/package.json", "{package-lock,npm-shrinkwrap}.json", "**/{yarn,bun}.lock", "bun.lockb", ".npmrc",
    "**/package-lock.json", "**/pnpm-lock.yaml", "pnpm-workspace.yaml", ".yarnrc{,.yml}", ".nvmrc", ".node-version",
    ".tool-versions", "**/requirements*.txt", "**/{uv,poetry,Pipfile,Gemfile}.lock", "pyproject.toml", "Pipfile",
    "patches/**",
)  # fmt: skip


class CacheKind(StrEnum):
    """What a cache holds."""

    MODULES = "modules"  # installed packages, of use to exactly the same lockfile
    PACKAGES = "packages"  # the package manager's own store, of use to any lockfile
    TOOLS = "tools"  # a Node.js or a package manager that the machine lacks
    FRAMEWORK = "framework"  # what the framework remembers of its last build


class Base(StrEnum):
    """Where a cache's folders lie in the workspace."""

    SOURCE = "source"
    STORE = "cache"


@dataclass(frozen=True, slots=True)
class CachePlan:
    """One archive: the folders below `base` that it holds, its key below the project's caches, and what may stand in.

    A path may be `**/NAME`: every outermost folder of that name. `fallback` is the prefix of the keys whose newest one
    is read where the exact one is missing; None: nothing else is of use. With `is_rewritten` each build writes it.
    """

    kind: CacheKind
    base: Base
    paths: tuple[str, ...]
    key: str
    fallback: str | None = None
    is_rewritten: bool = False


# Package manager -> the variables that name its store, each with a folder's name. The stores lie beside the source.
_STORES: Final[Mapping[str, Mapping[str, str]]] = {
    "npm": {"npm_config_cache": "npm"},
    "pnpm": {"npm_config_store_dir": "pnpm", "pnpm_config_store_dir": "pnpm", "npm_config_cache": "npm"},
    "yarn": {"YARN_CACHE_FOLDER": "yarn"},
    "berry": {"YARN_GLOBAL_FOLDER": "yarn"},
    "bun": {"BUN_INSTALL_CACHE_DIR": "bun"},
    "pip": {"PIP_CACHE_DIR": "pip"},
    "uv": {"UV_CACHE_DIR": "uv"},
    "poetry": {"POETRY_CACHE_DIR": "poetry"},
    "pipenv": {"PIPENV_CACHE_DIR": "pipenv", "PIP_CACHE_DIR": "pip"},
    "bundler": {},
}
# Package manager -> where it installs, where that can be moved from one folder to another. Python's environments and
# pnpm's links name the folder they were made in.
_MODULES: Final[Mapping[str, str]] = {"npm": "**/node_modules", "yarn": "**/node_modules", "bun": "**/node_modules"}
# Installs that begin by removing what is there -> the same for what is there already and may be right.
_REUSING: Final = {
    "npm ci --no-audit --no-fund": "npm install --no-audit --no-fund --prefer-offline",
    "yarn install --frozen-lockfile": "yarn install --frozen-lockfile --prefer-offline",
    "bun install --frozen-lockfile": "bun install --frozen-lockfile",
}
TOOLS: Final = "tools"


def trust_of(target: Target, source: Source) -> str:
    """Return whose caches a deployment reads and writes, as one segment of a key.

    >>> trust_of(Target.PREVIEW, Source("git"))
    'preview'
    """
    if source.fork is not None:
        return f"fork-{_digest(source.fork)}"
    return Target(target).value


def name_manager(plan: BuildPlan) -> str | None:
    """Return the plan's package manager, the two kinds of Yarn told apart."""
    is_berry = plan.package_manager == "yarn" and (plan.provision or "").startswith("@yarnpkg/")
    return "berry" if is_berry else plan.package_manager


def plan_caches(
    plan: BuildPlan, *, trust: str, branch: str | None, root: str, cache_paths: Sequence[str], lock: str, tools: str
) -> tuple[CachePlan, ...]:
    """Return the caches of a build, in the order in which they are laid out.

    `root` is the root directory below the source (`.`: none), `cache_paths` are the framework's, `lock` is the digest
    of `KEY_FILES`, `tools` names the versions of the programs in use.
    """
    manager = name_manager(plan)
    found: list[CachePlan] = []
    if plan.install_command is not None:
        if tools:
            found.append(
                CachePlan(CacheKind.TOOLS, Base.STORE, (TOOLS,), f"{trust}/{CacheKind.TOOLS}/{_digest(tools)}")
            )
        key = _digest(lock, tools, plan.install_command, root)
        if manager is not None and manager in _MODULES and reuse_command(plan.install_command) is not None:
            modules = f"{trust}/{CacheKind.MODULES}/{key}"
            found.append(CachePlan(CacheKind.MODULES, Base.SOURCE, (_MODULES[manager],), modules))
        prefix = f"{trust}/{CacheKind.PACKAGES}/{manager}-"
        if manager == "bundler":
            gems = (_join(root, "vendor/bundle"),)
            found.append(CachePlan(CacheKind.PACKAGES, Base.SOURCE, gems, f"{prefix}{key}", prefix))
        elif manager is not None and manager in _STORES:
            paths = tuple(dict.fromkeys(_STORES[manager].values()))
            found.append(CachePlan(CacheKind.PACKAGES, Base.STORE, paths, f"{prefix}{key}", prefix))
    own = tuple(_join(root, path) for path in cache_paths if check_path(path) is None and path != "vendor/bundle")
    if own and plan.build_command is not None:
        prefix = f"{trust}/{CacheKind.FRAMEWORK}/{_digest(plan.framework, root)}-"
        found.append(
            CachePlan(
                CacheKind.FRAMEWORK, Base.SOURCE, own, f"{prefix}{_digest(branch or '')}", prefix, is_rewritten=True
            )
        )
    return tuple(found)


def list_stores(plan: BuildPlan) -> dict[str, str]:
    """Return the variables that tell the plan's package manager where its store is, with the folders' names."""
    return dict(_STORES.get(name_manager(plan) or "", {}))


def reuse_command(command: str) -> str | None:
    """Return an install command as it is run over packages that were restored; None where they would be of no use.

    >>> reuse_command("cd web && npm ci --no-audit --no-fund")
    'cd web && npm install --no-audit --no-fund --prefer-offline'
    """
    for clean, again in _REUSING.items():
        if clean in command:
            return command.replace(clean, again)
    return None


@dataclass(frozen=True, slots=True)
class Stored:
    """One archive in the store."""

    key: str
    size: int
    modified_s: float


def pick_newest(stored: Iterable[Stored]) -> Stored | None:
    """Return the one that was written last."""
    return max(stored, key=lambda one: (one.modified_s, one.key), default=None)


def list_removable(stored: Iterable[Stored], *, now_s: float, limit_bytes: int = PROJECT_BYTES) -> list[str]:
    """Return the keys of what a project may not keep: too old, or the oldest of what is too much."""
    removable: list[str] = []
    total = 0
    for one in sorted(stored, key=lambda one: (-one.modified_s, one.key)):
        total += one.size
        if total > limit_bytes or one.modified_s < now_s - KEPT_DAYS * DAY_S:
            removable.append(one.key)
    return removable


def check_member(path: str, *, link: str | None = None) -> str | None:
    """Say why an archive's entry can't be laid out; None when it can. `link` is where a symbolic link leads.

    A link must stay within the folder that the archive is laid out in.
    """
    if (problem := _check_member_path(path)) is not None:
        return problem
    if link is None:
        return None
    if not link or link.startswith("/") or "\0" in link or len(link) > _LINK_LENGTH:
        return "is a link that leads elsewhere"
    depth = path.count("/")
    for segment in link.split("/"):
        depth += -1 if segment == ".." else 0 if segment in ("", ".") else 1
        if depth < 0:
            return "is a link that leads elsewhere"
    return None


_LINK_LENGTH: Final = 4096
_MEMBER_DEPTH: Final = 64


def _check_member_path(path: str) -> str | None:
    segments = path.split("/")
    if any(segment in ("", ".", "..") for segment in segments) or "\0" in path:
        return "is not a plain relative path"
    if len(path) > _LINK_LENGTH or len(segments) > _MEMBER_DEPTH or any(len(one) > 255 for one in segments):
        return "is too long a path"
    return None


def _join(root: str, path: str) -> str:
    return path if root in ("", ".") else f"{root}/{path}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def digest_files(files: Mapping[str, bytes]) -> str:
    """Return one digest of the names and bytes of some files."""
    whole = hashlib.sha256()
    for path, content in sorted(files.items()):
        whole.update(f"{path}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return whole.hexdigest()


def describe_tools(fetched_node: str | None, provision: str | None, machine: str) -> str:
    """Return the programs of a build as a text that changes when one of them does.

    >>> describe_tools("22", "pnpm@9", "x86_64 20.20.2")
    'x86_64 20.20.2 node 22 pnpm@9'
    """
    return " ".join(filter(None, (machine, f"node {fetched_node}" if fetched_node else "", provision)))
