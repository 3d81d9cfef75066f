"""*object*, the fourth step of a request: the status, header fields and bytes that a decision comes to.

Whatever can be answered without bytes is answered without them: redirects, 304s, 404s without a page, 405s, 412s and
416s never touch the object store. What depends on the file alone is encoded once and kept with its manifest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from vclone_core.errors import (
    BadMethod,
    Invalid,
    NoSuchFile,
    NotAcceptable,
    NotFound,
    RefusedByRule,
    SiteProtected,
    Unavailable,
    VcloneError,
)
from vclone_core.models import FileEntry, Manifest, Pack, Span, Variant
from vclone_core.renderings import render_html
from vclone_core.rules import caching
from vclone_core.rules.decisions import Decision, Headers, Redirect, Refuse, Rewrite, Serve
from vclone_core.rules.earlier import may_be_earlier, top_folder
from vclone_core.rules.forwarding import Forward, plan_forward
from vclone_core.rules.negotiation import IDENTITY, choose_coding
from vclone_core.rules.preconditions import allows_range, check_preconditions
from vclone_core.rules.protection import ENTER_PATH, Sent
from vclone_core.rules.ranges import format_content_range, parse_range
from vclone_core.rules.requests import Request
from vclone_core.rules.routes import match
from vclone_core.rules.tables import Table, compile_table

METHODS: Final = ("GET", "HEAD", "OPTIONS")
SERVER: Final = (b"server", b"vclone")
NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
NOINDEX: Final = (b"x-robots-tag", b"noindex")
ALLOW: Final = (b"allow", ", ".join(METHODS).encode())
# What every answer of a protected site says.
HIDDEN: Final = ((b"cache-control", caching.PRIVATE), NOINDEX)
RETRY_AFTER_S: Final = 5
CONDITIONAL: Final = frozenset({b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"range"})
_KEPT_LIMIT: Final = 16_384


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent. Either `blob` (a SHA-256, of `size` bytes, whole or its `span`) or `body`, or neither.

    `pack` says where the blob lies when it isn't an object of its own.
    `headers` has the true Content-Length wherever one belongs. `error` is what `body` says, where it is an error page.
    """

    status: int
    headers: Headers
    blob: str | None = None
    size: int = 0
    span: Span | None = None
    pack: Pack | None = None
    body: bytes = b""
    error: VcloneError | None = None


@dataclass(frozen=True, slots=True)
class Representation:
    """One file in one coding under one set of rules' headers: its tag, and its answers to GET and HEAD, and as 304."""

    etag: bytes
    whole: Answer
    head: Answer
    unchanged: Answer


@dataclass(frozen=True, slots=True)
class CompiledManifest:
    """A manifest ready to answer requests. `kept` is filled as requests come and bounded.

    `earlier` are the files carried from builds before, `with_earlier` the table as if they were here.
    """

    manifest: Manifest
    table: Table
    earlier: Mapping[str, FileEntry]
    with_earlier: Table
    roots: frozenset[str]
    kept: dict[tuple[Serve, str, bool], Representation] = field(default_factory=dict, compare=False, repr=False)


_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_TYPE: Final = re.compile(r"[!-~][ -~]{0,254}")


def compile_manifest(manifest: Manifest) -> CompiledManifest:
    """Return the manifest ready for requests; raise `Invalid` where any of it can't be served."""
    earlier = {path: file.entry for path, file in manifest.earlier.items() if path not in manifest.files}
    for path, entry in (*manifest.files.items(), *earlier.items()):
        blobs: list[FileEntry | Variant] = [entry, *entry.variants.values()]
        if not all(map(_is_proper, blobs)):
            raise Invalid(what=f"the manifest's entry of {path} has no proper hash or size")
        if not path.startswith("/") or not _TYPE.fullmatch(entry.type):
            raise Invalid(what=f"the manifest's entry of {path} has no proper path or type")
    table = compile_table(manifest)
    with_earlier = Table({**manifest.files, **earlier}, table.phases) if earlier else table
    roots = frozenset(top_folder(path) for path, entry in manifest.files.items() if entry.immutable) - {""}
    return CompiledManifest(manifest, table, earlier, with_earlier, roots)


def _is_proper(blob: FileEntry | Variant | Pack) -> bool:
    if not _SHA256.fullmatch(blob.sha256) or type(blob.size) is not int or blob.size < 0:
        return False
    pack = blob.pack if isinstance(blob, Variant) else None
    if pack is None:
        return True
    return _is_proper(pack) and type(pack.start) is int and 0 <= pack.start <= pack.size - blob.size


