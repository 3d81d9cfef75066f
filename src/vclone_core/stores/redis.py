"""Redis (or Valkey) as an accelerator: the bell of the queue, and wake-ups for whoever follows something.

Nothing is true here alone. Every call that fails is logged once per outage and answered with False, None or (),
and the caller's polling of PostgreSQL goes on. Keys and their lifetimes:

    deployment:queue, deployment:queue:high   lists, the bell: {"deployment_id", "project_id"}; the newest 10,000
    deployment:{id}, edges, edge:acks         channels without history: something changed, look again
    edge:ids, edge:{id}, edge:{id}:ack        which edges there are (see stores/events.py): 15 s, the ack 1 hour
    limit:{name}:{hash}                       what may only be done so often (see stores/limits.py): until it may again
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from vclone_core.log import get_log

log = get_log(__name__)

QUEUE: Final = "deployment:queue"
QUEUE_HIGH: Final = "deployment:queue:high"
EDGES_CHANNEL: Final = "edges"
ACKS_CHANNEL: Final = "edge:acks"

QUEUE_LENGTH: Final = 10_000
COMMAND_TIMEOUT_S: Final = 2.0
# After a failure nobody waits for Redis again for this long.
REST_S: Final = 1.0

T = TypeVar("T")


def deployment_channel(deployment_id: str) -> str:
    """Return the channel that wakes those who follow a deployment: its log grew, or its state changed."""
    return f"deployment:{deployment_id}"


class Wakes:
    """One listener's view of a channel: the last text since it looked, however many there were."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._text = ""

    def ring(self, text: str) -> None:
        self._text = text
        self._event.set()

    async def wait(self, timeout_s: float) -> str | None:
        """Return the newest text, at once if there was one since the last call; None after `timeout_s`.

        An empty text means that news may have been missed: look at the data.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return None
        self._event.clear()
        return self._text


class Redis:
    """One process's connections to Redis. Made without a connection: a server that is away is no error."""

    def __init__(self, url: str) -> None:
        self._client = redis.asyncio.Redis.from_url(
            url,
            decode_responses=True,
            socket_connect_timeout=COMMAND_TIMEOUT_S,
            socket_timeout=COMMAND_TIMEOUT_S,
            health_check_interval=10,
            retry=Retry(NoBackoff(), 0),
        )
        self._is_up = True
        self._rest_until = 0.0
        self._listeners: defaultdict[str, set[Wakes]] = defaultdict(set)
        self._listening: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Stop listening and give every connection back."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})
        with suppress(RedisError, OSError):
            await self._client.aclose()

    async def ring(self, deployment_id: str, project_id: str, *, high: bool) -> bool:
        """Wake one worker for a queued deployment; say whether it was heard."""
        text = json.dumps({"deployment_id": deployment_id, "project_id": project_id})
        queue = QUEUE_HIGH if high else QUEUE

        async def push(client: Any) -> bool:
            async with client.pipeline(transaction=False) as pipe:
                pipe.lpush(queue, text)
                pipe.ltrim(queue, 0, QUEUE_LENGTH - 1)
                await pipe.execute()
            return True

        return await self.call(push, otherwise=False)

    async def wait_bell(self, timeout_s: float) -> str | None:
        """Return the id of the deployment that was rung for, None after `timeout_s` without a ring.

        Without Redis it just waits: the caller polls at that pace.
        """
        started = time.monotonic()

        async def pop(client: Any) -> Any:
            # Below the socket's timeout, or a quiet bell would look like a lost server.
            return await client.brpop([QUEUE_HIGH, QUEUE], timeout=min(timeout_s, COMMAND_TIMEOUT_S / 2))

        while (left := timeout_s - (time.monotonic() - started)) > 0:
            if not self._may_call():
                await asyncio.sleep(min(left, REST_S))
            elif (item := await self.call(pop, otherwise=None)) is not None:
                with suppress(ValueError, KeyError, TypeError):
                    return str(json.loads(item[1])["deployment_id"])
        return None

    async def publish(self, channel: str, text: str) -> bool:
        """Wake everybody who listens to `channel`; say whether Redis took it."""

        async def send(client: Any) -> bool:
            await client.publish(channel, text)
            return True

        return await self.call(send, otherwise=False)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[Wakes]:
        """Listen to a channel for as long as the block runs."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen(), name="redis-listen")
        wakes = Wakes()
        self._listeners[channel].add(wakes)
        try:
            yield wakes
        finally:
            self._listeners[channel].discard(wakes)
            if not self._listeners[channel]:
                del self._listeners[channel]

    async def call(self, command: Callable[[Any], Awaitable[T]], *, otherwise: T) -> T:
        """Return what `command` answers, given the client; `otherwise` while Redis is away."""
        if not self._may_call():
            return otherwise
        try:
            answer = await command(self._client)
        except (RedisError, OSError, TimeoutError) as error:
            self._note_down(error)
            return otherwise
        self._note_up()
        return answer

    def _may_call(self) -> bool:
        return time.monotonic() >= self._rest_until

    def _note_down(self, error: BaseException) -> None:
        self._rest_until = time.monotonic() + REST_S
        if self._is_up:
            log.warning("redis.lost", why=str(error) or type(error).__name__)
        self._is_up = False

    def _note_up(self) -> None:
        if not self._is_up:
            log.info("redis.found")
        self._is_up = True

    async def _listen(self) -> None:
        # One subscription to every channel of ours per process, whatever the number of listeners: wake-ups are few
        # and small, and nothing has to be subscribed again after a reconnect.
        was_listening = False
        while True:
            pubsub = self._client.pubsub(ignore_subscribe_messages=True)
            try:
                await pubsub.psubscribe(deployment_channel("*"))
                await pubsub.subscribe(EDGES_CHANNEL, ACKS_CHANNEL)
                self._note_up()
                # What was published before is not heard any more: everybody looks once.
                self._ring_all()
                was_listening = True
                while True:
                    message = await pubsub.get_message(timeout=5.0)
                    if message is not None:
                        for wakes in self._listeners.get(message["channel"], ()):
                            wakes.ring(message["data"])
            except (RedisError, OSError, TimeoutError) as error:
                self._note_down(error)
                if was_listening:
                    self._ring_all()
                was_listening = False
                await asyncio.sleep(REST_S)
            finally:
                with suppress(RedisError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]

    def _ring_all(self) -> None:
        for channel in list(self._listeners):
            for wakes in self._listeners[channel]:
                wakes.ring("")


async def connect(url: str) -> Redis:
    """Return the process's Redis. It needn't be there yet."""
    return Redis(url)
