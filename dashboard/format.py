"""How values look on a page."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

STATIC: Final = Path(__file__).parent / "static"


@cache
def static_url(name: str) -> str:
    """Return the address of a static file, which changes with its content so that browsers may keep it for ever."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()
    return f"/static/{name}?{digest[:12]}"


def without_scheme(url: str) -> str:
    return url.partition("://")[2]


def show_size(size_bytes: int | None) -> str:
    """Return a size for people.

    >>> show_size(1_234_567)
    '1.2 MB'
    """
    size = float(size_bytes or 0)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def ago(at: datetime, now: datetime | None = None) -> str:
    """Return how long ago `at` was, in one unit.

    >>> ago(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, 5, tzinfo=UTC))
    '2d ago'
    """
    seconds = ((now or datetime.now(UTC)) - at).total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit} ago"
    return "just now"
