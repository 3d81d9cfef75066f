"""Counts what may only be done so often: in Redis for all processes together, or in this one while Redis is away."""

from __future__ import annotations

import hashlib
import time
from typing import Any, Final

from cachetools import LRUCache

from vclone_core.rules.limits import Rate, Verdict, judge, take
from vclone_core.stores.redis import Redis

# Keys kept in this process while Redis is away; the least recently used are forgotten.
KEYS_KEPT: Final = 50_000

# rules/limits.py in microseconds, in one step: no two callers see the same number. Answers {used, wait}.
_TAKE: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local interval, depth, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local before = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local after = before + interval * cost
local wait = after - interval * depth - now
if wait > 0 then
    return {before - now, wait}
end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000) + 1)
return {after - now, 0}
"""


class Limiter:
    """One process's view of all limits."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._own: LRUCache[str, float] = LRUCache(KEYS_KEPT)

    async def take(self, rate: Rate, key: str, *, cost: int = 1) -> Verdict:
        """Count `cost` more for `key` if that is allowed, and return the verdict. What is refused isn't counted.

        `key` may be anything a client sent: only its hash is kept.
        """
        name = _name(rate, key)
        # This process's own share first. What it refuses alone, all together would: a flood doesn't get to Redis. And
        # should Redis go away in the middle of one, nobody is given a second burst.
        own = self.take_here(rate, key, cost=cost)
        if not own.is_allowed:
            return own
        interval_us = round(rate.interval_s * 1e6)

        async def ask(client: Any) -> Any:
            return await client.eval(_TAKE, 1, name, interval_us, rate.depth, cost)

        answer = await self._redis.call(ask, otherwise=None)
        if answer is None:
            return own
        used_us, wait_us = (int(number) for number in answer)
        if wait_us > 0 and name in self._own:
            self._own[name] -= rate.interval_s * cost  # refused, so not counted
        return judge(rate, used_s=used_us / 1e6, wait_s=wait_us / 1e6)

    def take_here(self, rate: Rate, key: str, *, cost: int = 1) -> Verdict:
        """Count `cost` more for `key` in this process alone; asks nobody."""
        name = _name(rate, key)
        verdict, self._own[name] = take(rate, self._own.get(name), time.monotonic(), cost=cost)
        return verdict

    def is_spent(self, rate: Rate, key: str) -> bool:
        """Say whether this process has already let through all that `key` may do now; asks and counts nothing."""
        verdict, _ = take(rate, self._own.get(_name(rate, key)), time.monotonic())
        return not verdict.is_allowed


def _name(rate: Rate, key: str) -> str:
    return f"limit:{rate.name}:{hashlib.sha256(key.encode()).hexdigest()[:32]}"
