"""A worker process for tests: real but for its build, which takes `SECONDS` and starts a child that sleeps."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from vclone_core.actions.platform import open_platform
from vclone_core.build.logsink import LogSink
from vclone_core.build.worker import Worker
from vclone_core.models import Claim, FileEntry, Manifest
from vclone_core.settings import load_settings
from vclone_core.stores import buildlogs


async def build(claim: Claim, workspace: Path, sink: LogSink) -> Manifest:
    me = os.environ["WORKER"]
    await sink.append([buildlogs.platform_line("build", f"{me} builds")])
    (workspace / "output").write_text("x")
    for _ in range(int(float(os.environ["SECONDS"]) * 20)):
        await asyncio.sleep(0.05)
    await sink.append([buildlogs.platform_line("build", f"{me} is done")])
    entry = FileEntry(sha256="0" * 64, size=len(me), type="text/html")
    return Manifest(claim.deployment.id, claim.project.id, "static", {"/index.html": entry}, ())


async def run() -> None:
    async with open_platform(load_settings(os.environ)) as platform:
        worker = Worker(platform, build, worker_id=os.environ["WORKER"])
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run()


asyncio.run(run())
