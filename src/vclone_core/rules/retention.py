"""Which deployments a project keeps, and which blobs those need. Asked by collection of storage, never by a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final

from vclone_core.errors import FieldProblem, InvalidFields
from vclone_core.models import Manifest, SourceFile, State, Target
from vclone_core.rules.lifecycle import FINAL
from vclone_core.rules.manifests import list_blobs

LIMIT: Final = 100_000


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a project's deployments are kept, in days, and how many.

    Previews go when they are older than `preview_days`, or not among the newest `preview_count`; so does what never
    became ready. Of production the newest `production_count` stay at any age, and others until `production_days`.
    What is pinned, or shown by a host other than its own, always stays.
    """

    preview_days: int = 30
    preview_count: int = 100
    production_days: int = 365
    production_count: int = 10


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides about one deployment. `ended_at` is when it came to its end; `is_shown`: by a host of others."""

    id: str
    target: Target
    state: State
    sequence: int
    ended_at: datetime
    is_pinned: bool = False
    is_shown: bool = False


@dataclass(frozen=True, slots=True)
class Removal:
    """A deployment that goes, and why: `age` or `count`."""

    id: str
    reason: str


def parse_retention(raw: Mapping[str, Any]) -> Retention:
    """Return the retention that `raw` says, defaults for the rest; raise `InvalidFields` with every problem."""
    names = {field.name for field in fields(Retention)}
    problems = []
    for name, value in raw.items():
        if name not in names:
            problems.append(FieldProblem(f"retention.{name}", "there is no such rule"))
        elif type(value) is not int or not 1 <= value <= LIMIT:
            problems.append(FieldProblem(f"retention.{name}", f"must be a whole number from 1 to {LIMIT}"))
    if problems:
        raise InvalidFields(tuple(problems))
    return Retention(**raw)


def decide_removals(standings: Iterable[Standing], retention: Retention, *, now: datetime) -> tuple[Removal, ...]:
    """Return which deployments go, the oldest first."""
    removals = []
    counts = {True: 0, False: 0}
    for one in sorted(standings, key=lambda standing: standing.sequence, reverse=True):
        if one.state not in FINAL:
            continue
        is_production = one.target is Target.PRODUCTION and one.state is State.READY
        is_among_newest = counts[is_production] < (
            retention.production_count if is_production else retention.preview_count
        )
        counts[is_production] += 1
        days = retention.production_days if is_production else retention.preview_days
        is_old = one.ended_at < now - timedelta(days=days)
        if one.is_pinned or one.is_shown:
            continue
        if is_production and is_old and not is_among_newest:
            removals.append(Removal(one.id, "age"))
        elif not is_production and (is_old or not is_among_newest):
            removals.append(Removal(one.id, "age" if is_old else "count"))
    return tuple(reversed(removals))


def list_needed(manifests: Iterable[Manifest], sources: Iterable[Sequence[SourceFile]]) -> frozenset[str]:
    """Return the SHA-256 of every blob that these deployments serve, or were made of."""
    needed = {file.sha256 for files in sources for file in files}
    for manifest in manifests:
        needed.update(list_blobs(manifest.files.values()))
        needed.update(list_blobs(file.entry for file in manifest.earlier.values()))
    return frozenset(needed)
