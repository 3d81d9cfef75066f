"""What sessions of runners share: a command stays in its workspace, and cleaning up is never cut short."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from vclone_core.buildsessions import find_folder, pass_output, uninterrupted


def test_a_command_runs_in_its_workspace_whatever_links_say(tmp_path: Path) -> None:
    workspace = (tmp_path / "workspace").resolve()
    (workspace / "inner").mkdir(parents=True)
    (workspace / "link").symlink_to("inner")
    (workspace / "out").symlink_to(tmp_path)
    assert find_folder(workspace, workspace / "link") == str(workspace / "inner")
    for outside in (workspace / "out", workspace / "..", tmp_path, tmp_path / "workspace-2"):
        with pytest.raises(ValueError, match="outside the workspace"):
            find_folder(workspace, outside)


async def test_what_must_be_done_is_done_before_a_cancellation_goes_on() -> None:
    done = asyncio.Event()

    async def clean_up() -> None:
        await asyncio.sleep(0.05)
        done.set()

    task = asyncio.create_task(uninterrupted(clean_up()))
    for _ in range(2):
        await asyncio.sleep(0.01)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()


async def test_a_failure_of_what_must_be_done_is_told() -> None:
    async def fail() -> None:
        raise OSError("the container is stuck")

    with pytest.raises(OSError, match="stuck"):
        await uninterrupted(fail())


async def test_output_of_two_streams_never_overlaps() -> None:
    readers = {name: asyncio.StreamReader() for name in ("stdout", "stderr")}
    inside, said = 0, b""

    async def take(_: str, data: bytes) -> None:
        nonlocal inside, said
        assert inside == 0
        inside += 1
        await asyncio.sleep(0)
        said += data
        inside -= 1

    turn = asyncio.Lock()
    passing = [asyncio.create_task(pass_output(reader, name, take, turn)) for name, reader in readers.items()]
    for _ in range(20):
        for reader in readers.values():
            reader.feed_data(b"x" * 1000)
        await asyncio.sleep(0)
    for reader in readers.values():
        reader.feed_eof()
    await asyncio.gather(*passing)
    assert len(said) == 40_000