def decide(compiled: CompiledManifest, request: Request, *, since_s: float | None = None) -> Decision:
    """Return what a deployment does with a request: with its own files, and with earlier ones replaced after `since_s`.

    An earlier file never takes the place of one of the deployment's own, and the deployment's rules apply to it: a
    redirect stays one.
    """
    path = request.path
    is_earlier = (
        since_s is not None and path in compiled.earlier and compiled.manifest.earlier[path].replaced_s > since_s
    )
    return match(compiled.with_earlier if is_earlier else compiled.table, request)


def may_be_before(compiled: CompiledManifest, decision: Decision, path: str) -> bool:
    """Say whether a path that led to nothing of its own may be a file of the deployment that was here before."""
    is_miss = decision.status == 404 if isinstance(decision, Refuse) else isinstance(decision, Serve)
    return is_miss and path not in compiled.earlier and may_be_earlier(compiled.manifest.files, compiled.roots, path)


def answer_decision(
    compiled: CompiledManifest, decision: Decision, request: Request, *, is_indexed: bool
) -> Answer | Forward:
    """Return what a decision of this deployment comes to. `is_indexed` False keeps search engines away.

    Raises what `plan_forward` raises for a rewrite to another server that can't be followed.
    """
    if isinstance(decision, Serve):
        return _answer_file(compiled, decision, request, is_indexed=is_indexed)
    if isinstance(decision, Redirect):
        return answer_redirect(decision.location, decision.status, decision.headers, is_indexed=is_indexed)
    if isinstance(decision, Rewrite):
        return plan_forward(decision, request, is_indexed=is_indexed)
    return _answer_refusal(decision)


def answer_request(compiled: CompiledManifest, request: Request, *, is_indexed: bool) -> Answer | Forward:
    """Return what a deployment answers with its own files alone."""
    return answer_decision(compiled, decide(compiled, request), request, is_indexed=is_indexed)


def _answer_file(compiled: CompiledManifest, decision: Serve, request: Request, *, is_indexed: bool) -> Answer:
    if request.method not in ("GET", "HEAD") and decision.status < 400:
        if request.method == "OPTIONS":
            return Answer(204, (ALLOW, SERVER))
        return answer_error(BadMethod())
    representation = find_representation(compiled, decision, request.headers, is_indexed=is_indexed)
    if representation is None:
        return answer_error(NotAcceptable())
    return answer_representation(representation, request.method, request.headers)


def find_representation(
    compiled: CompiledManifest, decision: Serve, headers: Mapping[bytes, bytes], *, is_indexed: bool
) -> Representation | None:
    """Return the file in the coding that a request prefers; None when it accepts none that there is."""
    entry = compiled.with_earlier.files[decision.file]
    coding = choose_coding(headers.get(b"accept-encoding"), entry.size, entry.variants)
    if coding is None:
        return None
    key = (decision, coding, is_indexed)
    representation = compiled.kept.get(key)
    if representation is None:
        if len(compiled.kept) >= _KEPT_LIMIT:
            compiled.kept.clear()
        representation = compiled.kept[key] = build_representation(entry, decision, coding, is_indexed=is_indexed)
    return representation


def answer_representation(representation: Representation, method: str, headers: Mapping[bytes, bytes]) -> Answer:
    """Return the answer to a GET or HEAD with these fields: whole, 304, 412, 206 or 416."""
    # Conditions and ranges are about a page that is there (RFC 9110 §13.2.1): a 404 page is sent as it is.
    if representation.whole.status == 200 and not CONDITIONAL.isdisjoint(headers):
        return _answer_conditional(representation, method, headers)
    return representation.head if method == "HEAD" else representation.whole


def _answer_conditional(representation: Representation, method: str, headers: Mapping[bytes, bytes]) -> Answer:
    whole = representation.whole
    status = check_preconditions(method, headers, representation.etag)
    if status == 304:
        return representation.unchanged
    if status is not None:
        return Answer(status, ((b"etag", representation.etag), (b"content-length", b"0"), SERVER))
    if method == "HEAD":
        return representation.head  # Range is defined for GET only (RFC 9110 §14.2).
    span = parse_range(headers.get(b"range"), whole.size)
    if span == "whole" or not allows_range(headers.get(b"if-range"), representation.etag):
        return whole
    if span == "unsatisfiable":
        content_range = (b"content-range", format_content_range(None, whole.size))
        return Answer(416, (content_range, (b"content-length", b"0"), (b"cache-control", caching.NEVER), SERVER))
    length = (b"content-length", str(span.size).encode())
    partial = tuple(length if pair[0] == b"content-length" else pair for pair in whole.headers)
    content_range = (b"content-range", format_content_range(span, whole.size))
    return Answer(206, (*partial, content_range), whole.blob, whole.size, span, whole.pack)


# RFC 9110 §15.4.5: a 304 tells what a cache needs, and nothing of the bytes that it does not carry.
_NOT_IN_304: Final = frozenset(
    {b"content-type", b"content-length", b"content-encoding", b"accept-ranges", b"x-content-type-options"}
)


