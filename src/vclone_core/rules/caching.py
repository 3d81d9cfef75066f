"""How long a browser may keep an answer before it asks again."""

from __future__ import annotations

from typing import Final

from vclone_core.models import FileEntry

IMMUTABLE: Final = b"public, max-age=31536000, immutable"
CHECKED: Final = b"public, max-age=0, must-revalidate"
NEVER: Final = b"no-store"
# What only some may see is kept by nobody on the way (RFC 9111 §5.2.2.7), nor in the browser when access ends.
PRIVATE: Final = b"private, no-store"


def decide_cache_control(entry: FileEntry, status: int, said: bytes | None = None) -> bytes:
    """Return the Cache-Control of a file: `said` by the deployment's own rules, else by its name.

    A fingerprinted name changes with its bytes, so it may be kept for a year; everything else is kept, but checked on
    every visit. An error page is never kept: the file it stands in for may come with the next deployment.
    """
    if status >= 400:
        return CHECKED
    if said is not None:
        return said
    return IMMUTABLE if entry.immutable else CHECKED
