"""Which package manager a JavaScript project uses, and the commands that follow from it. Asked by the build plan."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vclone_core.rules.frameworks import Listing


@dataclass(frozen=True, slots=True)
class PackageManager:
    """A package manager as a project pins it.

    `provision` names the npm package (or, as `pypi:NAME`, the PyPI one) that brings the program to a machine without
    it; None: the language brings it. `prefix` is written before a framework's own build command.
    """

    name: str
    install_command: str
    provision: str | None
    reason: str
    prefix: str = ""

    def run_script(self, script: str) -> str:
        """Return the command that runs a script of package.json."""
        return f"{self.name} run {script}"


# In the order of preference where several lockfiles lie side by side, which is Vercel's.
LOCKFILES: Final[tuple[tuple[str, str], ...]] = (
    ("bun.lock", "bun"),
    ("bun.lockb", "bun"),
    ("yarn.lock", "yarn"),
    ("pnpm-lock.yaml", "pnpm"),
    ("package-lock.json", "npm"),
    ("npm-shrinkwrap.json", "npm"),
)
_LOCKED: Final = {
    "npm": "npm ci --no-audit --no-fund",
    "pnpm": "pnpm install --frozen-lockfile",
    "yarn": "yarn install --frozen-lockfile",
    "bun": "bun install --frozen-lockfile",
}
_UNLOCKED: Final = {
    "npm": "npm install --no-audit --no-fund",
    "pnpm": "pnpm install --no-frozen-lockfile",
    "yarn": "yarn install",
    "bun": "bun install",
}
# The lockfile's version tells the program's: https://pnpm.io/installation#compatibility and pnpm's release notes.
_PNPM_OF_LOCK: Final = {"5.3": "6", "5.4": "7", "6.0": "8", "6.1": "8", "7.0": "9", "9.0": "9"}
_YARN_OF_LOCK: Final = {"4": "2.4.3", "5": "2.4.3", "6": "3", "7": "3"}
_PINNED: Final = re.compile(r"(npm|pnpm|yarn|bun)@(\d+(?:\.\d+){0,2}(?:-[0-9A-Za-z.-]+)?)(?:\+.*)?")


def pick_package_manager(listing: Listing, package: Mapping[str, Any]) -> PackageManager | None:
    """Return the manager by lockfile, else by the `packageManager` field, else npm; None without a package.json."""
    if "package.json" not in listing.paths:
        return None
    pinned = _PINNED.fullmatch(str(package.get("packageManager", "")))
    lockfile, name = next(((file, name) for file, name in LOCKFILES if file in listing.paths), (None, None))
    if name == "yarn" and {"bun.lock", "bun.lockb"} & listing.paths:
        name = "bun"
    if name is None and not pinned and "pnpm-workspace.yaml" in listing.paths:
        name, reason = "pnpm", "pnpm-workspace.yaml exists"
    elif name is None:
        name = pinned[1] if pinned else "npm"
        reason = "package.json names it" if pinned else "there is no lockfile"
    else:
        reason = f"{lockfile} exists"
    version = pinned[2] if pinned and pinned[1] == name else None
    is_berry = name == "yarn" and _is_berry(listing, version)
    install = (_LOCKED if lockfile else _UNLOCKED)[name]
    if is_berry:
        # Without the word it refuses to write a lockfile wherever CI is set.
        install = f"yarn install {'--immutable' if lockfile else '--no-immutable'}"
    return PackageManager(name, install, _provision(name, version, listing, is_berry=is_berry), reason)


def _is_berry(listing: Listing, version: str | None) -> bool:
    if version is not None:
        return not version.startswith(("0.", "1.")) and version != "1"
    return "__metadata:" in listing.texts.get("yarn.lock", "") or ".yarnrc.yml" in listing.paths


def _provision(name: str, version: str | None, listing: Listing, *, is_berry: bool) -> str | None:
    match name:
        case "pnpm":
            found = re.search(r"(?m)^lockfileVersion: *['\"]?(\d+\.\d+)", listing.texts.get("pnpm-lock.yaml", ""))
            return f"pnpm@{version or _PNPM_OF_LOCK.get(found[1] if found else '', '9')}"
        case "yarn" if is_berry:
            found = re.search(r"(?m)^__metadata:\s+version: *(\d+)", listing.texts.get("yarn.lock", ""))
            return f"@yarnpkg/cli-dist@{version or _YARN_OF_LOCK.get(found[1] if found else '', '4')}"
        case "yarn":
            return f"yarn@{version or '1'}"
        case "bun":
            return f"bun@{version or '1'}"
    return None
