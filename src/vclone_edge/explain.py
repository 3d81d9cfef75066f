"""What the edge would answer to a URL, stage by stage, without sending it: the library of `vclone explain`.

It runs the very functions that the app runs, so that what it says is what happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from vclone_core.errors import BadTarget, VcloneError
from vclone_core.models import Route, Site
from vclone_core.rules.answers import HIDDEN, Answer, answer_error
from vclone_core.rules.decisions import Decision, Headers
from vclone_core.rules.forwarding import Forward
from vclone_core.rules.templates import quote_url
from vclone_edge.extents import find_extent
from vclone_edge.flow import read_request, settle
from vclone_edge.parts import EdgeParts


@dataclass(frozen=True, slots=True)
class AppliedRule:
    """A route that had a part in the decision; `number` is its place in the manifest."""

    number: int
    route: Route


@dataclass(frozen=True, slots=True)
class Explanation:
    """Each stage's decision for one request. A stage that was not reached is None.

    `object_key` is what would be read from the object store, `file` the manifest's name for it, `is_earlier` whether
    only an earlier build had it. `server_url` is where another server would be asked: what it answers isn't known, so
    `status` is None then, and `headers` are those that the rules add. `opened_by` is what let the request into a
    protected site, empty where nothing did; None: it isn't protected. `error_code` says which of the edge's own pages
    would be sent.
    """

    url: str
    method: str
    host: str | None
    path: str | None
    site: Site | None
    is_stale: bool
    opened_by: str | None
    decision: Decision | None
    rules: tuple[AppliedRule, ...]
    file: str | None
    is_earlier: bool
    object_key: str | None
    server_url: str | None
    status: int | None
    headers: Headers
    error_code: str | None


async def explain(
    parts: EdgeParts, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None
) -> Explanation:
    """Return what a request of `url` would be answered by an edge with these parts (started, if only to look up).

    Raises `BadTarget` where `url` is no http URL; what the edge would refuse is part of the explanation.
    """
    scope = _build_scope(url, method, headers or {})
    answer: Answer | Forward
    host = path = site = decision = file = object_key = server_url = None
    is_stale = is_earlier = False
    opened_by: str | None = None
    rules: tuple[AppliedRule, ...] = ()
    try:
        request = read_request(scope)
        host, path = request.host, request.path
        site = (await parts.resolver.resolve(host)).site
        opened_by = None if site.protection is None else ""
        settled = await settle(parts, request)
        answer, is_stale = settled.answer, settled.is_stale
        if site.protection is not None:
            opened_by = settled.opened_by
        if settled.compiled is not None and settled.decision is not None:
            decision, is_earlier = settled.decision, settled.is_earlier
            routes = settled.compiled.manifest.routes
            rules = tuple(AppliedRule(number, routes[number]) for number in decision.rules)
            file = getattr(decision, "file", None)
        if isinstance(answer, Forward):
            server_url = answer.url
            await parts.proxy.check(answer)
        elif answer.blob is not None:
            object_key = find_extent(settled.project_id, answer).key
    except VcloneError as error:
        answer = answer_error(error)
    headers_said = answer.rewrite.headers if isinstance(answer, Forward) else answer.headers
    if site is not None and site.protection is not None:
        hidden = dict(HIDDEN)
        headers_said = (*(pair for pair in headers_said if pair[0] not in hidden), *HIDDEN)
    return Explanation(
        url=url,
        method=method,
        host=host,
        path=path,
        site=site,
        is_stale=is_stale,
        opened_by=opened_by,
        decision=decision,
        rules=rules,
        file=file,
        is_earlier=is_earlier,
        object_key=object_key,
        server_url=server_url,
        status=None if isinstance(answer, Forward) else answer.status,
        headers=headers_said,
        error_code=None if isinstance(answer, Forward) or answer.error is None else answer.error.code,
    )


def _build_scope(url: str, method: str, headers: Mapping[str, str]) -> dict[str, object]:
    """Return the ASGI scope that a server would make of this request."""
    try:
        parts = urlsplit(url)
        netloc, path, query = parts.netloc.encode(), quote_url(parts.path or "/").encode(), parts.query.encode()
    except ValueError:
        raise BadTarget() from None
    if parts.scheme not in ("http", "https"):
        raise BadTarget()
    fields = [(b"host", netloc), *((name.lower().encode(), value.encode()) for name, value in headers.items())]
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": parts.scheme,
        "path": parts.path,
        "raw_path": path,
        "query_string": query,
        "headers": fields,
    }
