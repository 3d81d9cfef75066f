"""When a process of `vclone up` that ended is started again, when that is given up, and when one is silent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# A process that lived this long had done its work: what ended it is something new.
STEADY_S: Final = 10.0
# With the waits below five quick ends take about 3 s: long enough for a port or a socket to come free.
MOST_QUICK_ENDS: Final = 5
FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 5.0
# A process that has not answered for so long, asked at least so often, does not answer any more. A busy one gets its
# turn in between, and a machine that slept has asked once.
SILENT_S: Final = 30.0
FEWEST_QUESTIONS: Final = 3


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again after `wait_s`; `quick_ends` goes into the next decision."""

    wait_s: float
    quick_ends: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It ends at once every time: stop, and say why."""

    quick_ends: int


def plan_restart(*, lived_s: float, quick_ends: int) -> Restart | GiveUp:
    """Say what to do about a process that ended after `lived_s`, having ended quickly `quick_ends` times before.

    >>> plan_restart(lived_s=3600.0, quick_ends=2)
    Restart(wait_s=0.0, quick_ends=0)
    >>> plan_restart(lived_s=0.1, quick_ends=0)
    Restart(wait_s=0.2, quick_ends=1)
    >>> plan_restart(lived_s=0.1, quick_ends=4)
    GiveUp(quick_ends=5)
    """
    if lived_s >= STEADY_S:
        return Restart(0.0, 0)
    quick_ends += 1
    if quick_ends >= MOST_QUICK_ENDS:
        return GiveUp(quick_ends)
    return Restart(min(FIRST_WAIT_S * 2 ** (quick_ends - 1), LONGEST_WAIT_S), quick_ends)


def is_silent(*, unanswered: int, unanswered_s: float) -> bool:
    """Say whether a process that left the last `unanswered` questions without an answer has to be replaced.

    >>> is_silent(unanswered=3, unanswered_s=31.0), is_silent(unanswered=2, unanswered_s=3600.0)
    (True, False)
    """
    return unanswered >= FEWEST_QUESTIONS and unanswered_s >= SILENT_S
