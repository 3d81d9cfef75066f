"""A request as the rules see it: already checked, nothing left to parse but its header fields."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from vclone_core.errors import BadFraming, HeadersTooLarge

FIELD_LIMIT: Final = 100  # Envoy's edge default.
BYTES_LIMIT: Final = 32 * 1024  # nginx allows four times 8 KiB.


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `path` is decoded (`targets.py`), `query` is not; header names are in lower case."""

    method: str
    host: str
    path: str
    query: str = ""
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    scheme: str = "http"


def join_fields(fields: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return header fields by name, those of one name joined (RFC 9110 §5.3); raise `HeadersTooLarge`."""
    if len(fields) > FIELD_LIMIT:
        raise HeadersTooLarge()
    joined = dict(fields)
    size = 0
    for name, value in fields:
        size += len(name) + len(value)
    if size > BYTES_LIMIT:
        raise HeadersTooLarge()
    if len(joined) != len(fields):
        joined = {}
        for name, value in fields:
            # Cookie may come in pieces over HTTP/2 (RFC 9113 §8.2.3) and is joined by a semicolon.
            separator = b"; " if name == b"cookie" else b", "
            joined[name] = joined[name] + separator + value if name in joined else value
    return joined


def find_hosts(fields: Iterable[tuple[bytes, bytes]], http_version: str) -> list[bytes]:
    """Return every Host value of a request, for `parse_host` to judge.

    Over HTTP/2 the server hands on `:authority` as Host, so the same value twice is one (RFC 9113 §8.3.1).
    """
    hosts = [value for name, value in fields if name == b"host"]
    return hosts if http_version.startswith("1") else list(dict.fromkeys(hosts))


def check_framing(method: str, http_version: str, headers: Mapping[bytes, bytes]) -> None:
    """Raise `BadFraming` for requests that two servers could read in two ways (RFC 9112 §6.1, RFC 9110 §9.1)."""
    if _METHOD.fullmatch(method) is None:
        raise BadFraming()
    if b"transfer-encoding" in headers and (b"content-length" in headers or http_version != "1.1"):
        raise BadFraming()
    if http_version not in VERSIONS or not headers.get(b"content-length", b"0").isdigit():
        raise BadFraming()


def is_simple(headers: Mapping[bytes, bytes]) -> bool:
    """Say whether these fields, each of them there once, are of a request without a body that nothing here refuses.

    They are far from the limits; what is not simple is for the others to judge.
    """
    return (
        len(headers) <= FIELD_LIMIT // 2
        and _OF_BODIES.isdisjoint(headers)
        and sum(map(len, headers)) + sum(map(len, headers.values())) <= BYTES_LIMIT // 2
    )


_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_OF_BODIES: Final = frozenset({b"content-length", b"transfer-encoding", b"expect"})
VERSIONS: Final = frozenset({"1.0", "1.1", "2", "2.0", "3", "3.0"})
