"""A rewrite to another server: the request as it is written anew for it, and what of its answer is passed on.

Nothing is handed through as it came. The address is taken apart and must be a plain one; of header fields goes on what
is about the message, never what is about a connection, what frames a body, or what says who the visitor is: that is
said by the platform (RFC 9110 §7.6).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from vclone_core.errors import BadHost, BadMethod, BadTarget, UpstreamFailed
from vclone_core.rules.decisions import Headers, Rewrite
from vclone_core.rules.hosts import parse_host
from vclone_core.rules.requests import Request

# Everything but CONNECT, and TRACE, which would show a page what its visitor's browser keeps from it.
METHODS: Final = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
# So often may a request come by before it is taken to go round in a circle.
PASSES: Final = 5
PSEUDONYM: Final = "vclone"

_URL: Final = re.compile(
    r"(?:(?P<scheme>https?):)?//(?P<authority>[^/?#\\@]+)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?(?:#.*)?",
    re.IGNORECASE | re.DOTALL,
)
_CLEAN: Final = re.compile(r"[!-~]*")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")

# What is about one connection only (RFC 9110 §7.6.1) or frames the message.
_HOP: Final = frozenset(
    {
        b"connection", b"content-length", b"http2-settings", b"keep-alive", b"proxy-authenticate",
        b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
# What servers believe of a proxy in front of them: who the visitor is, and what was really asked for.
_SAID_BY_US: Final = frozenset(
    {
        b"cf-connecting-ip", b"client-ip", b"expect", b"fastly-client-ip", b"forwarded", b"host", b"max-forwards",
        b"true-client-ip", b"via", b"x-client-ip", b"x-cluster-client-ip", b"x-original-host", b"x-original-url",
        b"x-real-ip", b"x-rewrite-url",
    }
)  # fmt: skip
_OURS: Final = (b"x-vclone-", b"x-forwarded-", b"x-middleware-")
# Not passed on of an answer: who serves it is us, and another way to it would lead past us.
_NOT_ANSWERED: Final = frozenset({b"alt-svc", b"date", b"server"})


@dataclass(frozen=True, slots=True)
class Forward:
    """Where a request is sent on to, taken apart and in one spelling, and the rule's part in the answer."""

    scheme: str
    host: str
    port: int
    path: str
    query: str
    rewrite: Rewrite
    is_indexed: bool = True

    @property
    def origin(self) -> str:
        """The server, `https://api.example:443`."""
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole address."""
        return f"{self.origin}{self.path}{'?' if self.query else ''}{self.query}"


def plan_forward(rewrite: Rewrite, request: Request, *, is_indexed: bool) -> Forward:
    """Return where a rewrite leads.

    Raises `BadMethod`, `BadTarget` for a path that the visitor's request made lead elsewhere, and `UpstreamFailed` for
    an address that is none or comes back to here again and again.
    """
    if request.method not in METHODS:
        raise BadMethod(allow=METHODS)
    if count_passes(request.headers.get(b"via", b"")) >= PASSES:
        raise UpstreamFailed(cause="loop", hint="The rewrite leads back to itself.")
    found = _URL.fullmatch(rewrite.url)
    if found is None or not _CLEAN.fullmatch(rewrite.url):
        raise _refuse()
    host, port = _parse_authority(found["authority"])
    path = found["path"] or "/"
    if any(unquote(segment) in (".", "..") for segment in re.split("/|%2F|%5C", path, flags=re.IGNORECASE)):
        raise BadTarget()
    scheme = (found["scheme"] or "https").lower()
    usual = 443 if scheme == "https" else 80
    return Forward(scheme, host, port or usual, path, found["query"] or "", rewrite, is_indexed)


def _parse_authority(authority: str) -> tuple[str, int | None]:
    try:
        host = parse_host([unquote(authority, errors="strict").encode()])
    except (BadHost, UnicodeDecodeError):
        raise _refuse() from None
    port = authority.rpartition("]")[2].partition(":")[2]
    if port and not 0 < int(port) < 65536:
        raise _refuse()
    return host, int(port) if port else None


def _refuse() -> UpstreamFailed:
    return UpstreamFailed(cause="address", hint="The rewrite's address is none that can be asked.")


def count_passes(via: bytes) -> int:
    """Return how often a request came through an edge like this one already.

    >>> count_passes(b"1.1 vclone, 1.0 cache.example, 2 vclone")
    2
    """
    return sum(part.split()[1:2] == [PSEUDONYM.encode()] for part in via.split(b","))


def build_request_fields(request: Request, *, client: str, authority: str) -> list[tuple[bytes, bytes]]:
    """Return the header fields that go on to the other server, without Host and those that frame a body.

    `client` is the visitor's address, `authority` what is in its address bar. What the visitor says of either is not
    passed on, whatever it is called.
    """
    named = _list_named(request.headers.get(b"connection", b""))
    kept = [(name, value) for name, value in request.headers.items() if _may_go_on(name, value, named)]
    via = request.headers.get(b"via", b"")
    said = {
        b"x-forwarded-for": client,
        b"x-forwarded-host": authority,
        b"x-forwarded-proto": request.scheme,
        b"via": f"{via.decode('latin-1')}{', ' if via else ''}1.1 {PSEUDONYM}",
    }
    return [*kept, *((name, text.encode("latin-1")) for name, text in said.items() if text)]


def _may_go_on(name: bytes, value: bytes, named: frozenset[bytes]) -> bool:
    # Many servers read `x_forwarded_for` as they read `x-forwarded-for`.
    spelled = name.lower().replace(b"_", b"-")
    return (
        spelled not in _HOP
        and spelled not in _SAID_BY_US
        and not spelled.startswith(_OURS)
        and name.lower() not in named
        and _TOKEN.fullmatch(name) is not None
        and _VALUE.fullmatch(value) is not None
    )


def _list_named(connection: bytes) -> frozenset[bytes]:
    return frozenset(name.strip().lower() for name in connection.split(b",") if name.strip())


def build_answer_fields(
    forward: Forward, status: int, fields: Sequence[tuple[bytes, bytes]], *, base_domain: str
) -> Headers:
    """Return the header fields of the other server's answer that are passed on, with what the rules say instead.

    Content-Length stays where it counts the bytes that follow. A cookie for the base domain, or a domain above it,
    would reach other people's deployments, and is left out.
    """
    given = [(name.lower(), value.strip(b" \t")) for name, value in fields]
    named = frozenset[bytes]().union(*(_list_named(value) for name, value in given if name == b"connection"))
    said: dict[bytes, bytes] = dict(forward.rewrite.headers)
    vary = [value for name, value in given if name == b"vary"]
    if b"vary" in said and vary:
        said[b"vary"] = b", ".join((*vary, said[b"vary"]))
    kept = [
        (name, value)
        for name, value in given
        if not (
            name in _HOP
            or name in _NOT_ANSWERED
            or name in named
            or name in said
            or name.startswith(b"x-vclone-")
            or (name == b"set-cookie" and is_wide_cookie(value, base_domain))
        )
        and _TOKEN.fullmatch(name)
        and _VALUE.fullmatch(value)
    ]
    length = find_length(status, given)
    if length is not None:
        kept.append((b"content-length", str(length).encode()))
    kept += [pair for pair in said.items() if not (pair[0] == b"set-cookie" and is_wide_cookie(pair[1], base_domain))]
    kept.append((b"server", b"vclone"))
    if not forward.is_indexed:
        kept = [*(pair for pair in kept if pair[0] != b"x-robots-tag"), (b"x-robots-tag", b"noindex")]
    return tuple(kept)


def find_length(status: int, fields: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Return the length of an answer that says it, once and clearly (RFC 9112 §6.3); None where its end tells."""
    lengths = {value for name, value in fields if name == b"content-length"}
    is_chunked = any(name == b"transfer-encoding" for name, _ in fields)
    if status == 204 or is_chunked or len(lengths) != 1:
        return None
    (length,) = lengths
    return int(length) if length.isdigit() and len(length) < 20 else None


def has_body(method: str, status: int) -> bool:
    """Say whether bytes follow an answer's header fields (RFC 9110 §6.4.1)."""
    return method != "HEAD" and status not in (204, 304) and status >= 200


def is_wide_cookie(value: bytes, base_domain: str) -> bool:
    """Say whether a Set-Cookie is for the base domain or one above it (RFC 6265 §5.2.3): other tenants would get it.

    >>> is_wide_cookie(b"a=1; Domain=.apps.example", "apps.example"), is_wide_cookie(b"a=1; Path=/", "apps.example")
    (True, False)
    """
    for attribute in value.split(b";")[1:]:
        name, _, text = attribute.partition(b"=")
        if name.strip().lower() == b"domain":
            domain = text.strip().strip(b'"').lower().strip(b".").decode("latin-1")
            if domain and f".{base_domain.lower()}".endswith(f".{domain}"):
                return True
    return False


def find_body_length(headers: Mapping[bytes, bytes]) -> int | None:
    """Return how many bytes a request's body says it has; None where only its end tells."""
    if b"transfer-encoding" in headers or b"content-length" not in headers:
        return None
    return int(headers[b"content-length"])
