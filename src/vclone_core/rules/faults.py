"""Which failures of an attempt are the platform's, so that the build is started again, and which are told at once.

`FAULTS` is the whole knowledge. What a build's own commands and files bring about fails the same way each time: it is
told at once. A worker that is lost without a word counts as a fault of the platform (`lifecycle.decide_loss`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vclone_core.errors import (
    BlobsCollected,
    BuildTimeout,
    CloneFailed,
    DiskFull,
    Internal,
    OutOfMemory,
    RunnerUnavailable,
    SourceUnreachable,
    StepFailed,
    StoreUnavailable,
    Unavailable,
    VcloneError,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of an attempt that ended with `error` or one below it, and why."""

    error: type[VcloneError]
    is_retried: bool
    why: str


FAULTS: Final[tuple[Fault, ...]] = (
    Fault(Unavailable, True, "A part of the platform does not answer; it may, a moment later."),
    Fault(StoreUnavailable, True, "The object store fails or is away. Blobs that were stored are not sent again."),
    Fault(RunnerUnavailable, True, "The runner could not start, or lost, what the build ran in."),
    Fault(BlobsCollected, True, "Storage was being collected just then: what is missing is stored again."),
    Fault(SourceUnreachable, True, "The repository's host does not answer, or fails by itself (5xx)."),
    Fault(CloneFailed, False, "The host answered: there is no such repository, branch or commit, or no access to it."),
    Fault(StepFailed, False, "The project's own commands or files brought it about; they are the same next time."),
    Fault(BuildTimeout, False, "It would take as long again, and its slot with it."),
    Fault(OutOfMemory, False, "The limit is the same next time."),
    Fault(DiskFull, False, "The build itself may be what fills the disk; three times would harm its neighbours."),
    Fault(Internal, False, "A bug of ours is rarely cured by another try; the log of the worker has it."),
    Fault(VcloneError, False, "Anything else is told as it is."),
)
_BY_ERROR: Final = {fault.error: fault for fault in FAULTS}


def find_fault(error: type[VcloneError]) -> Fault:
    """Return the row for an error: its own, else that of what it is a kind of.

    >>> find_fault(BuildTimeout).is_retried
    False
    """
    return next(_BY_ERROR[kind] for kind in error.__mro__ if kind in _BY_ERROR)
