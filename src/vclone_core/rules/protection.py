"""Who may visit a protected site: which hosts are protected, and what a request is answered before any route is asked.

    bypass? -> back from signing in? -> share link? -> cookie? -> a browser that looks at a page: ask; all else: 401

The edge decides this alone, from the site and the request. A cookie is for one host, and is named so that over TLS no
other host can have set it (RFC 6265bis §4.1.3.2). Everything that is opened comes back without what opened it: pages,
rules and other servers never see a pass.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote, unquote

from vclone_core.models import AliasKind, Covers, Policy, Protection
from vclone_core.rules.passes import Pass, Way, hash_bypass, hash_mark, hash_secret, read_pass
from vclone_core.rules.requests import Request
from vclone_core.rules.templates import quote_path

ENTER_PATH: Final = "/.well-known/vclone/enter"
SHARE_PARAMETER: Final = "_vclone_share"
BYPASS: Final = "x-vclone-protection-bypass"
SET_BYPASS: Final = "x-vclone-set-bypass-cookie"
# A pass has to be brought back so soon; after that it opens only what it has opened already.
GRANT_S: Final = 60
MARK_S: Final = 24 * 3600
BYPASS_S: Final = 24 * 3600
# How far the clocks of API and edge may be apart.
SKEW_S: Final = 30
PATH_LENGTH: Final = 500

_OURS: Final = frozenset({SHARE_PARAMETER, BYPASS, SET_BYPASS})
_MARK: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")
_VISITOR: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_AUTOMATION: Final = "automation"
# RFC 3986's path and query, and nothing that a browser reads as another host.
_LOCAL: Final = re.compile(r"/(?![/\\])[!$-;=?-\[\]_a-z~]*")
_COOKIES_TRIED: Final = 4


def is_covered(covers: Covers, kind: AliasKind, branch: str | None) -> bool:
    """Say whether a host of this kind is protected.

    A preview is every host that doesn't show what is in production now: a deployment's own host is one for ever, also
    that of a deployment for production. `branch` is what a custom host is bound to, where it isn't production's.
    """
    if covers is Covers.PREVIEWS:
        return kind not in (AliasKind.PRODUCTION, AliasKind.CUSTOM) or (kind is AliasKind.CUSTOM and bool(branch))
    return covers is Covers.EVERYTHING


def protect(policy: Policy | None, host: str, kind: AliasKind, branch: str | None) -> Protection | None:
    """Return what an edge is told of a host's protection; None: it has none."""
    if policy is None or not is_covered(policy.covers, kind, branch):
        return None
    return Protection(
        key=policy.key,
        enter_url=policy.enter_url,
        members=policy.members_generation,
        password=policy.password_generation if policy.has_password else None,
        links=policy.links.get(host, ()),
        bypass=policy.bypass,
    )


@dataclass(frozen=True, slots=True)
class Allowed:
    """Go on, with the request as the site may see it. `by` says what opened it, for people."""

    request: Request
    by: str


@dataclass(frozen=True, slots=True)
class Sent:
    """Send the browser elsewhere, with this cookie."""

    location: str
    cookie: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing is shown."""


Visit = Allowed | Sent | Refused


def decide_visit(protection: Protection, request: Request, *, origin: str, now_s: float, mark: str) -> Visit:
    """Return what becomes of a request to a protected host.

    `origin` is the host as in an address bar, `https://shop.example:8443`; `mark` 128 fresh random bits in Base64, for
    a browser that has none.
    """
    parameters = _read_parameters(request)
    held = _read_cookies(request)
    marks = [one.mark for one in held if one.mark != _AUTOMATION]
    opened_by = _find_open(protection, request, held, now_s)
    here = f"{origin}{quote_path(request.path)}" + (f"?{rest}" if (rest := _clean_query(request.query)) else "")
    is_get = request.method == "GET"

    secret = request.headers.get(BYPASS.encode(), b"").decode("latin-1") or parameters.get(BYPASS, "")
    if secret and _is_bypass(protection, hash_secret(secret)):
        wants_cookie = _is_true(request.headers.get(SET_BYPASS.encode(), b"").decode("latin-1")) or _is_true(
            parameters.get(SET_BYPASS, "")
        )
        if wants_cookie and is_get:
            return Sent(here, _set_cookie(request, f"{_AUTOMATION}.{hash_secret(secret)}", BYPASS_S))
        return Allowed(_clean(request), "bypass")

    if request.path == ENTER_PATH:
        if not is_get:
            return Refused()
        path = parameters.get("to", "/")
        back = f"{origin}{path if is_local(path) else '/'}"
        if opened_by:
            return Sent(back)
        if grant := parameters.get("grant", ""):
            for own in marks:
                if (left_s := _check_grant(protection, request, grant, own, now_s)) is not None:
                    return Sent(back, _set_cookie(request, f"{own}.{grant}", left_s))
            return Refused()
        return _ask(protection, request, path, marks, mark)

    if is_get and (link := parameters.get(SHARE_PARAMETER, "")):
        if opened_by:
            return Sent(here)
        shared = read_pass(protection.key, link)
        if shared is not None and shared.way is Way.LINK and _holds(protection, request, shared, "", now_s):
            value = f"{marks[0] if marks else mark}.{link}"
            return Sent(here, _set_cookie(request, value, int(shared.ends_s - now_s)))

    if opened_by:
        return Allowed(_clean(request), opened_by)
    if is_get and _is_navigation(request):
        query = _clean_query(request.query)
        return _ask(protection, request, quote_path(request.path) + (f"?{query}" if query else ""), marks, mark)
    return Refused()


def is_local(path: str) -> bool:
    """Say whether a path (with its query) leads to the very host it is put behind, wherever that is.

    >>> is_local("/a?b=c"), is_local("//evil.example"), is_local("/\\\\evil.example"), is_local("https://evil.example")
    (True, False, False, False)
    """
    return len(path) <= PATH_LENGTH and _LOCAL.fullmatch(path) is not None


def is_visitor(text: str) -> bool:
    """Say whether a text has the shape of what `hash_mark` returns."""
    return _VISITOR.fullmatch(text) is not None


def find_cookie_name(request: Request) -> str:
    """Return the name of the one cookie; over TLS a name that only this very host can set."""
    return "__Host-vclone-pass" if request.scheme == "https" else "vclone-pass"


@dataclass(frozen=True, slots=True)
class _Held:
    """What a browser brought: its mark, and a pass or what stands for automation's secret."""

    mark: str
    rest: str


