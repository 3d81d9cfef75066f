"""Builds with a local store and a real runner, without database or API: what the benchmarks of builds share.

VCLONE_RUNNER and VCLONE_RUNNER_OPTIONS name the runner, as they do for a worker.
"""

from __future__ import annotations

import hashlib
import os
import resource
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
from vclone_core.plugins import Plugins, load_plugins
from vclone_core.protocols import BuildRunner, ObjectStore, RunnerConfig, StoreConfig
from vclone_core.rules.objectkeys import blob_key
from vclone_core.settings import load_settings
from vclone_core.stores.buildlogs import NewLine


@dataclass
class Sink:
    """Keeps what is said, with the moment at which it arrived."""

    lines: list[tuple[float, NewLine]] = field(default_factory=list)

    async def append(self, lines: Sequence[NewLine]) -> None:
        now = time.time()
        self.lines += [(now, line) for line in lines]

    async def record_step(self, **_: object) -> None: ...
    async def record_findings(self, **_: object) -> None: ...


@dataclass
class Blobs:
    """The project's blobs, in memory."""

    known: dict[str, int] = field(default_factory=dict)

    async def missing(self, hashes: Sequence[str]) -> Sequence[str]:
        return [sha256 for sha256 in hashes if sha256 not in self.known]

    async def sizes(self, hashes: Sequence[str]) -> Mapping[str, int]:
        return {sha256: self.known[sha256] for sha256 in hashes if sha256 in self.known}

    async def note(self, stored: Sequence[tuple[str, int]], **_: object) -> None:
        self.known |= dict(stored)


@dataclass
class Ended:
    """One build that has ended."""

    seconds: float
    cpu_seconds: float
    step_seconds: Mapping[str, float]
    sink: Sink
    manifest: Manifest


@dataclass
class Bench:
    """A project; `deploy` builds its files, one build after the other."""

    folder: Path
    objects: ObjectStore
    plugins: Plugins
    runner: BuildRunner
    blobs: Blobs = field(default_factory=Blobs)
    previous: list[Manifest] = field(default_factory=list)
    number: int = 0

    async def deploy(self, files: Mapping[str, bytes], **settings: Any) -> Ended:
        """Store the files as an upload, and build it; what an upload costs is not part of the time."""
        self.number += 1
        deployment_id = f"dep_{self.number:020}"
        listed = []
        for path, data in files.items():
            sha256 = hashlib.sha256(data).hexdigest()
            await self.objects.put(blob_key("prj_x", sha256), data, size=len(data))
            self.blobs.known[sha256] = len(data)
            listed.append(SourceFile(path, sha256, len(data)))
        now, limits, sink = datetime.now(UTC), BuildLimits(), Sink()
        deployment = Deployment(
            deployment_id, "prj_x", Target.PREVIEW, State.BUILDING, Source("upload"), 1, 1, None, None, None, None,
            now, now, None,
        )  # fmt: skip
        project = Project("prj_x", "tem_x", "shop", None, ProjectSettings(**settings), False, now)

        async def previous_manifests() -> Sequence[Manifest]:
            return self.previous

        async def source_files() -> Sequence[SourceFile]:
            return listed

        build = Build(
            claim=Claim(deployment, project, "worker", 1),
            workspace=self.folder / deployment_id,
            log=BuildLog(sink, limit_bytes=limits.log_bytes),
            runner=self.runner,
            limits=limits,
            settings=load_settings({}),
            objects=self.objects,
            plugins=self.plugins,
            blobs=self.blobs,
            previous_manifests=previous_manifests,
            source_files=source_files,
        )
        started, used = time.perf_counter(), count_cpu_seconds()
        self.previous = [await run_build(build)]
        took, cpu = time.perf_counter() - started, count_cpu_seconds() - used
        return Ended(took, cpu, build.log.step_seconds, sink, self.previous[0])


@asynccontextmanager
async def open_bench(folder: Path) -> AsyncIterator[Bench]:
    """A bench whose store and workspaces lie in `folder`."""
    plugins = load_plugins()
    objects = plugins.provider("object_stores", "file")(StoreConfig(url=f"file://{folder / 'objects'}"))
    await objects.start()
    named = ("VCLONE_RUNNER", "VCLONE_RUNNER_OPTIONS")
    settings = load_settings({name: os.environ[name] for name in named if name in os.environ})
    runner: BuildRunner = plugins.provider("build_runners", settings.runner)(
        RunnerConfig(options=settings.runner_options)
    )
    if (why := await runner.check()) is not None:
        raise SystemExit(why)
    try:
        yield Bench(folder, objects, plugins, runner)
    finally:
        await objects.close()


def count_cpu_seconds() -> float:
    """Return what this process and its ended children have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def format_steps(step_seconds: Mapping[str, float]) -> str:
    """Return the seconds of each step in a line."""
    return "  ".join(f"{name} {seconds:.2f}" for name, seconds in step_seconds.items())
