"""What sessions of build runners share: where a command may run, its first variables, its output, and its end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Final

from vclone_core.protocols import OnOutput

CHUNK_BYTES: Final = 64 * 1024


def find_folder(workspace: Path, cwd: Path) -> str:
    """Return where a command runs, without links; raise `ValueError` where that is not in the resolved `workspace`."""
    folder = os.path.realpath(cwd)
    if not Path(folder).is_relative_to(workspace):
        raise ValueError(f"{cwd} is outside the workspace")
    return folder


def base_environment(home: Path, path: str) -> dict[str, str]:
    """Return the variables that every command of a build has: a home of its own, and the same language everywhere."""
    return {
        "PATH": f"{home}/.local/bin:{path}",
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "LANG": "C.UTF-8",
        "SHELL": "/bin/sh",
    }


async def pass_output(reader: asyncio.StreamReader, name: str, on_output: OnOutput, turn: asyncio.Lock) -> None:
    """Pass a command's output on until it ends; two streams with one `turn` never overlap.

    A reader that isn't read from fills its buffer, then the pipe, and then the command waits: the back-pressure.
    """
    while chunk := await reader.read(CHUNK_BYTES):
        async with turn:
            await on_output(name, chunk)


async def uninterrupted(work: Coroutine[None, None, None]) -> None:
    """Await `work` to its end, also when this task is cancelled meanwhile; the cancellation goes on afterwards."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()
