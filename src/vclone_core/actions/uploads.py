"""Takes in blobs as a client sends them: several puts at once, and never more than a few MiB in memory."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from vclone_core.actions.platform import Platform
from vclone_core.actions.projects import note_blobs
from vclone_core.errors import VcloneError
from vclone_core.models import Project
from vclone_core.rules.blobframes import FRAME_LIMIT_BYTES, FrameDecoder, FrameEnd, FramePiece, FrameStart
from vclone_core.rules.objectkeys import blob_key

# Many small blobs at once are what a store writes together; fewer where they are larger.
PUTS_AT_ONCE: Final = 128
HELD_BYTES: Final = 8 * 1024**2
# Smaller blobs are gathered first and put in one go; larger ones flow through as they come.
SMALL_BYTES: Final = 256 * 1024
LARGE_BYTES: Final = 1024**2
PIECES_WAITING: Final = 2
NOTED_AT_ONCE: Final = 500


async def receive_blobs(
    platform: Platform, project: Project, pieces: AsyncIterator[bytes], *, limit_bytes: int = FRAME_LIMIT_BYTES
) -> int:
    """Store every blob of a body in the upload framing and return how many there were.

    Raises `TooLarge` for a blob over the limit and `Invalid` for one whose bytes have another hash or end too early;
    blobs before it may be stored, of it itself there is nothing.
    """
    decoder = FrameDecoder(limit_bytes=limit_bytes)
    intake = _Intake(platform, project)
    try:
        async with asyncio.TaskGroup() as puts:
            async for piece in pieces:
                for event in decoder.feed(piece):
                    await intake.take(event, puts)
            decoder.finish()
    except BaseExceptionGroup as group:
        # One cause ends the whole request; a group would be no error of ours.
        raise _first(group.subgroup(VcloneError) or group) from None
    finally:
        await intake.note()
    return intake.count


class _Pipe:
    """Hands the pieces of a large blob to its put, and drops what that leaves: the store may have it already."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(PIECES_WAITING)
        self._is_closed = False

    async def send(self, piece: bytes | None) -> None:
        if not self._is_closed:
            await self._queue.put(piece)

    def close(self) -> None:
        self._is_closed = True
        while not self._queue.empty():  # lets a sender go on that waits for room
            self._queue.get_nowait()

    async def read(self) -> AsyncIterator[bytes]:
        while (piece := await self._queue.get()) is not None:
            yield piece


class _Places:
    """Lets puts begin while they are few and hold little; a blob that flows through counts as `LARGE_BYTES`."""

    def __init__(self) -> None:
        self._count = self._held = 0
        self._freed = asyncio.Event()

    async def take(self, size: int) -> None:
        while self._count and (self._count >= PUTS_AT_ONCE or self._held + size > HELD_BYTES):
            self._freed.clear()
            await self._freed.wait()
        self._count += 1
        self._held += size

    def give_back(self, size: int) -> None:
        self._count -= 1
        self._held -= size
        self._freed.set()


@dataclass(slots=True)
class _Frame:
    """The frame that is being read: gathered in `small`, or passed on through `pipe`."""

    sha256: str
    size: int
    small: bytearray = field(default_factory=bytearray)
    pipe: _Pipe | None = None

    @property
    def held_bytes(self) -> int:
        """How much of it may be in memory at once; of a large one, pieces as the server hands them over."""
        return min(self.size, LARGE_BYTES)


class _Intake:
    """One request's blobs on their way into the object store."""

    def __init__(self, platform: Platform, project: Project) -> None:
        self._platform = platform
        self._project = project
        self._places = _Places()
        self._frame = _Frame("", 0)
        self._stored: dict[str, int] = {}  # the same blob may come twice
        self._since_s = math.inf
        self.count = 0

    async def take(self, event: FrameStart | FramePiece | FrameEnd, puts: asyncio.TaskGroup) -> None:
        """Act on one event of the body; waits while too many puts are under way."""
        frame = self._frame
        match event:
            case FrameStart(sha256, size):
                self._frame = _Frame(sha256, size)
                await self._places.take(self._frame.held_bytes)
                if size > SMALL_BYTES:
                    self._frame.pipe = _Pipe()
                    puts.create_task(self._put(self._frame, self._frame.pipe.read()))
            case FramePiece(data):
                if frame.pipe is None:
                    frame.small += data
                else:
                    await frame.pipe.send(data)
            case FrameEnd():
                if frame.pipe is None:
                    puts.create_task(self._put(frame, bytes(frame.small)))
                else:
                    await frame.pipe.send(None)

    async def _put(self, frame: _Frame, body: bytes | AsyncIterator[bytes]) -> None:
        self._since_s = min(self._since_s, time.monotonic())
        try:
            key = blob_key(self._project.id, frame.sha256)
            await self._platform.objects.put(key, body, size=frame.size, sha256=frame.sha256)
        finally:
            self._places.give_back(frame.held_bytes)
            if frame.pipe is not None:
                frame.pipe.close()
        self.count += 1
        self._stored[frame.sha256] = frame.size
        if len(self._stored) >= NOTED_AT_ONCE:
            await self.note()

    async def note(self) -> None:
        """Write down what is stored; only from then on is it not missing any more."""
        stored, self._stored = self._stored, {}
        if stored:
            await note_blobs(self._platform, self._project.id, list(stored.items()), since_s=self._since_s)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
