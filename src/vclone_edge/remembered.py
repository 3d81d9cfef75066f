"""Answers given before: a request for a hot file is looked up, not decided again.

    host + path + Accept-Encoding -> the file's answers (200, 304, 206 …), or the page of a 404

Only what the whole way (`flow.py`) has settled is kept, and only where nothing else of a request had a part in it. It
counts as long as the host shows that very site and nobody has to be asked about it; otherwise the whole way is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vclone_core.rules.answers import (
    Answer,
    Representation,
    answer_representation,
    find_representation,
    may_be_before,
)
from vclone_core.rules.decisions import Refuse, Serve
from vclone_core.rules.objectkeys import blob_key
from vclone_core.rules.requests import Request, is_simple
from vclone_edge.blobs import Hot, HotBlobs
from vclone_edge.cache import DomainCache, Known
from vclone_edge.manifests import Manifests

if TYPE_CHECKING:
    from vclone_edge.flow import Settled

KEPT_LIMIT: Final = 65_536  # half a kilobyte each; twice that at worst
PATH_LIMIT: Final = 256
FIELD_LIMIT: Final = 128

Key = tuple[bytes | None, bytes | None, bytes | None]


@dataclass(frozen=True, slots=True)
class Recalled:
    """What a request is answered. `hot` has the blob that `answer` names."""

    host: str
    answer: Answer
    hot: Hot | None


@dataclass(frozen=True, slots=True)
class _Kept:
    host: str
    known: Known
    page: Answer | None
    representation: Representation | None
    blob_key: str


class Remembered:
    """A bounded memory of settled requests of one process."""

    def __init__(self, cache: DomainCache, manifests: Manifests, blobs: HotBlobs, *, limit: int = KEPT_LIMIT) -> None:
        self.cache = cache
        self.manifests = manifests
        self.blobs = blobs
        self.limit = limit
        self._kept: dict[Key, _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def forget_all(self) -> None:
        """Go the whole way for everything once more."""
        self._kept.clear()

    def recall(self, scope: Mapping[str, Any]) -> Recalled | None:
        """Return the answer to a request in an ASGI scope; None: it is to go the whole way."""
        fields = scope["headers"]
        headers: dict[bytes, bytes] = dict(fields)
        if len(headers) != len(fields) or not is_simple(scope["method"], scope["http_version"], headers):
            return None
        kept = self._kept.get((headers.get(b"host"), scope.get("raw_path"), headers.get(b"accept-encoding")))
        if kept is None or self.cache.find_settled(kept.host) is not kept.known:
            return None
        if self.manifests.find(kept.known.site) is None:
            return None
        if kept.representation is None:
            assert kept.page is not None
            return Recalled(kept.host, kept.page, None)
        answer = answer_representation(kept.representation, scope["method"], headers)
        if answer.blob is None:
            return Recalled(kept.host, answer, None)
        hot = self.blobs.find(kept.blob_key)
        return None if hot is None else Recalled(kept.host, answer, hot)

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
        key = request.headers.get(b"host"), raw, request.headers.get(b"accept-encoding")
        if any(len(field or b"") > FIELD_LIMIT for field in (key[0], key[2])):
            return
        if len(self._kept) >= self.limit:
            # Emptied rather than trimmed, as a table's memory is: hot paths come back at once.
            self.forget_all()
        self._kept[key] = kept
