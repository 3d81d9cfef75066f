"""Build logs: lines in PostgreSQL, numbered without gaps over all attempts, and a wake-up for those who follow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from vclone_core.errors import StaleAttempt
from vclone_core.models import Fence, LogLine, State
from vclone_core.rules.lifecycle import FINAL
from vclone_core.stores.postgres import Queries, Record
from vclone_core.stores.redis import Redis, deployment_channel

LINE_BYTES: Final = 16 * 1024
# How often a follower looks when nothing wakes it.
POLL_S: Final = 1.0
PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class NewLine:
    """One line on its way into a log; its number is given when it is stored."""

    step: str
    stream: Literal["platform", "stdout", "stderr"]
    text: str
    at: datetime


async def append(db: Queries, fence: Fence, lines: Sequence[NewLine], *, cap_bytes: int) -> int:
    """Store lines behind those there are and return the last one's number.

    What lies past `cap_bytes` is dropped, with one line that says so; the platform's own lines always go in. Raises
    `StaleAttempt` when the fence no longer holds the build.
    """
    row = await _append(db, fence, lines, cap_bytes)
    if row["dropped"] and not row["was_full"]:
        text = f"The log reached its limit of {cap_bytes // 1024} KiB; further output isn't kept."
        row = await _append(db, fence, [platform_line(lines[-1].step, text)], cap_bytes)
    return int(row["last_number"])


def platform_line(step: str, text: str) -> NewLine:
    """Return a line of the platform's own, at this moment."""
    return NewLine(step, "platform", text, datetime.now(UTC))


async def read(db: Queries, deployment_id: str, after: int = 0, limit: int = PAGE) -> list[LogLine]:
    """Return at most `limit` lines with a number above `after`, in order."""
    return [_line_from(row) for row in await db.fetch("list_lines", deployment_id, after, limit)]


async def last_number(db: Queries, deployment_id: str) -> int:
    """Return the number of the newest line; 0 when there is none."""
    row = await db.fetch_one("fetch_last_number", deployment_id)
    return 0 if row is None else int(row["log_lines"])


async def follow(db: Queries, redis: Redis, deployment_id: str, after: int = 0) -> AsyncIterator[LogLine]:
    """Yield every line above `after`, and those to come, until the deployment is final and all were told."""
    async with redis.subscribe(deployment_channel(deployment_id)) as wakes:
        while True:
            # The state first: what is final before the lines are read can get no line after them.
            row = await db.fetch_one("fetch_deployment_by_id", deployment_id)
            is_final = row is None or State(row["state"]) in FINAL
            lines = await read(db, deployment_id, after)
            for line in lines:
                after = line.number
                yield line
            if not lines and is_final:
                return
            if len(lines) < PAGE and not is_final:
                await wakes.wait(POLL_S)


async def _append(db: Queries, fence: Fence, lines: Sequence[NewLine], cap_bytes: int) -> Record:
    row = await db.fetch_one(
        "append_lines",
        *fence,
        [line.step for line in lines],
        [line.stream for line in lines],
        [_clean(line.text) for line in lines],
        [line.at for line in lines],
        cap_bytes,
    )
    if row is None:
        raise StaleAttempt()
    return row


def _clean(text: str) -> str:
    # What PostgreSQL's text can't hold, U+0000 and half a surrogate pair, becomes the replacement character.
    data = text.replace("\0", "\ufffd").encode("utf-8", "replace")
    return data[:LINE_BYTES].decode("utf-8", "ignore")


def _line_from(row: Record) -> LogLine:
    return LogLine(row["number"], row["step"], row["stream"], row["text"], row["at"])
