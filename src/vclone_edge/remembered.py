"""Answers given before: a request for a hot file is looked up, not decided again.

    host + path + Accept-Encoding, TLS or not -> the file's answers (200, 304, 206 …), or the page of a 404

Only what the whole way (`flow.py`) has settled is kept, and only where nothing else of a request had a part in it. It
counts as long as the host shows that very site and nobody has to be asked about it; otherwise the whole way is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vclone_core.rules.answers import (
    CONDITIONAL,
    Answer,
    Representation,
    answer_representation,
    find_representation,
    may_be_before,
)
from vclone_core.rules.decisions import Headers, Refuse, Serve
from vclone_core.rules.objectkeys import blob_key
from vclone_core.rules.requests import VERSIONS, Request, is_simple
from vclone_edge.blobs import Hot, HotBlobs
from vclone_edge.cache import DomainCache, Known
from vclone_edge.https import Https
from vclone_edge.lane import Head
from vclone_edge.manifests import Manifests
from vclone_edge.peers import Peer, lookup

if TYPE_CHECKING:
    from vclone_edge.flow import Settled

KEPT_LIMIT: Final = 65_536  # about a kilobyte each; twice that at worst
PATH_LIMIT: Final = 256
FIELD_LIMIT: Final = 128
# What clients say of themselves with one request after the other, a browser's is half a kilobyte.
ASKED_LIMIT: Final = 2_048
ASKED_BYTES: Final = 2 * 1024
# So long an answer counts without another look at what it hangs on, as long as its host does not move.
SPAN_S: Final = 5.0

HIT: Final = (b"x-vclone-cache", b"HIT")

Key = tuple[bytes | None, bytes | None, bytes | None, bool]
Recalled = tuple[Known, Head, bytes, Hot | None]
"""What a request is answered: its host, head and body, and the blob that the body is of."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the fields of a request come to, but for Host. `is_plain`: neither conditions nor a range.

    `tag` is If-None-Match, where that is the only condition.
    """

    headers: dict[bytes, bytes]
    coding: bytes | None
    is_simple: bool
    is_plain: bool
    tag: bytes | None


@dataclass(slots=True, eq=False)
class _Ready:
    """What a file in one coding, or else a page of ours, is answered with over one scheme, on whichever host."""

    file: Representation | None
    page: Answer | None
    blob_key: str
    whole: Head
    heads: dict[int, Head] = field(default_factory=dict)
    """Of what is answered instead of the whole, by status."""


@dataclass(slots=True, eq=False)
class _Kept:
    """An answer of one host. In the span `sure_in` it counts over connections with this certificate."""

    known: Known
    ready: _Ready
    sure_in: object = None
    certificate: str = ""


class Remembered:
    """A bounded memory of settled requests of one process."""

    def __init__(
        self,
        cache: DomainCache,
        manifests: Manifests,
        blobs: HotBlobs,
        https: Https | None = None,
        *,
        limit: int = KEPT_LIMIT,
    ) -> None:
        self.cache = cache
        self.manifests = manifests
        self.blobs = blobs
        self.https = https
        self.limit = limit
        self._kept: dict[Key, _Kept] = {}
        self._asked: dict[tuple[tuple[bytes, bytes], ...], _Asked] = {}
        # By the identity of what each of them keeps.
        self._ready: dict[tuple[int, bool], _Ready] = {}
        self._span = object()
        self._span_ends_s = float("-inf")

    def __len__(self) -> int:
        return len(self._kept)

    def forget_all(self) -> None:
        """Go the whole way for everything once more."""
        self._kept.clear()
        self._ready.clear()

    def recall(self, scope: Mapping[str, Any], peer: Peer) -> Recalled | None:
        """Return the answer to a request in an ASGI scope; None: it is to go the whole way."""
        fields, method = scope["headers"], scope["method"]
        if fields and fields[0][0] == b"host":
            host, others = fields[0][1], tuple(fields[1:])
        else:
            host, others = dict(fields).get(b"host"), tuple(pair for pair in fields if pair[0] != b"host")
            if len(others) != len(fields) - 1:
                return None
        asked = self._asked.get(others) or self._read(others)
        kept = self._kept.get((host, scope.get("raw_path"), asked.coding, peer.is_tls))
        if kept is None or not asked.is_simple or scope["http_version"] not in VERSIONS:
            return None
        if self.cache.clock() >= self._span_ends_s:
            self._span, self._span_ends_s = object(), self.cache.clock() + SPAN_S
        known, ready = kept.known, kept.ready
        is_sure = kept.sure_in is self._span and known.is_current and kept.certificate == peer.certificate
        if not is_sure and not self._make_sure(kept, peer):
            return None
        if method != "GET" or not asked.is_plain:
            return self._recall_part(known, ready, asked, method, peer)
        if ready.page is not None:
            return known, ready.whole, ready.page.body, None
        hot = self.blobs.find(ready.blob_key)
        return None if hot is None else (known, ready.whole, hot.content, hot)

    def _recall_part(self, known: Known, ready: _Ready, asked: _Asked, method: str, peer: Peer) -> Recalled | None:
        """Recall what may be answered with less than the whole."""
        if method not in ("GET", "HEAD"):
            return None
        if ready.page is not None:
            return known, ready.whole, b"" if method == "HEAD" else ready.page.body, None
        assert ready.file is not None
        if asked.tag == ready.file.etag and (unchanged := ready.heads.get(304)) is not None:
            return known, unchanged, b"", None
        answer = answer_representation(ready.file, method, asked.headers)
        if answer is ready.file.whole:
            head = ready.whole
        elif answer.span is not None:  # there are as many ranges as visitors like
            head = self._head(answer, is_tls=peer.is_tls)
        elif (found := ready.heads.get(answer.status)) is not None:
            head = found
        else:
            head = ready.heads[answer.status] = self._head(answer, is_tls=peer.is_tls)
        if answer.blob is None:
            return known, head, answer.body, None
        hot = self.blobs.find(ready.blob_key)
        return None if hot is None else (known, head, bytes(hot.cut(answer.span)), hot)

    def _read(self, fields: tuple[tuple[bytes, bytes], ...]) -> _Asked:
        headers = dict(fields)
        conditions = CONDITIONAL.intersection(headers)
        asked = _Asked(
            headers,
            headers.get(b"accept-encoding"),
            # Two fields of one name are for the whole way to join.
            is_simple=len(headers) == len(fields) and b"host" not in headers and is_simple(headers),
            is_plain=not conditions,
            tag=headers[b"if-none-match"] if conditions == {b"if-none-match"} else None,
        )
        if sum(len(name) + len(value) for name, value in fields) <= ASKED_BYTES:
            if len(self._asked) >= ASKED_LIMIT:
                self._asked.clear()
            self._asked[fields] = asked
        return asked

    def _make_sure(self, kept: _Kept, peer: Peer) -> bool:
        """Say whether an answer still counts over this connection; if it does to the span's end, that is noted."""
        known = kept.known
        if self.cache.find_settled(known.site.host) is not known or self.manifests.find(known.site) is None:
            return False
        if self.https is not None and not self.https.passes(known.site.host, peer):
            return False
        if min(known.due_s, known.confirmed_s + self.cache.ttl_s) >= self._span_ends_s:
            kept.sure_in, kept.certificate = self._span, peer.certificate
        return True

    def _find_ready(self, file: Representation | None, whole: Answer, key: str, *, is_tls: bool) -> _Ready:
        place = id(whole if file is None else file), is_tls
        ready = self._ready.get(place)
        if ready is None:
            page = whole if file is None else None
            ready = self._ready[place] = _Ready(file, page, key, self._head(whole, is_tls=is_tls))
        return ready

    def _head(self, answer: Answer, *, is_tls: bool) -> Head:
        said = self.https.headers if self.https is not None and is_tls else ()
        return Head(answer.status, (*without(answer.headers, said), *said, HIT))

    def keep(self, scope: Mapping[str, Any], request: Request, settled: Settled) -> None:
        """Remember what a request came to, where the next one like it comes to the same."""
        raw, compiled, decision = scope.get("raw_path"), settled.compiled, settled.decision
        if compiled is None or decision is None or settled.is_stale or raw is None or len(raw) > PATH_LIMIT:
            return
        if settled.site.protection is not None:
            return  # who asks has a part in it
        if request.method not in ("GET", "HEAD") or compiled.manifest.deployment_id != settled.site.deployment_id:
            return
        # Files of builds before come and go with time.
        if request.path in compiled.earlier or compiled.table.memo.get(request.path) is not decision:
            return
        if settled.site.previous_deployment_id and may_be_before(compiled, decision, request.path):
            return
        known = self.cache.find_settled(request.host)
        if known is None or known.site is not settled.site or known.fallback is not None:
            return
        host, coding = request.headers.get(b"host"), request.headers.get(b"accept-encoding")
        is_tls = lookup(scope).is_tls
        if any(len(field or b"") > FIELD_LIMIT for field in (host, coding)):
            return
        if max(len(self._kept), len(self._ready)) >= self.limit:
            # Emptied rather than trimmed, as a table's memory is: hot paths come back at once.
            self.forget_all()
        if isinstance(decision, Serve):
            file = find_representation(compiled, decision, request.headers, is_indexed=settled.is_indexed)
            if file is None:
                return
            key = blob_key(settled.project_id, file.whole.blob or "")
            ready = self._find_ready(file, file.whole, key, is_tls=is_tls)
        elif isinstance(decision, Refuse) and decision.status == 404:
            page = settled.answer
            assert isinstance(page, Answer)
            ready = self._find_ready(None, page, "", is_tls=is_tls)
        else:
            return
        self._kept[host, raw, coding, is_tls] = _Kept(known, ready)


def without(headers: Headers, others: Headers) -> Headers:
    """Return the fields of `headers` whose names `others` does not have."""
    taken = {name for name, _ in others}
    return tuple(pair for pair in headers if pair[0] not in taken)
