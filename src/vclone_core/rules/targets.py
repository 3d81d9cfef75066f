"""The path and query of a request as the routing table sees them, or a refusal.

The path is decoded exactly once. An encoded slash stays `%2F` inside its segment, so it never makes a new one; dot
segments, backslashes, control characters and bytes that are no UTF-8 are refused whatever their spelling.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from vclone_core.errors import BadTarget, TargetTooLong

LONGEST: Final = 8 * 1024  # nginx allows 8 KiB a line; RFC 9112 §3 asks for at least 8,000 octets.

# What nearly every request sends, and what decodes to itself.
_PLAIN: Final = re.compile(rb"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~!$&'()*+,;=:@-]*)+")
# RFC 3986's pchar, and the ASCII that browsers leave as it is.
_ENCODED: Final = re.compile(rb"/(?:[!\"$&->@-\[\]-~]|%[0-9A-Fa-f]{2})*")
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_QUERY: Final = re.compile(rb"[!-~\x80-\xff]*")


@dataclass(frozen=True, slots=True)
class Target:
    """What a request line asks for. `authority` is there for absolute-form targets (RFC 9112 §3.2.2)."""

    path: str
    authority: bytes | None = None


def parse_target(raw: bytes) -> Target:
    """Return the target in the raw path of a request (without its query).

    Raises `BadTarget` (400) or `TargetTooLong` (414).

    >>> parse_target(b"/caf%C3%A9/a%2Fb").path
    '/café/a%2Fb'
    """
    if len(raw) > LONGEST:
        raise TargetTooLong()
    if _PLAIN.fullmatch(raw):
        return Target(raw.decode("ascii"))
    if raw[:1] != b"/":
        absolute = _ABSOLUTE.fullmatch(raw)
        if absolute is None:
            raise BadTarget()
        return Target(decode_path(absolute["path"] or b"/"), absolute["authority"])
    return Target(decode_path(raw))


def decode_path(raw: bytes) -> str:
    """Return a path that starts with `/`, decoded once; raise `BadTarget` where that is not possible or not safe."""
    if not _ENCODED.fullmatch(raw):
        raise BadTarget()
    decoded = [unquote_to_bytes(segment) for segment in raw.split(b"/")]
    for segment in decoded:
        if any(part in (b".", b"..") for part in segment.split(b"/")):
            raise BadTarget()
    try:
        path = b"/".join(segment.replace(b"/", b"%2F") for segment in decoded).decode()
    except UnicodeDecodeError:
        raise BadTarget() from None
    if _CONTROL.search(path):
        raise BadTarget()
    return path


def parse_query(raw: bytes) -> str:
    """Return a query as ASCII, undecoded and without its `?`; raise `BadTarget` for spaces and control characters."""
    if len(raw) > LONGEST:
        raise TargetTooLong()
    if not _QUERY.fullmatch(raw):
        raise BadTarget()
    return raw.decode("ascii") if raw.isascii() else quote_from_bytes(raw, safe=_PRINTABLE)


_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))
