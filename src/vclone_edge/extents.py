"""Where the bytes of an answer lie in the object store: an object of their own, or a part of a pack."""

from __future__ import annotations

from dataclasses import dataclass

from vclone_core.models import Span
from vclone_core.rules.answers import Answer
from vclone_core.rules.objectkeys import blob_key


@dataclass(frozen=True, slots=True)
class Extent:
    """The object `key` of `object_size` bytes, or a span of it."""

    key: str
    object_size: int
    span: Span | None = None


def find_extent(project_id: str, answer: Answer) -> Extent:
    """Return where the whole blob of an answer lies, which has one."""
    assert answer.blob is not None
    if (pack := answer.pack) is None:
        return Extent(blob_key(project_id, answer.blob), answer.size)
    return Extent(blob_key(project_id, pack.sha256), pack.size, Span(pack.start, pack.start + answer.size - 1))


def cut_extent(extent: Extent, span: Span | None) -> Extent:
    """Return where a span of what lies at `extent` lies; of None, all of it."""
    if span is None:
        return extent
    start = 0 if extent.span is None else extent.span.start
    return Extent(extent.key, extent.object_size, Span(start + span.start, start + span.end))
