"""The build log: batches, order, back-pressure, limits, and what happens when the sink refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.build.conftest import Lines

from vclone_core.build.buildlog import BATCH_LINES, BATCH_S, BuildLog
from vclone_core.errors import StaleAttempt
from vclone_core.models import Source, Step
from vclone_core.stores.buildlogs import NewLine


async def test_line_reaches_the_sink_soon_and_in_a_batch() -> None:
    sink = Lines()
    log = BuildLog(sink, limit_bytes=10_000)
    await log.output("stdout", b"one\ntwo\nth")
    assert sink.lines == []
    await asyncio.sleep(BATCH_S + 0.1)
    assert [line.text for line in sink.lines] == ["one", "two"]
    await log.output("stdout", b"ree\n")
    await log.close()
    assert [line.text for line in sink.lines] == ["one", "two", "three"]


async def test_streams_are_kept_apart_until_their_lines_end() -> None:
    sink = Lines()
    log = BuildLog(sink, limit_bytes=10_000)
    await log.output("stdout", b"out ")
    await log.output("stderr", b"err\n")
    await log.output("stdout", b"put\n")
    await log.close()
    assert [(line.stream, line.text) for line in sink.lines] == [("stderr", "err"), ("stdout", "out put")]


async def test_slow_sink_makes_the_writer_wait_and_nothing_is_lost() -> None:
    class SlowLines(Lines):
        async def append(self, lines: Sequence[NewLine]) -> None:
            assert len(lines) <= BATCH_LINES
            await asyncio.sleep(0.02)
            await super().append(lines)

    sink = SlowLines()
    log = BuildLog(sink, limit_bytes=10_000_000)
    for number in range(3000):
        await log.output("stdout", b"%d\n" % number)
        assert len(log._waiting) <= BATCH_LINES
    await log.close()
    assert [line.text for line in sink.lines] == [str(number) for number in range(3000)]


async def test_output_past_the_limit_is_dropped_but_the_platform_still_speaks() -> None:
    sink = Lines()
    log = BuildLog(sink, limit_bytes=1000)
    for _ in range(200):
        await log.output("stdout", b"x" * 999 + b"\n")
    await log.line("end")
    await log.close()
    assert 65 <= len(sink.lines) <= 70
    assert sink.lines[-1].text == "end"
    assert len(log.tail) == 200


async def test_refusing_sink_is_heard_at_the_next_call() -> None:
    class Refusing(Lines):
        async def append(self, lines: Sequence[NewLine]) -> None:
            raise StaleAttempt()

    log = BuildLog(Refusing(), limit_bytes=1000)
    await log.line("first")
    await asyncio.sleep(BATCH_S + 0.1)
    with pytest.raises(StaleAttempt):
        await log.line("second")
    with pytest.raises(StaleAttempt):
        await log.close()


async def test_failed_step_is_timed_too() -> None:
    sink = Lines()
    log = BuildLog(sink, limit_bytes=1000)
    with pytest.raises(LookupError):
        async with log.step(Step.BUILD):
            await log.output("stdout", b"unfinished")
            raise LookupError
    await log.close()
    assert [line.text for line in sink.lines] == ["unfinished"]
    assert list(sink.step_seconds) == ["build"]


async def test_secrets_are_masked_whatever_writes_them() -> None:
    sink = Lines()
    log = BuildLog(sink, limit_bytes=100_000)
    await log.hide(["topsecret1", "first line\nab\nlast line"])
    for byte in b"topsecret1 b3Bz dG9wc2VjcmV0MQ== top\x00secret1 \x1b[1mtop\x1b[0msecret1 X\btopsecret1\n":
        await log.output("stdout", bytes((byte,)))
    await log.output("stdout", b"first line\nab\nlast line\n")
    await log.output("stdout", b"x" * 16_380 + b"topsecret1\n")
    await log.output("stderr", b"it is topsec")
    await log.line("the platform says topsecret1")
    await log.output("stderr", b"ret1")
    await log.hide(["another-secret"])
    await log.line("another-secret, topsecret1")
    await log.found(source=Source("git", message="use topsecret1", author="Ada"))
    await log.close()
    assert [line.text for line in sink.lines[:4]] == ["*** b3Bz *** *** *** ***", "***", "***", "***"]
    assert not any("tops" in line.text or "secret1" in line.text for line in sink.lines)
    assert [line.text for line in sink.lines[5:]] == ["the platform says ***", "it is ***", "***, ***"]
    assert sink.sources == [Source("git", message="use ***", author="Ada")]


async def test_line_waits_for_no_secret() -> None:
    sink = Lines()
    log = BuildLog(sink, limit_bytes=100_000)
    await log.hide(["topsecret1" * 100])
    await log.output("stdout", b"Compiling top\n")
    await asyncio.sleep(BATCH_S + 0.1)
    assert [line.text for line in sink.lines] == ["Compiling top"]
    await log.close()
