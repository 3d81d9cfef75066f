"""Limits shared through Redis: exact with many at once, alike in Lua and Python, strict when Redis is away."""

from __future__ import annotations

import asyncio
import secrets

from vclone_core.actions.platform import Platform
from vclone_core.rules.limits import Rate
from vclone_core.stores.limits import Limiter
from vclone_core.stores.redis import Redis


async def test_of_many_at_once_as_many_get_through_as_may(platform: Platform, redis_url: str) -> None:
    rate, key = Rate("test", 5), secrets.token_hex(8)
    other = Redis(redis_url)  # another process
    limiters = (platform.limiter, Limiter(other))
    verdicts = await asyncio.gather(*(limiters[number % 2].take(rate, key) for number in range(40)))
    await other.close()
    allowed = [verdict for verdict in verdicts if verdict.is_allowed]
    assert len(allowed) == 5
    assert sorted(verdict.remaining for verdict in allowed) == [0, 1, 2, 3, 4]
    assert all(0 < verdict.retry_after_s <= 12 for verdict in verdicts if not verdict.is_allowed)
    assert (await platform.limiter.take(rate, secrets.token_hex(8))).is_allowed  # others are not held up


async def test_keys_go_by_themselves(platform: Platform) -> None:
    rate, key = Rate("short", 10, per_s=1), secrets.token_hex(8)
    assert (await platform.limiter.take(rate, key)).reset_after_s <= 0.1

    async def lives(client: object) -> list[int]:
        keys = [name async for name in client.scan_iter("limit:short:*")]  # type: ignore[attr-defined]
        return [await client.pttl(name) for name in keys]  # type: ignore[attr-defined]

    assert all(ms <= 102 for ms in await platform.redis.call(lives, otherwise=[]))


async def test_without_redis_each_process_counts_for_itself() -> None:
    away = Redis("redis://127.0.0.1:1")
    limiter = Limiter(away)
    rate = Rate("test", 3, burst=2)
    assert [(await limiter.take(rate, "a")).is_allowed for _ in range(4)] == [True, True, False, False]
    assert (await limiter.take(rate, "b")).is_allowed
    await away.close()


async def test_losing_redis_in_the_middle_gives_nobody_a_second_burst(redis_url: str) -> None:
    lost = Redis(redis_url)
    limiter = Limiter(lost)
    rate, key = Rate("test", 5), secrets.token_hex(8)
    before = [(await limiter.take(rate, key)).is_allowed for _ in range(3)]
    limiter._redis = Redis("redis://127.0.0.1:1")
    after = [(await limiter.take(rate, key)).is_allowed for _ in range(4)]
    await lost.close()
    await limiter._redis.close()
    assert before + after == [True] * 5 + [False] * 2
