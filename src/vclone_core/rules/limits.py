"""How often something may be done: the generic cell rate algorithm, exact at any moment, with one number per key.

`stores/limits.py` keeps the number in Redis (the same arithmetic in Lua there) or, without Redis, in this process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` in `per_s` seconds, evenly; `burst` (None: `count`) of them at once. `name` is part of keys."""

    name: str
    count: int
    per_s: float = 60.0
    burst: int | None = None

    @property
    def interval_s(self) -> float:
        """Seconds between two that are always allowed."""
        return self.per_s / self.count

    @property
    def depth(self) -> int:
        return self.count if self.burst is None else self.burst


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one more is allowed. `retry_after_s`: when it would be; `reset_after_s`: when all of `limit` are."""

    is_allowed: bool
    limit: int
    remaining: int
    retry_after_s: float
    reset_after_s: float


def take(rate: Rate, free_at: float | None, now: float, *, cost: int = 1) -> tuple[Verdict, float]:
    """Return the verdict on `cost` more at `now`, and the number to keep; None stands for a key without one.

    >>> verdict, kept = take(Rate("x", 1, per_s=60), None, 0.0)
    >>> verdict.is_allowed, take(Rate("x", 1, per_s=60), kept, 20.0)[0].retry_after_s
    (True, 40.0)
    """
    before = now if free_at is None else max(free_at, now)
    after = before + rate.interval_s * cost
    room_s = rate.interval_s * rate.depth
    # What a float loses must not refuse the last of a burst.
    wait_s = after - room_s - now
    if wait_s > 1e-6:
        return judge(rate, used_s=before - now, wait_s=wait_s), before
    return judge(rate, used_s=after - now, wait_s=0.0), after


def judge(rate: Rate, *, used_s: float, wait_s: float) -> Verdict:
    """Return the verdict from how far ahead of now the key is, and how long it must wait (0: allowed)."""
    room_s = rate.interval_s * rate.depth
    remaining = max(0, math.floor((room_s - used_s) / rate.interval_s + 1e-6))
    return Verdict(wait_s <= 0, rate.depth, remaining if wait_s <= 0 else 0, max(wait_s, 0.0), max(used_s, 0.0))
