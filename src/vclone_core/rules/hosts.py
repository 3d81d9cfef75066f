"""*host*, the first step of a request: the one name a request is for, or a refusal.

Nothing of a host means anything here: it is only brought to one spelling, and then looked up whole.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

import idna

from vclone_core.errors import BadHost

# Letters, digits and inner hyphens (RFC 5890 §2.3.1), 63 octets a label, 253 a name (RFC 1035 §2.3.4).
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_VALUE: Final = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[^:\[\]@/?#\\\s]+)(?::(?P<port>[0-9]{0,5}))?")
_LONGEST: Final = 1024


def parse_host(values: Sequence[bytes]) -> str:
    """Return the host in a request's Host (or `:authority`): lower case, A-labels, no port, no dot at the end.

    Raises `BadHost` unless there is exactly one value, and it is `name[:port]` with a DNS name or an IP literal.

    >>> parse_host([b"Shop.Example.COM.:8080"])
    'shop.example.com'
    """
    if len(values) != 1 or not 0 < len(values[0]) <= _LONGEST:
        raise BadHost()
    try:
        text = values[0].decode()
    except UnicodeDecodeError:
        raise BadHost() from None
    match = _VALUE.fullmatch(text)
    if match is None or int(match["port"] or 0) > 65535:
        raise BadHost()
    name = match["name"]
    if name.startswith("["):
        return _parse_ipv6(name)
    if not name.isascii():
        name = _encode_idna(name)
    name = name.lower().removesuffix(".")
    if not _NAME.fullmatch(name):
        raise BadHost()
    return name


def _parse_ipv6(literal: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(literal[1:-1]).compressed}]"
    except ValueError:
        raise BadHost() from None


def _encode_idna(name: str) -> str:
    # Browsers send A-labels; this is for the others. UTS 46 maps letters as browsers do (case, width, full stops).
    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except UnicodeError:
        raise BadHost() from None
