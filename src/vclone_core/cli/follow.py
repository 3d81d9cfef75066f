"""Follows a deployment to its end: log lines as they come, by event stream, by polling where the stream won't hold."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

from vclone_core.cli.client import ApiClient
from vclone_core.errors import Unavailable
from vclone_core.models import State

FINAL: Final = frozenset({State.READY, State.FAILED, State.CANCELLED, State.SKIPPED})
# A platform that is restarted comes back within seconds; one that stays away for longer is reported.
PATIENCE_S: Final = 60.0
POLL_S: Final = 1.0
# After this many streams that broke without bringing anything, something between here and there swallows streams.
STREAMS_TRIED: Final = 2

OnLine = Callable[[Mapping[str, Any]], None]
OnState = Callable[[Mapping[str, Any]], None]


async def follow_deployment(
    api: ApiClient, deployment_id: str, *, on_line: OnLine, on_state: OnState, after: int = 0
) -> Mapping[str, Any]:
    """Return the deployment in its final state; `on_line` and `on_state` hear each line and state on the way, once.

    Reconnects after the last line heard. Raises `Unavailable` when the API is silent for a minute.
    """
    follower = _Follower(api, deployment_id, on_line, on_state, after)
    while True:
        try:
            if (final := await follower.step()) is not None:
                return final
        except Unavailable:
            if time.monotonic() - follower.heard_s > PATIENCE_S:
                raise
            await asyncio.sleep(POLL_S)


class _Follower:
    def __init__(self, api: ApiClient, deployment_id: str, on_line: OnLine, on_state: OnState, after: int) -> None:
        self._api = api
        self._path = f"/api/deployments/{deployment_id}"
        self._on_line = on_line
        self._on_state = on_state
        self._after = after
        self._state: str | None = None
        self._mute_streams = 0
        self.heard_s = time.monotonic()

    async def step(self) -> Mapping[str, Any] | None:
        """Follow one stream to its end, or poll once; return the deployment when it has come to its end."""
        if self._mute_streams < STREAMS_TRIED:
            before = self._after, self._state
            try:
                await self._read_stream()
            finally:
                self._mute_streams = self._mute_streams + 1 if (self._after, self._state) == before else 0
        else:
            await asyncio.sleep(POLL_S)
        # Whatever the stream said, or however it ended: the stored state and lines are the truth.
        deployment = await self._api.get(self._path)
        self._hear()
        await self._read_stored_lines()
        self._tell_state(deployment)
        return deployment if deployment["state"] in FINAL else None

    async def _read_stream(self) -> None:
        async with aclosing(self._api.events(f"{self._path}/logs", last_id=str(self._after or ""))) as events:
            async for event in events:
                self._hear()
                if event.name == "line":
                    self._tell_line(json.loads(event.data))
                elif event.name == "state":
                    deployment = json.loads(event.data)
                    if deployment["state"] in FINAL:
                        return
                    self._tell_state(deployment)

    async def _read_stored_lines(self) -> None:
        while lines := (await self._api.get(f"{self._path}/logs", after=self._after))["items"]:
            for line in lines:
                self._tell_line(line)

    def _hear(self) -> None:
        self.heard_s = time.monotonic()

    def _tell_line(self, line: Mapping[str, Any]) -> None:
        if line["number"] > self._after:
            self._after = line["number"]
            self._on_line(line)

    def _tell_state(self, deployment: Mapping[str, Any]) -> None:
        if deployment["state"] != self._state:
            self._state = deployment["state"]
            self._on_state(deployment)