def build_representation(entry: FileEntry, decision: Serve, coding: str, *, is_indexed: bool) -> Representation:
    """Return a file's answers in one coding, under the headers of the rules that led to it."""
    variant = None if coding == IDENTITY else entry.variants[coding]
    blob = variant or entry
    # The tag is of the bytes sent, so that a copy compressed anew never passes for the one before.
    etag = f'"{blob.sha256[:32]}{"" if coding == IDENTITY else f"-{coding}"}"'.encode()
    said = dict(decision.headers)
    headers: dict[bytes, bytes] = {
        b"content-type": entry.type.encode(),
        b"content-length": str(blob.size).encode(),
        b"etag": etag,
        b"cache-control": caching.decide_cache_control(entry, decision.status, said.pop(b"cache-control", None)),
        b"accept-ranges": b"bytes",
    }
    vary = said.pop(b"vary", b"")
    if entry.variants:
        vary = (
            b"accept-encoding"
            if not vary
            else vary
            if b"accept-encoding" in vary.lower()
            else vary + b", accept-encoding"
        )
    if vary:
        headers[b"vary"] = vary
    if coding != IDENTITY:
        headers[b"content-encoding"] = coding.encode()
    headers.update((NOSNIFF, SERVER))
    headers.update(said)
    if not is_indexed:
        headers.update((NOINDEX,))
    fields = tuple(headers.items())
    whole = Answer(decision.status, fields, blob.sha256, blob.size, pack=variant.pack if variant else None)
    unchanged = Answer(304, tuple(pair for pair in fields if pair[0] not in _NOT_IN_304))
    return Representation(etag, whole, Answer(decision.status, fields), unchanged)


def answer_redirect(location: str, status: int, headers: Headers = (), *, is_indexed: bool = True) -> Answer:
    """Return a redirect without a body; it may be kept only where `headers` say so."""
    fields: dict[bytes, bytes] = {
        b"location": location.encode("ascii", "replace"),
        b"content-length": b"0",
        b"cache-control": caching.CHECKED,
        **dict(headers),
    }
    fields.update((SERVER,) if is_indexed else (SERVER, NOINDEX))
    return Answer(status, tuple(fields.items()))


def answer_sent(visit: Sent) -> Answer:
    """Return the redirect to where a visitor of a protected site is asked, or back from there."""
    cookie = () if visit.cookie is None else ((b"set-cookie", visit.cookie.encode()),)
    location = (b"location", visit.location.encode("ascii", "replace"))
    # What the address held is nothing for the next server to read.
    referrer = (b"referrer-policy", b"no-referrer")
    return Answer(303, (location, (b"content-length", b"0"), *cookie, referrer, *HIDDEN, SERVER))


def _answer_refusal(decision: Refuse) -> Answer:
    if decision.status == 404:
        return answer_error(NoSuchFile())
    if decision.status == 403:
        return answer_error(RefusedByRule())
    headers = {
        b"content-type": b"text/plain; charset=utf-8",
        **dict(decision.headers),
        b"content-length": b"4",
        b"cache-control": caching.NEVER,
    }
    headers.update((NOSNIFF, SERVER))
    return Answer(decision.status, tuple(headers.items()), body=f"{decision.status}\n".encode())


def answer_error(error: VcloneError, request_id: str = "") -> Answer:
    """Return the page of an error. Those a visitor caused are constant: nothing of the request comes back in them.

    `request_id` is shown on pages of our own failures, where it leads to the log line.
    """
    if error.status >= 500 or error.facts:
        return _build_page(error, request_id if error.status >= 500 else "")
    page = _PAGES.get(error.code)
    if page is None:
        page = _PAGES[error.code] = _build_page(error, "")
    return page


_PAGES: Final[dict[str, Answer]] = {}


def _build_page(error: VcloneError, request_id: str) -> Answer:
    link = (ENTER_PATH, "Sign in") if isinstance(error, SiteProtected) else None
    body = render_html(error, request_id, link=link).encode()
    fields = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", caching.CHECKED if isinstance(error, NotFound) else caching.NEVER),
        NOSNIFF,
        SERVER,
    ]
    if isinstance(error, SiteProtected):
        # RFC 9110 §11.6.1 asks for a challenge. This scheme is nobody's, so browsers show the page and no dialogue.
        fields = [pair for pair in fields if pair[0] != b"cache-control"]
        fields += [(b"www-authenticate", b"vclone"), (b"referrer-policy", b"no-referrer"), *HIDDEN]
    if isinstance(error, BadMethod):
        fields.append((b"allow", ", ".join(error.facts.get("allow", METHODS)).encode()))
    if isinstance(error, NotAcceptable):
        fields.append((b"vary", b"accept-encoding"))
    if isinstance(error, Unavailable):
        fields.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    return Answer(error.status, tuple(fields), body=body, error=error)
