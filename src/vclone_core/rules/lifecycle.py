"""The life of a deployment: which event leads from which state to which. The only judge of transitions.

queued --claim--> building --publish--> ready
  ^                  |  |---fail, exhaust--> failed
  '--retry, give back'  |---cancel--------> cancelled
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from vclone_core.errors import WrongState
from vclone_core.models import State


class Event(StrEnum):
    """What can happen to a deployment."""

    CLAIM = "claim"  # a worker takes it
    PUBLISH = "publish"  # its aliases point at it
    FAIL = "fail"  # a step failed
    CANCEL = "cancel"  # somebody, or a newer push, called it off
    RETRY = "retry"  # its worker, or a part of the platform, was lost
    EXHAUST = "exhaust"  # that happened too often
    GIVE_BACK = "give_back"  # its worker stops in good order
    SKIP = "skip"  # there is nothing to build


TABLE: Final[Mapping[tuple[State, Event], State]] = MappingProxyType(
    {
        (State.QUEUED, Event.CLAIM): State.BUILDING,
        (State.QUEUED, Event.CANCEL): State.CANCELLED,
        (State.QUEUED, Event.SKIP): State.SKIPPED,
        (State.BUILDING, Event.PUBLISH): State.READY,
        (State.BUILDING, Event.FAIL): State.FAILED,
        (State.BUILDING, Event.CANCEL): State.CANCELLED,
        (State.BUILDING, Event.RETRY): State.QUEUED,
        (State.BUILDING, Event.EXHAUST): State.FAILED,
        (State.BUILDING, Event.GIVE_BACK): State.QUEUED,
        (State.BUILDING, Event.SKIP): State.SKIPPED,
    }
)

FINAL: Final = frozenset({State.READY, State.FAILED, State.CANCELLED, State.SKIPPED})

BACKOFF_BASE_S: Final = 2.0
BACKOFF_LONGEST_S: Final = 60.0


def decide_state(state: State, event: Event) -> State:
    """Return the state that `event` leads to; raise `WrongState` where it can't happen.

    >>> decide_state(State.QUEUED, Event.CLAIM)
    <State.BUILDING: 'building'>
    """
    if (state, event) not in TABLE:
        needed = " or ".join(sorted(start for start, known in TABLE if known is event))
        raise WrongState(state=state.value, needed=needed)
    return TABLE[state, event]


@dataclass(frozen=True, slots=True)
class Loss:
    """What becomes of a build whose worker was lost: the event, and how long it rests before its next start."""

    event: Event
    rest_s: float = 0.0


def decide_loss(*, lost_attempts: int, max_attempts: int, is_cancel_requested: bool) -> Loss:
    """Say what becomes of a build whose attempt was lost; `lost_attempts` counts this one too.

    >>> decide_loss(lost_attempts=1, max_attempts=3, is_cancel_requested=False)
    Loss(event=<Event.RETRY: 'retry'>, rest_s=2.0)
    """
    if is_cancel_requested:
        return Loss(Event.CANCEL)
    if lost_attempts >= max_attempts:
        return Loss(Event.EXHAUST)
    return Loss(Event.RETRY, min(BACKOFF_LONGEST_S, BACKOFF_BASE_S * 2.0 ** (lost_attempts - 1)))


def decide_wait(*, rest_s: float, project_builds: int, project_slots: int) -> str:
    """Say what a queued deployment waits for.

    >>> decide_wait(rest_s=0, project_builds=1, project_slots=1)
    'It waits for another build of this project.'
    """
    if rest_s > 0:
        return f"Its last start was lost; it starts again in {rest_s:.0f} s."
    if project_builds >= project_slots:
        return "It waits for another build of this project."
    return "It waits for a free worker."
