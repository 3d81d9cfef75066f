"""What a folder's upload leaves out, and how its blobs are packed into requests (deploy flow, before the queue)."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Final

from vclone_core.models import SourceFile

FILE_LIMIT_BYTES: Final = 100 * 1024**2
FILES_LIMIT: Final = 25_000
REQUEST_LIMIT_BYTES: Final = 32 * 1024**2
# A request's overhead is about that of a few hundred small files; more requests let several travel at once.
REQUEST_LIMIT_FILES: Final = 500

# Never part of a source: version control, what installs make again, and what belongs to this computer only.
LEFT_OUT: Final = frozenset(
    {
        ".git", ".hg", ".svn", "CVS", "node_modules", ".venv", "__pycache__",
        ".vclone", ".vercel", ".netlify", ".DS_Store", "Thumbs.db",
    }
)  # fmt: skip
# A finished output may well hold a folder called `node_modules`: there it is content.
LEFT_OUT_OF_OUTPUT: Final = frozenset({".git", ".hg", ".svn", ".vclone", ".DS_Store", "Thumbs.db"})
# Files that show which variables there are, without their values.
_SECRET_PATTERNS: Final = (".env", ".env.*", ".envrc")
_SECRET_EXAMPLES: Final = (".env.example", ".env.sample", ".env.template", ".env.defaults", ".env.dist")


def is_left_out(name: str, *, is_output: bool) -> bool:
    """Say whether a file or folder of this name never travels, at any depth."""
    return name in (LEFT_OUT_OF_OUTPUT if is_output else LEFT_OUT)


def is_secret(name: str) -> bool:
    """Say whether a file of this name holds secrets by convention, so that it stays at home.

    >>> is_secret(".env.production"), is_secret(".env.example"), is_secret("environment.js")
    (True, False, False)
    """
    return name not in _SECRET_EXAMPLES and any(fnmatch.fnmatchcase(name, pattern) for pattern in _SECRET_PATTERNS)


def plan_requests(files: Sequence[SourceFile]) -> list[tuple[SourceFile, ...]]:
    """Pack files into requests of at most 32 MiB and 500 files; a larger file gets a request of its own."""
    requests: list[tuple[SourceFile, ...]] = []
    current: list[SourceFile] = []
    size = 0
    for file in files:
        if current and (size + file.size > REQUEST_LIMIT_BYTES or len(current) == REQUEST_LIMIT_FILES):
            requests.append(tuple(current))
            current, size = [], 0
        current.append(file)
        size += file.size
    return [*requests, tuple(current)] if current else requests