def _read_cookies(request: Request) -> list[_Held]:
    """Return what the cookies of our name hold. Over plain http another host of the domain may have set one as well."""
    name = find_cookie_name(request)
    found = []
    for pair in request.headers.get(b"cookie", b"").decode("latin-1").split(";"):
        key, _, value = pair.strip().partition("=")
        if key == name:
            mark, _, rest = value.strip('"').partition(".")
            if _MARK.fullmatch(mark) or mark == _AUTOMATION:
                found.append(_Held(mark, rest))
    return found[:_COOKIES_TRIED]


def _find_open(protection: Protection, request: Request, held: Iterable[_Held], now_s: float) -> str:
    """Return what opens the site, of all that the browser holds; empty: nothing."""
    for one in held:
        if one.mark == _AUTOMATION:
            if _is_bypass(protection, one.rest):
                return "bypass cookie"
        elif one.rest:
            found = read_pass(protection.key, one.rest)
            if found is not None and _holds(protection, request, found, one.mark, now_s):
                return found.way.value
    return ""


def _holds(protection: Protection, request: Request, found: Pass, mark: str, now_s: float) -> bool:
    """Say whether a pass that was verified opens this host, now, in the hands of who has this mark."""
    if found.host != request.host or not found.made_s - SKEW_S <= now_s < found.ends_s:
        return False
    if found.way is Way.LINK:
        return found.link in protection.links
    counts = protection.members if found.way is Way.MEMBER else protection.password
    return counts is not None and found.generation == counts and _is_same(found.visitor, hash_mark(mark))


def _check_grant(protection: Protection, request: Request, grant: str, mark: str, now_s: float) -> int | None:
    """Return how many seconds the pass holds that a browser was sent back with; None: it isn't for it, or not fresh."""
    found = read_pass(protection.key, grant)
    if found is None or found.way is Way.LINK or now_s >= found.made_s + GRANT_S:
        return None
    return int(found.ends_s - now_s) if _holds(protection, request, found, mark, now_s) else None


def _is_bypass(protection: Protection, kept: str) -> bool:
    return protection.bypass is not None and _is_same(protection.bypass, hash_bypass(kept))


def _is_same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _ask(protection: Protection, request: Request, path: str, marks: list[str], mark: str) -> Visit:
    """Send a browser to where it is asked who it is. It keeps the mark it has, so that several tabs can be asked."""
    if not protection.enter_url:
        return Refused()
    asked = {
        "host": request.host,
        "visitor": hash_mark(marks[0] if marks else mark),
        "to": path if is_local(path) else "/",
    }
    query = "&".join(f"{name}={quote(text, safe='')}" for name, text in asked.items())
    return Sent(f"{protection.enter_url}?{query}", None if marks else _set_cookie(request, mark, MARK_S))


def _set_cookie(request: Request, value: str, max_age_s: int) -> str:
    secure = "; Secure" if request.scheme == "https" else ""
    return f"{find_cookie_name(request)}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}"


def _is_navigation(request: Request) -> bool:
    """Say whether a browser is about to show this to a person, by itself (https://www.w3.org/TR/fetch-metadata/)."""
    mode, destination = request.headers.get(b"sec-fetch-mode"), request.headers.get(b"sec-fetch-dest")
    if mode is not None:
        return mode == b"navigate" and destination in (None, b"document")
    return b"text/html" in request.headers.get(b"accept", b"").lower()


def _is_true(text: str) -> bool:
    return text.lower() in ("true", "1")


def _clean(request: Request) -> Request:
    """Return the request as the site behind may see it."""
    headers = {name: value for name, value in request.headers.items() if name.decode("latin-1") not in _OURS}
    if b"cookie" in headers:
        pairs = (pair.strip() for pair in headers[b"cookie"].split(b";"))
        name = find_cookie_name(request).encode()
        kept = [pair for pair in pairs if pair.partition(b"=")[0] != name]
        if kept:
            headers[b"cookie"] = b"; ".join(kept)
        else:
            del headers[b"cookie"]
    return replace(request, headers=headers, query=_clean_query(request.query))


def _read_parameters(request: Request) -> dict[str, str]:
    """Return what of the query is said to us, by its name as it stands: what is taken out again has the same one."""
    wanted = _OURS | {"to", "grant"} if request.path == ENTER_PATH else _OURS
    pairs = (part.partition("=") for part in request.query.split("&"))
    return {name: unquote(value) for name, _, value in pairs if name in wanted}


def _clean_query(query: str) -> str:
    """Return a query without what is ours in it, the rest as it was."""
    if not query:
        return query
    return "&".join(part for part in query.split("&") if part.partition("=")[0] not in _OURS)
