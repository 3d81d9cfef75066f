"""Range requests (RFC 9110 §14): one range is answered; several, or anything malformed, mean the whole."""

from __future__ import annotations

import re
from typing import Final, Literal

from vclone_core.models import Span

_RANGE: Final = re.compile(r"(?:([0-9]{1,40})-([0-9]{1,40})?|-([0-9]{1,40}))")


def parse_range(header: bytes | None, size: int) -> Span | Literal["whole", "unsatisfiable"]:
    """Return the span of `size` bytes that a Range field asks for.

    >>> parse_range(b"bytes=-3", 10)
    Span(start=7, end=9)
    """
    if header is None:
        return "whole"
    unit, _, text = header.decode("latin-1").strip(" \t").partition("=")
    ranges = [part.strip(" \t") for part in text.split(",") if part.strip(" \t")]
    if unit.strip().lower() != "bytes" or len(ranges) != 1:
        return "whole"
    match = _RANGE.fullmatch(ranges[0])
    if match is None:
        return "whole"
    if match[3] is not None:
        length = min(int(match[3]), size)
        return Span(size - length, size - 1) if length else "unsatisfiable"
    start = int(match[1])
    end = size - 1 if match[2] is None else int(match[2])
    if match[2] is not None and end < start:
        return "whole"
    return Span(start, min(end, size - 1)) if start < size else "unsatisfiable"


def format_content_range(span: Span | None, size: int) -> bytes:
    """Return a Content-Range; without a span, the one of a 416."""
    return f"bytes {f'{span.start}-{span.end}' if span else '*'}/{size}".encode()
