"""How long the platform's own steps take for a static folder: `python benchmarks/build_static.py [FILES]`.

Deploys a folder of 10 KiB files (seven of ten are text) to a local object store three times: cold, unchanged, and with
one file changed. No command is run and no database is asked: this is the time of the pipeline itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from vclone_core.build.buildlog import BuildLog
from vclone_core.build.context import Build
from vclone_core.build.pipeline import run_build
from vclone_core.models import (
    BuildLimits,
    Claim,
    Deployment,
    Manifest,
    Project,
    ProjectSettings,
    Source,
    SourceFile,
    State,
    Target,
)
from vclone_core.plugins import load_plugins
from vclone_core.protocols import RunnerConfig, StoreConfig
from vclone_core.rules.objectkeys import blob_key
from vclone_core.settings import load_settings

FILE_BYTES = 10 * 1024


class Sink:
    """Drops every line."""

    async def append(self, lines: Sequence[object]) -> None: ...
    async def record_step(self, **_: object) -> None: ...
    async def record_findings(self, **_: object) -> None: ...


class Blobs:
    """The project's blobs, in memory."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    async def missing(self, hashes: Sequence[str]) -> Sequence[str]:
        return [sha256 for sha256 in hashes if sha256 not in self.known]

    async def sizes(self, hashes: Sequence[str]) -> Mapping[str, int]:
        return {sha256: self.known[sha256] for sha256 in hashes if sha256 in self.known}

    async def note(self, stored: Sequence[tuple[str, int]], **_: object) -> None:
        self.known |= dict(stored)


def make_files(count: int) -> dict[str, bytes]:
    rnd = random.Random(1)
    words = ["".join(rnd.choices("abcdefghijklmnop", k=rnd.randint(2, 9))) for _ in range(2000)]
    return {
        f"d{n % 20}/{n}.{'html' if n % 10 < 7 else 'png'}": " ".join(rnd.choices(words, k=1800)).encode()[:FILE_BYTES]
        if n % 10 < 7
        else rnd.randbytes(FILE_BYTES)
        for n in range(count)
    }


async def main(count: int) -> None:
    plugins = load_plugins()
    print(f"{platform.node()}: {os.cpu_count()} cores, Python {platform.python_version()}; {count:,} files")
    with tempfile.TemporaryDirectory() as folder:
        objects = plugins.provider("object_stores", "file")(StoreConfig(url=f"file://{folder}/objects"))
        await objects.start()
        blobs, files = Blobs(), make_files(count)
        previous: list[Manifest] = []
        listed: list[SourceFile] = []
        now = datetime.now(UTC)

        async def previous_manifests() -> list[Manifest]:
            return previous

        async def source_files() -> list[SourceFile]:
            return listed

        for number, what in enumerate(("cold", "unchanged", "one changed")):
            if what == "one changed":
                files[next(iter(files))] += b"!"
            deployment_id = f"dep_{number:020}"
            listed.clear()
            for path, data in files.items():
                sha256 = hashlib.sha256(data).hexdigest()
                await objects.put(blob_key("prj_x", sha256), data, size=len(data))
                blobs.known[sha256] = len(data)
                listed.append(SourceFile(path, sha256, len(data)))
            source = Source("upload")
            deployment = Deployment(
                deployment_id,
                "prj_x",
                Target.PREVIEW,
                State.BUILDING,
                source,
                1,
                1,
                None,
                None,
                None,
                None,
                now,
                now,
                None,
            )
            limits = BuildLimits()
            log = BuildLog(Sink(), limit_bytes=limits.log_bytes)
            build = Build(
                claim=Claim(
                    deployment, Project("prj_x", "tem_x", "shop", None, ProjectSettings(), False, now), "worker", 1
                ),
                workspace=Path(folder) / deployment_id,
                log=log,
                runner=plugins.provider("build_runners", "process")(RunnerConfig(options={})),
                limits=limits,
                settings=load_settings({}),
                objects=objects,
                plugins=plugins,
                blobs=blobs,
                previous_manifests=previous_manifests,
                source_files=source_files,
            )
            started, started_cpu = time.perf_counter(), time.process_time()
            previous = [await run_build(build)]
            cpu_s = time.process_time() - started_cpu
            steps = "  ".join(f"{name} {seconds:.2f}" for name, seconds in log.step_seconds.items())
            print(f"{what:12} {time.perf_counter() - started:5.2f} s, {cpu_s:4.2f} s of CPU   {steps}")
        await objects.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
