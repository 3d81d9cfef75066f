"""What edges are told: alias moves in the order of their commits, and what each edge says it has seen.

Moves lie in PostgreSQL (`alias_history`); presence and acknowledgements in Redis, since nothing depends on them but a
figure. An edge is connected while its key is younger than 15 s.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vclone_core.models import AliasMove, EdgeReceipt
from vclone_core.rules.sites import decode_site
from vclone_core.stores.postgres import Queries
from vclone_core.stores.redis import ACKS_CHANNEL, EDGES_CHANNEL, Redis

PRESENCE_S: Final = 15
ACK_KEPT_S: Final = 3600
POLL_S: Final = 1.0
RECEIPT_POLL_S: Final = 0.1
PAGE: Final = 500
IDS_KEY: Final = "edge:ids"


@dataclass(frozen=True, slots=True)
class Versions:
    """The newest version, and the oldest one whose move is still told; both 0 before the first move."""

    newest: int
    oldest: int

    def is_complete_after(self, version: int) -> bool:
        """Say whether somebody who has seen `version` can be told everything since."""
        return self.newest >= version >= self.oldest - 1


async def read_versions(db: Queries) -> Versions:
    row = await db.fetch_one("fetch_versions")
    assert row is not None
    return Versions(row["newest"], row["oldest"])


async def current_version(db: Queries) -> int:
    """Return the version of the newest alias move; 0 before the first."""
    return (await read_versions(db)).newest


async def read_moves(db: Queries, after_version: int, limit: int = PAGE) -> list[AliasMove]:
    """Return at most `limit` moves with a higher version than `after_version`, in order.

    No move with a lower version than a returned one can appear later: versions are given under a lock that is held
    until the commit.
    """
    return [
        AliasMove(row["version"], row["host"], None if row["site"] is None else decode_site(row["site"]))
        for row in await db.fetch("list_moves", after_version, limit)
    ]


async def follow_moves(db: Queries, redis: Redis, after_version: int) -> AsyncIterator[AliasMove | None]:
    """Yield every move after `after_version`, as it is committed, for ever; None after each quiet second."""
    async with redis.subscribe(EDGES_CHANNEL) as wakes:
        while True:
            moves = await read_moves(db, after_version)
            for move in moves:
                after_version = move.version
                yield move
            if len(moves) < PAGE and await wakes.wait(POLL_S) is None:
                yield None


async def announce_moves(redis: Redis, version: int) -> bool:
    """Wake everybody who tells edges of moves."""
    return await redis.publish(EDGES_CHANNEL, str(version))


async def note_edge(redis: Redis, edge_id: str) -> bool:
    """Say that an edge is connected; to be said again within 15 s."""

    async def write(client: Any) -> bool:
        async with client.pipeline(transaction=False) as pipe:
            pipe.sadd(IDS_KEY, edge_id)
            pipe.set(f"edge:{edge_id}", "1", ex=PRESENCE_S)
            await pipe.execute()
        return True

    return await redis.call(write, otherwise=False)


async def forget_edge(redis: Redis, edge_id: str) -> bool:
    """Say that an edge has gone, so that nobody waits for its receipts."""

    async def remove(client: Any) -> bool:
        async with client.pipeline(transaction=False) as pipe:
            pipe.srem(IDS_KEY, edge_id)
            pipe.delete(f"edge:{edge_id}", f"edge:{edge_id}:ack")
            await pipe.execute()
        return True

    return await redis.call(remove, otherwise=False)


async def connected_edges(redis: Redis) -> tuple[str, ...]:
    """Return the ids of the edges that are connected, in order; none while Redis is away."""

    async def read(client: Any) -> tuple[str, ...]:
        ids = sorted(await client.smembers(IDS_KEY))
        if not ids:
            return ()
        alive = await client.mget([f"edge:{edge_id}" for edge_id in ids])
        gone = [edge_id for edge_id, mark in zip(ids, alive, strict=True) if mark is None]
        if gone:
            await client.srem(IDS_KEY, *gone)
        return tuple(edge_id for edge_id, mark in zip(ids, alive, strict=True) if mark is not None)

    nobody: tuple[str, ...] = ()
    return await redis.call(read, otherwise=nobody)


async def acknowledge(redis: Redis, edge_id: str, version: int) -> bool:
    """Note that an edge has seen every move up to `version`."""

    async def write(client: Any) -> bool:
        async with client.pipeline(transaction=False) as pipe:
            pipe.set(f"edge:{edge_id}:ack", str(version), ex=ACK_KEPT_S)
            pipe.publish(ACKS_CHANNEL, f"{edge_id} {version}")
            await pipe.execute()
        return True

    return await redis.call(write, otherwise=False)


async def wait_receipts(
    redis: Redis, version: int, edges: Sequence[str], timeout_s: float = 2.0
) -> tuple[EdgeReceipt, ...]:
    """Return what each of `edges` says of `version`, as soon as all have seen it, or after `timeout_s`.

    Times count from the call, which follows the commit at once.
    """
    started = time.monotonic()
    seen: dict[str, float] = {}
    if not edges:
        return ()

    async def read(client: Any) -> list[str | None]:
        answers: list[str | None] = await client.mget([f"edge:{edge_id}:ack" for edge_id in edges])
        return answers

    nothing: list[str | None] = [None] * len(edges)
    async with redis.subscribe(ACKS_CHANNEL) as wakes:
        while True:
            acks = await redis.call(read, otherwise=nothing)
            elapsed_s = time.monotonic() - started
            for edge_id, ack in zip(edges, acks, strict=True):
                if ack is not None and int(ack) >= version:
                    seen.setdefault(edge_id, round(elapsed_s * 1000, 1))
            if len(seen) == len(edges) or elapsed_s >= timeout_s:
                return tuple(EdgeReceipt(edge_id, seen.get(edge_id)) for edge_id in edges)
            await wakes.wait(min(RECEIPT_POLL_S, timeout_s - elapsed_s))
