"""A build's log on its way to its readers: bytes of strangers in, safe lines without secrets out, in batches.

bytes -> masked (secrets over line ends and chunks) -> lines -> masked (what cleaning has put together) -> sink
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Literal, Protocol

from vclone_core.errors import VcloneError
from vclone_core.models import Source, Step
from vclone_core.rules.logtext import LINE_BYTES, LineSplitter, clean_line
from vclone_core.rules.masking import Mask, Masker
from vclone_core.stores.buildlogs import NewLine

BATCH_S: Final = 0.2
BATCH_LINES: Final = 500
# What the last lines of a command's output are kept for: to find out why it failed.
TAIL_LINES: Final = 200


class Sink(Protocol):
    """Where one attempt's lines and findings are stored. Raises `StaleAttempt` when it has lost the build."""

    async def append(self, lines: Sequence[NewLine]) -> None:
        """Store lines in their order."""

    async def record_step(self, *, step: str | None = None, step_seconds: Mapping[str, float] | None = None) -> None:
        """Note the step the build has reached, and what earlier ones took."""

    async def record_findings(self, *, framework: str | None = None, source: Source | None = None) -> None:
        """Note the framework, and the commit that is built."""


class BuildLog:
    """The log of one attempt. Lines reach the sink `BATCH_S` after they were said, or sooner when there are many.

    What the sink raises comes out of the next call here, so that a build whose lease was lost ends soon.
    """

    def __init__(self, sink: Sink, *, limit_bytes: int) -> None:
        self._sink = sink
        # The store says where its limit is reached; a little over it makes sure that it does.
        self._left_bytes = limit_bytes + 4 * LINE_BYTES
        self._step = Step.CLONE
        self._waiting: list[NewLine] = []
        self._secrets: frozenset[str] = frozenset()
        self._mask = Mask()
        self._readers: dict[Literal["stdout", "stderr"], tuple[Masker, LineSplitter]] = {
            "stdout": (Masker(self._mask), LineSplitter()),
            "stderr": (Masker(self._mask), LineSplitter()),
        }
        self._writing = asyncio.Lock()
        self._flush: asyncio.Task[None] | None = None
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.step_seconds: dict[str, float] = {}

    async def hide(self, secrets: Iterable[str]) -> None:
        """Mask these values too in everything that is said from now on."""
        if self._secrets >= (added := frozenset(secrets)):
            return
        await self.finish_output()
        self._secrets |= added
        self._mask = Mask(self._secrets)
        for name, (_, splitter) in self._readers.items():
            self._readers[name] = (Masker(self._mask), splitter)

    def mask_error(self, error: VcloneError) -> None:
        """Mask the secrets in an error's words, which are kept with the deployment."""
        error.change_words(self._mask.text)

    @asynccontextmanager
    async def step(self, step: Step) -> AsyncIterator[None]:
        """Time a step; its lines carry its name, its last one the seconds."""
        await self.reach(step)
        started = time.monotonic()
        is_done = False
        try:
            yield
            is_done = True
        finally:
            await self.finish_output()
            seconds = time.monotonic() - started
            self.step_seconds[step.value] = round(seconds, 3)
            if is_done:
                await self.line(f"{step.value}: {seconds:.2f} s")
            else:
                # Of a step that went well the next one tells it.
                await self._sink.record_step(step_seconds=self.step_seconds)

    async def reach(self, step: Step) -> None:
        """Tell that a step begins, and what the earlier ones took."""
        self._step = step
        await self._sink.record_step(step=step.value, step_seconds=self.step_seconds)

    async def found(self, *, framework: str | None = None, source: Source | None = None) -> None:
        """Tell what was found out about the deployment before its build is over."""
        if source is not None:
            message, author, ref = (
                text and self._mask.text(text) for text in (source.message, source.author, source.ref)
            )
            source = replace(source, message=message, author=author, ref=ref)
        await self._sink.record_findings(framework=framework, source=source)

    async def line(self, text: str) -> None:
        """Say something in the platform's own voice, one line for each in `text`."""
        for line in self._mask.text(text).splitlines() or [""]:
            await self._put("platform", self._mask.text(clean_line(line.encode("utf-8", "replace"))))

    async def output(self, stream: str, data: bytes) -> None:
        """Take what a command said; waits while the sink is behind, which makes the command wait."""
        name: Literal["stdout", "stderr"] = "stderr" if stream == "stderr" else "stdout"
        masker, splitter = self._readers[name]
        for line in splitter.feed(masker.feed(data)):
            await self._say(name, line)

    async def finish_output(self) -> None:
        """Say what a command left unfinished on its last line."""
        for name, (masker, splitter) in self._readers.items():
            for line in (*splitter.feed(masker.finish()), *splitter.finish()):
                await self._say(name, line)

    async def close(self) -> None:
        """Store everything that was said."""
        await self.finish_output()
        if self._flush is not None:
            self._flush.cancel()
            await asyncio.gather(self._flush, return_exceptions=True)
            self._flush = None
        await self._write()

    async def _say(self, stream: Literal["stdout", "stderr"], line: str) -> None:
        line = self._mask.text(line)
        self.tail.append(line)
        if self._left_bytes > 0:
            self._left_bytes -= len(line) + 1
            await self._put(stream, line)

    async def _put(self, stream: Literal["platform", "stdout", "stderr"], text: str) -> None:
        self._waiting.append(NewLine(self._step.value, stream, text, datetime.now(UTC)))
        if len(self._waiting) >= BATCH_LINES:
            await self._write()
        elif self._flush is None or self._flush.done():
            if self._flush is not None and not self._flush.cancelled():
                self._flush.result()
            self._flush = asyncio.create_task(self._write_soon(), name="build log")

    async def _write_soon(self) -> None:
        await asyncio.sleep(BATCH_S)
        await self._write()

    async def _write(self) -> None:
        # One writer at a time keeps the order. The sink has the lines from the call on, also when it is cancelled.
        async with self._writing:
            while batch := self._waiting[:BATCH_LINES]:
                del self._waiting[: len(batch)]
                await self._sink.append(batch)
