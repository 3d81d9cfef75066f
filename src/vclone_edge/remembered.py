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
# For so long an answer counts without a look at what it hangs on, as long as no host moves.
SURE_S: Final = 1.0

HIT: Final = (b"x-vclone-cache", b"HIT")

Key = tuple[bytes | None, bytes | None, bytes | None, bool]
Recalled = tuple[str, Head, bytes, Hot | None]
"""What a request is answered: its host in one spelling, head and body, and the blob that the body is of."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the fields of a request come to, but for Host. `is_plain`: neither conditions nor a range."""

    headers: dict[bytes, bytes]
    coding: bytes | None
    is_simple: bool
    is_plain: bool


@dataclass(slots=True, eq=False)
class _Kept:
    host: str
    known: Known
    page: Answer | None
    representation: Representation | None
    blob_key: str
    whole: Head | None = None
    """Of the page, or of all of the file."""
    heads: dict[int, Head] = field(default_factory=dict)
    """Of the others, by status."""
    sure_until_s: float = 0.0
    """Until then, while the domain cache has this `sure_change`, it counts over connections with this certificate."""
    sure_change: int = -1
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

    def __len__(self) -> int:
        return len(self._kept)

    def forget_all(self) -> None:
        """Go the whole way for everything once more."""
        self._kept.clear()

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
        if (
            self.cache.clock() >= kept.sure_until_s
            or kept.sure_change != self.cache.changes
            or kept.certificate != peer.certificate
        ) and not self._make_sure(kept, peer):
            return None
        if kept.whole is None or method != "GET" or not asked.is_plain:
            return self._recall_other(kept, asked, method, peer)
        if kept.page is not None:
            return kept.host, kept.whole, kept.page.body, None
        hot = self.blobs.find(kept.blob_key)
        return None if hot is None else (kept.host, kept.whole, hot.content, hot)

    def _recall_other(self, kept: _Kept, asked: _Asked, method: str, peer: Peer) -> Recalled | None:
        """Recall what isn't all of a file or page, or is for the first time."""
        if method not in ("GET", "HEAD"):
            return None
        answer = kept.page
        if kept.representation is not None:
            answer = answer_representation(kept.representation, method, asked.headers)
        assert answer is not None
        head = self._head(kept, answer, peer)
        if answer.blob is None:
            return kept.host, head, b"" if method == "HEAD" else answer.body, None
        hot = self.blobs.find(kept.blob_key)
        return None if hot is None else (kept.host, head, bytes(hot.cut(answer.span)), hot)

    def _read(self, fields: tuple[tuple[bytes, bytes], ...]) -> _Asked:
        headers = dict(fields)
        # Two fields of one name are for the whole way to join.
        is_simple_ = len(headers) == len(fields) and b"host" not in headers and is_simple(headers)
        asked = _Asked(headers, headers.get(b"accept-encoding"), is_simple_, CONDITIONAL.isdisjoint(headers))
        if sum(len(name) + len(value) for name, value in fields) <= ASKED_BYTES:
            if len(self._asked) >= ASKED_LIMIT:
                self._asked.clear()
            self._asked[fields] = asked
        return asked

    def _make_sure(self, kept: _Kept, peer: Peer) -> bool:
        """Say whether an answer still counts over this connection, and note for how long that need not be asked."""
        known = self.cache.find_settled(kept.host)
        if known is None or known is not kept.known or self.manifests.find(known.site) is None:
            return False
        if self.https is not None and not self.https.passes(kept.host, peer):
            return False
        kept.sure_until_s = min(self.cache.clock() + SURE_S, known.due_s, known.confirmed_s + self.cache.ttl_s)
        kept.sure_change = self.cache.changes
        kept.certificate = peer.certificate
        return True

    def _head(self, kept: _Kept, answer: Answer, peer: Peer) -> Head:
        is_whole = answer is kept.page or (answer.blob is not None and answer.span is None)
        head = kept.whole if is_whole else kept.heads.get(answer.status)
        if head is None:
            said = self.https.headers if self.https is not None and peer.is_tls else ()
            head = Head(answer.status, (*without(answer.headers, said), *said, HIT))
            if is_whole:
                kept.whole = head
            elif answer.span is None:  # there are as many ranges as visitors like
                kept.heads[answer.status] = head
        return head

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
        kept = None
        if isinstance(decision, Serve):
            found = find_representation(compiled, decision, request.headers, is_indexed=settled.is_indexed)
            if found is not None:
                kept = _Kept(request.host, known, None, found, blob_key(settled.project_id, found.whole.blob or ""))
        elif isinstance(decision, Refuse) and decision.status == 404:
            assert isinstance(settled.answer, Answer)
            kept = _Kept(request.host, known, settled.answer, None, "")
        if kept is None:
            return
        is_tls = lookup(scope).is_tls
        key = request.headers.get(b"host"), raw, request.headers.get(b"accept-encoding"), is_tls
        if any(len(field or b"") > FIELD_LIMIT for field in (key[0], key[2])):
            return
        if len(self._kept) >= self.limit:
            # Emptied rather than trimmed, as a table's memory is: hot paths come back at once.
            self.forget_all()
        self._kept[key] = kept


def without(headers: Headers, others: Headers) -> Headers:
    """Return the fields of `headers` whose names `others` does not have."""
    taken = {name for name, _ in others}
    return tuple(pair for pair in headers if pair[0] not in taken)
