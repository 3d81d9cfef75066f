"""The middle of a request's way, shared by the app and by `vclone explain`: from a scope to what will be answered."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote

from vclone_core.errors import BadHost, BadTarget, SiteProtected, StoreUnavailable
from vclone_core.models import AliasKind, Site
from vclone_core.rules.answers import (
    Answer,
    CompiledManifest,
    answer_decision,
    answer_redirect,
    answer_sent,
    decide,
    may_be_before,
)
from vclone_core.rules.decisions import Decision, Serve
from vclone_core.rules.earlier import DAY_S
from vclone_core.rules.forwarding import Forward
from vclone_core.rules.hosts import parse_host
from vclone_core.rules.objectkeys import manifest_key
from vclone_core.rules.protection import Allowed, Sent, decide_visit
from vclone_core.rules.requests import Request, check_framing, find_hosts, join_fields
from vclone_core.rules.targets import parse_query, parse_target
from vclone_core.rules.templates import quote_path
from vclone_core.settings import join_port
from vclone_edge.cache import Known
from vclone_edge.parts import EdgeParts
from vclone_edge.peers import lookup

INDEXED: Final = frozenset({AliasKind.PRODUCTION, AliasKind.CUSTOM})
FALLBACK_S: Final = 0.5
_HOSTS_KEPT: Final = 4096
_hosts: dict[bytes, str] = {}


@dataclass(frozen=True, slots=True)
class Settled:
    """What a request comes to: an answer, or the server that gives it.

    `request` is as the site may see it: what opened a protected one, `opened_by`, is taken out. `compiled` None:
    answered before any manifest was needed. Else it made the decision: the site's own, or that of the site before.
    """

    site: Site
    request: Request
    answer: Answer | Forward
    is_stale: bool
    compiled: CompiledManifest | None = None
    decision: Decision | None = None
    opened_by: str = ""

    @property
    def project_id(self) -> str:
        """The project whose blobs the answer names: the manifest's, which may be that of the site before."""
        return self.site.project_id if self.compiled is None else self.compiled.manifest.project_id

    @property
    def is_indexed(self) -> bool:
        """Whether search engines may list the host."""
        return is_indexed(self.site)

    @property
    def is_earlier(self) -> bool:
        """Whether a file is served that only an earlier build had."""
        if self.compiled is None or not isinstance(self.decision, Serve):
            return False
        is_before = self.compiled.manifest.deployment_id in self.site.shown_before
        return is_before or self.decision.file in self.compiled.earlier


def read_request(scope: Mapping[str, Any]) -> Request:
    """*host*: return the request in an ASGI scope; raise a `VcloneError` of status 4xx for one that can't be served."""
    fields: Sequence[tuple[bytes, bytes]] = scope["headers"]
    headers = join_fields(fields)
    check_framing(scope["method"], scope["http_version"], headers)
    host = _read_host(headers.get(b"host"), fields, scope["http_version"])
    raw = scope.get("raw_path")
    target = parse_target(raw if raw is not None else quote(scope["path"]).encode())
    if target.authority is not None and parse_host([target.authority]) != host:
        raise BadTarget()  # RFC 9112 §3.2.2: the target wins over Host; we take neither.
    query = scope["query_string"]
    return Request(
        method=scope["method"],
        host=host,
        path=target.path,
        query=parse_query(query) if query else "",
        headers=headers,
        scheme="https" if lookup(scope)[1] else "http",
    )


def _read_host(value: bytes | None, fields: Sequence[tuple[bytes, bytes]], http_version: str) -> str:
    if value is None:
        raise BadHost()
    host = _hosts.get(value)
    if host is None:
        hosts = find_hosts(fields, http_version)
        host = parse_host(hosts)
        # Fields of one name arrive joined: what HTTP/2 may say twice must not be remembered for HTTP/1.
        if hosts == [value]:
            if len(_hosts) >= _HOSTS_KEPT:
                _hosts.clear()
            _hosts[value] = host
    return host


