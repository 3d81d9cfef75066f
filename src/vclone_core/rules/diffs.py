"""What differs between two deployments, file by file, as the edge serves them; and where to look for what broke."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vclone_core.models import Manifest

Kind = Literal["added", "changed", "removed"]


@dataclass(frozen=True, slots=True)
class FileChange:
    """One path that differs; a size is None where the file is not there. `changed` with equal sizes has other bytes."""

    path: str
    kind: Kind
    size_before: int | None
    size_after: int | None

    @property
    def bytes(self) -> int:
        """How much larger the deployment got by it; negative: smaller."""
        return (self.size_after or 0) - (self.size_before or 0)


def diff_manifests(before: Manifest, after: Manifest) -> tuple[FileChange, ...]:
    """Return what is served otherwise by `after`, in the order of the paths; a type that changed counts as well."""
    changes = []
    for path in sorted(before.files.keys() | after.files.keys()):
        old, new = before.files.get(path), after.files.get(path)
        if old is None and new is not None:
            changes.append(FileChange(path, "added", None, new.size))
        elif old is not None and new is None:
            changes.append(FileChange(path, "removed", old.size, None))
        elif old is not None and new is not None and (old.sha256, old.type) != (new.sha256, new.type):
            changes.append(FileChange(path, "changed", old.size, new.size))
    return tuple(changes)


def sum_changes(changes: Sequence[FileChange]) -> dict[Kind, int]:
    """Return how many paths were added, changed and removed."""
    kinds: tuple[Kind, ...] = ("added", "changed", "removed")
    return {kind: sum(change.kind == kind for change in changes) for kind in kinds}


def pick_next(good: int, bad: int) -> int | None:
    """Return the place to look at next between two known ones; None when they are neighbours: `bad` is the first.

    Good may come before bad, or behind it: then it is found what mended it.

    >>> pick_next(0, 7), pick_next(3, 4)
    (3, None)
    """
    return None if abs(bad - good) <= 1 else (good + bad) // 2
