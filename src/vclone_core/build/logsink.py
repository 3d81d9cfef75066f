"""Where a build's log lines go: PostgreSQL, in order and once, also over an outage of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from vclone_core.errors import Unavailable
from vclone_core.log import get_log
from vclone_core.models import Claim, Source, Step
from vclone_core.stores import buildlogs, queue
from vclone_core.stores.buildlogs import NewLine
from vclone_core.stores.postgres import Database
from vclone_core.stores.redis import Redis, deployment_channel

log = get_log(__name__)

BATCH: Final = 2000
# Lines kept in memory while the database is away; further output of the build is dropped.
PENDING_LINES: Final = 20_000


class LogSink:
    """One attempt's way into its log. Every write raises `StaleAttempt` once the attempt has lost its build."""

    def __init__(self, db: Database, redis: Redis, claim: Claim, *, cap_bytes: int) -> None:
        self._db = db
        self._redis = redis
        self._claim = claim
        self._cap_bytes = cap_bytes
        # The step the build is in, for the lines the worker writes itself.
        self.step = Step.CLONE.value
        self._pending: list[NewLine] = []
        self._last_number: int | None = None
        # How many of the pending lines were sent without an answer; they may be stored or not.
        self._unanswered = 0
        self._lock = asyncio.Lock()

    async def append(self, lines: Sequence[NewLine]) -> None:
        """Store lines behind the earlier ones. While the database is away they are kept for the next call."""
        # Taken over before the first wait: a caller that is cancelled in here must not send them again.
        self._pending += lines[: max(0, PENDING_LINES - len(self._pending))]
        async with self._lock:
            try:
                await self._store()
            except Unavailable as error:
                log.warning("buildlog.waiting", deployment=self._claim.deployment.id, why=error.sentence)

    async def flush(self) -> None:
        """Store what is kept; raise `Unavailable` when the database is away."""
        async with self._lock:
            await self._store()

    async def record_step(self, *, step: str | None = None, step_seconds: Mapping[str, float] | None = None) -> None:
        """Note the step the build has reached, and what earlier ones took. An outage loses only this note."""
        self.step = step or self.step
        try:
            await queue.record_step(self._db, self._claim, step=step, step_seconds=step_seconds)
        except Unavailable:
            return
        await self._redis.publish(deployment_channel(self._claim.deployment.id), "step")

    async def record_findings(self, *, framework: str | None = None, source: Source | None = None) -> None:
        """Note the framework, and the commit that was built, on the deployment."""
        await queue.record_findings(self._db, self._claim, framework=framework, source=source)

    async def _store(self) -> None:
        if self._last_number is None or self._unanswered:
            await self._settle()
        while self._pending:
            batch = self._pending[:BATCH]
            self._unanswered = len(batch)
            self._last_number = await buildlogs.append(self._db, self._claim.fence, batch, cap_bytes=self._cap_bytes)
            self._unanswered = 0
            del self._pending[: len(batch)]
            await self._redis.publish(deployment_channel(self._claim.deployment.id), "log")

    async def _settle(self) -> None:
        # A batch is stored whole or not at all, and nobody else writes: if the log grew, it was stored.
        last = await buildlogs.last_number(self._db, self._claim.deployment.id)
        if self._last_number is not None and last > self._last_number:
            del self._pending[: self._unanswered]
        self._last_number, self._unanswered = last, 0