async def settle(parts: EdgeParts, request: Request) -> Settled:
    """*resolve*, *route*, *object*: return what a request is answered; raise what becomes a page of ours."""
    known = await parts.resolver.resolve(request.host)
    site = known.site
    is_stale = parts.cache.is_stale(known)
    opened_by = ""
    if site.redirect_to is not None:
        location = _build_location(parts, site.redirect_to, request)
        return Settled(site, request, answer_redirect(location, 308), is_stale)
    if site.protection is not None:
        origin = f"{request.scheme}://{build_authority(parts, request)}"
        mark = secrets.token_urlsafe(16)
        visit = decide_visit(site.protection, request, origin=origin, now_s=time.time(), mark=mark)
        if isinstance(visit, Sent):
            return Settled(site, request, answer_sent(visit), is_stale)
        if not isinstance(visit, Allowed):
            raise SiteProtected()
        request, opened_by = visit.request, visit.by
    compiled = parts.manifests.find(site)
    if compiled is None:
        compiled, is_fallback = await _load_manifest(parts, known)
        is_stale = is_stale or is_fallback
    elif known.fallback is not None:
        known.fallback = None
    kept_s = parts.settings.earlier_assets_days * DAY_S
    # A deployment's own host serves exactly its build.
    since_s = time.time() - kept_s if kept_s and site.kind is not AliasKind.DEPLOYMENT else None
    decision = decide(compiled, request, since_s=since_s)
    if since_s is not None and site.shown_before and may_be_before(compiled, decision, request.path):
        compiled, decision = await _look_before(parts, site, request, since_s) or (compiled, decision)
    answer = answer_decision(compiled, decision, request, is_indexed=is_indexed(site))
    return Settled(site, request, answer, is_stale, compiled, decision, opened_by)


def is_indexed(site: Site) -> bool:
    """Say whether search engines may list a host."""
    return site.kind in INDEXED and site.protection is None


async def _look_before(
    parts: EdgeParts, site: Site, request: Request, since_s: float
) -> tuple[CompiledManifest, Decision] | None:
    """Return who of the deployments that a host showed before has the very file that is asked for; None: none has."""
    for deployment_id in site.shown_before:
        before = await _load_before(parts, site, deployment_id)
        if before is not None:
            found = decide(before, request, since_s=since_s)
            if isinstance(found, Serve) and found.file == request.path and found.status == 200:
                return before, found
    return None


async def _load_before(parts: EdgeParts, site: Site, deployment_id: str) -> CompiledManifest | None:
    """Return the manifest of a deployment that a host showed before; None when that was removed."""
    key = manifest_key(site.project_id, deployment_id)
    try:
        return await parts.manifests.load(replace(site, deployment_id=deployment_id, manifest_key=key))
    except StoreUnavailable as error:
        if error.facts.get("is_gone"):
            return None
        raise  # Nobody can say that the file is not there.


async def _load_manifest(parts: EdgeParts, known: Known) -> tuple[CompiledManifest, bool]:
    """Return a site's manifest, or the one before it while this one can't be had; and whether it is the latter."""
    if known.fallback is None:
        return await parts.manifests.load(known.site), False
    try:
        async with asyncio.timeout(FALLBACK_S):
            return await parts.manifests.load(known.site), False
    except (StoreUnavailable, TimeoutError):
        parts.counters.fallbacks += 1
        return await parts.manifests.load(known.fallback), True


def build_authority(parts: EdgeParts, request: Request) -> str:
    """Return the request's host as it stands in an address bar."""
    return join_port(request.host, request.scheme, parts.settings.public_port(request.scheme))


def _build_location(parts: EdgeParts, host: str, request: Request) -> str:
    authority = join_port(host, request.scheme, parts.settings.public_port(request.scheme))
    return f"{request.scheme}://{authority}{quote_path(request.path)}" + (f"?{request.query}" if request.query else "")
