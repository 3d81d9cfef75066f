"""Which pushes need no build: by a marker in the commit message, or by the paths that they change.

Each function returns why a push is skipped, as words that end a sentence, or None: it is built.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from vclone_core.rules.globs import match_linear
from vclone_core.rules.workspaces import Packages, find_affecting, find_owner

MARKERS: Final = ("[skip ci]", "[ci skip]", "[skip deploy]", "[deploy skip]", "[skip vclone]", "[vclone skip]")
PATTERNS_LIMIT: Final = 64
PATTERN_LENGTH: Final = 256


def find_marker(message: str | None) -> str | None:
    """Return why a commit message keeps its push from being built.

    >>> find_marker("Mend a typo [Skip CI]")
    'the commit message says [skip ci]'
    """
    lower = (message or "").lower()
    return next((f"the commit message says {marker}" for marker in MARKERS if marker in lower), None)


def check_watch_paths(patterns: Sequence[str]) -> str | None:
    """Say why these can't be watch paths; None when they can."""
    if len(patterns) > PATTERNS_LIMIT:
        return f"may be at most {PATTERNS_LIMIT} patterns"
    for pattern in patterns:
        body = pattern.removeprefix("!")
        if not body or len(body) > PATTERN_LENGTH or any(ord(letter) < 32 for letter in body):
            return f"must be patterns of 1 to {PATTERN_LENGTH} characters"
        if body.startswith(("/", "./", "../")):
            return "are relative to the root of the repository, without / or . before them"
    return None


def is_watched(patterns: Sequence[str], path: str) -> bool:
    """Say whether `path` (from the repository's root) matters: the last pattern that means it decides.

    A pattern means a file, or a folder with all that lies in it; one behind `!` takes paths out. Where the first one
    does, all others matter.

    >>> is_watched(["apps/shop", "!**/*.md"], "apps/shop/src/cart.ts")
    True
    >>> is_watched(["apps/shop", "!**/*.md"], "apps/shop/README.md")
    False
    """
    verdict = patterns[0].startswith("!")
    for pattern in patterns:
        is_out = pattern.startswith("!")
        # A match can only change the verdict to what the pattern says.
        body = pattern.removeprefix("!").rstrip("/")
        if verdict is is_out and (match_linear(body, path) or match_linear(f"{body}/**", path)):
            verdict = not is_out
    return verdict


def decide_watched(patterns: Sequence[str], changed: Collection[str]) -> str | None:
    """Return why a push that changes these paths is skipped, given the project's watch paths."""
    if any(is_watched(patterns, path) for path in changed):
        return None
    return f"none of {_count(changed)} is among the watch paths"


def decide_unaffected(changed: Collection[str], root: str, packages: Packages) -> str | None:
    """Return why a push that changes these paths is skipped for the package at `root`, a key of `packages`.

    Paths and keys start at the repository's root. A path of no package (a lockfile, shared configuration) matters to
    every package; so does any path where two packages have one name, or one has none: then who needs whom isn't known.
    """
    affecting = find_affecting(packages, root)
    if affecting is None:
        return None
    for path in changed:
        owner = find_owner(packages, path)
        if owner is None or owner in affecting:
            return None
    return f"none of {_count(changed)} belongs to {root} or to a package that it depends on"


def _count(changed: Collection[str]) -> str:
    return "the 1 changed file" if len(changed) == 1 else f"the {len(changed):,} changed files"
