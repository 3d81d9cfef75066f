"""Conditional requests: whether an answer is 200, 304 or 412, in the order of RFC 9110 §13.2.2."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

_TAG: Final = re.compile(rb'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
# Only the three forms of RFC 9110 §5.6.7: the library reads far more than that as a date.
_DATE: Final = re.compile(rb"[A-Za-z]{3,9},? [0-9A-Za-z: -]{8,24}(?: GMT)?")


def check_preconditions(
    method: str, headers: Mapping[bytes, bytes], etag: bytes, *, modified_s: int | None = None
) -> int | None:
    """Return 304 or 412 where the request's conditions ask for it, None where the answer is sent as it is.

    `etag` is the strong tag of the representation, with its quotes; `modified_s` its age in Unix seconds, where known:
    without it the conditions on dates are ignored, as §13.1.3 and §13.1.4 ask.
    """
    if (wanted := headers.get(b"if-match")) is not None:
        if not _matches(wanted, etag, is_strong=True):
            return 412
    elif (
        modified_s is not None
        and (since := parse_date(headers.get(b"if-unmodified-since"))) is not None
        and modified_s > since
    ):
        return 412
    if (known := headers.get(b"if-none-match")) is not None:
        if _matches(known, etag, is_strong=False):
            return 304 if method in ("GET", "HEAD") else 412
    elif (
        method in ("GET", "HEAD")
        and modified_s is not None
        and (since := parse_date(headers.get(b"if-modified-since"))) is not None
        and modified_s <= since
    ):
        return 304
    return None


def _matches(header: bytes, etag: bytes, *, is_strong: bool) -> bool:
    if header == etag or header.strip() == b"*":
        return True
    # A weak tag never matches where bytes are counted on (§8.8.3.2); ours are always strong.
    return any(match[2] == etag[1:-1] and not (is_strong and match[1]) for match in _TAG.finditer(header))


def allows_range(header: bytes | None, etag: bytes, *, modified_s: int | None = None) -> bool:
    """Say whether If-Range lets a Range count (RFC 9110 §13.1.5): no such field, the same strong tag, or the date."""
    if header is None:
        return True
    header = header.strip()
    if header.startswith(b'"'):
        return header == etag
    return modified_s is not None and parse_date(header) == modified_s


def parse_date(header: bytes | None) -> int | None:
    """Return an HTTP date as Unix seconds; None for no date, or one that is malformed."""
    if header is None or not _DATE.fullmatch(header.strip()):
        return None
    try:
        date = parsedate_to_datetime(header.decode("ascii"))
        return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
