"""A place to run whole builds in: a real local store, a real runner, and a log that is kept in a list."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.contracts.runners import make_runner
from tests.git_server import GitServer, serve_git

from vclone_core.actions.platform import Platform, open_platform
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
    Variant,
)
from vclone_core.plugins import Plugins, load_plugins
from vclone_core.protocols import BuildRunner, ObjectStore, StoreConfig
from vclone_core.rules.clones import GitAccess
from vclone_core.rules.manifests import decode_manifest, encode_manifest, list_blobs
from vclone_core.rules.objectkeys import blob_key
from vclone_core.settings import Settings, load_settings
from vclone_core.stores.buildlogs import NewLine

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Builds are many processes, in whatever runner."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.processes)


PLUGINS = load_plugins()


@dataclass
class Lines:
    """A log's sink that keeps what it is told."""

    lines: list[NewLine] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    step_seconds: dict[str, float] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)
    frameworks: list[str] = field(default_factory=list)

    async def append(self, lines: Sequence[NewLine]) -> None:
        self.lines.extend(lines)

    async def record_step(self, *, step: str | None = None, step_seconds: Mapping[str, float] | None = None) -> None:
        self.steps += [step] if step else []
        self.step_seconds |= step_seconds or {}

    async def record_findings(self, *, framework: str | None = None, source: Source | None = None) -> None:
        self.sources += [source] if source else []
        self.frameworks += [framework] if framework else []

    @property
    def text(self) -> str:
        return "\n".join(f"{line.step} {line.stream}: {line.text}" for line in self.lines)


@dataclass
class BlobTable:
    """The blobs of one project, as the platform's table has them."""

    known: dict[str, int] = field(default_factory=dict)
    noted: list[tuple[str, int]] = field(default_factory=list)

    async def missing(self, hashes: Sequence[str]) -> Sequence[str]:
        return [sha256 for sha256 in hashes if sha256 not in self.known]

    async def sizes(self, hashes: Sequence[str]) -> Mapping[str, int]:
        return {sha256: self.known[sha256] for sha256 in hashes if sha256 in self.known}

    async def note(self, stored: Sequence[tuple[str, int]], *, since_s: float) -> None:
        self.noted += stored
        self.known |= dict(stored)


@dataclass
class Place:
    """A project on a platform of its own; `deploy` runs one build of it after the other."""

    folder: Path
    objects: ObjectStore
    plugins: Plugins = field(default_factory=lambda: PLUGINS)
    runner: BuildRunner = field(default_factory=lambda: make_runner("process"))
    blobs: BlobTable = field(default_factory=BlobTable)
    lines: Lines = field(default_factory=Lines)
    previous: Manifest | None = None
    target: Target = Target.PREVIEW
    access: GitAccess | None = None
    number: int = 0
    listed: dict[str, tuple[SourceFile, ...]] = field(default_factory=dict)

    async def deploy(
        self,
        source: Source,
        *,
        files: Mapping[str, str | bytes] | None = None,
        settings: ProjectSettings | None = None,
        limits: BuildLimits | None = None,
        environment: Mapping[str, str] | None = None,
        allow_insecure: bool = True,
    ) -> Manifest:
        """Run one build to its manifest, and look for every blob that it names."""
        self.number += 1
        deployment_id = f"dep_{self.number:020}"
        if files is not None:
            await self.store_files(deployment_id, files)
        build = self.make_build(
            deployment_id, source, settings, limits or BuildLimits(), environment or {}, allow_insecure
        )
        self.previous = await run_build(build)
        assert decode_manifest(encode_manifest(self.previous)) == self.previous
        for sha256, size in list_blobs(self.previous.files.values()).items():
            stored = await self.objects.head(blob_key("prj_x", sha256))
            assert stored is not None
            assert stored.size == size
        return self.previous

    def make_build(
        self,
        deployment_id: str,
        source: Source,
        settings: ProjectSettings | None,
        limits: BuildLimits,
        environment: Mapping[str, str],
        allow_insecure: bool,
    ) -> Build:
        self.lines = Lines()
        now = datetime.now(UTC)
        project = Project("prj_x", "tem_x", "shop", source.url, settings or ProjectSettings(), False, now)
        deployment = Deployment(
            deployment_id, "prj_x", self.target, State.BUILDING, source, 1, 1, None, None, None, None, now, now, None
        )

        async def previous_manifests() -> list[Manifest]:
            return [] if self.previous is None else [self.previous]

        async def source_files() -> tuple[SourceFile, ...] | None:
            return self.listed.get(deployment_id)

        return Build(
            claim=Claim(deployment, project, "worker", 1),
            workspace=self.folder / "work" / deployment_id,
            log=BuildLog(self.lines, limit_bytes=limits.log_bytes),
            runner=self.runner,
            limits=limits,
            settings=load_settings({}, git_allow_insecure=allow_insecure, base_domain="example.org"),
            objects=self.objects,
            plugins=self.plugins,
            blobs=self.blobs,
            previous_manifests=previous_manifests,
            source_files=source_files,
            environment=environment,
            git_access=self.find_access,
        )

    async def find_access(self) -> GitAccess | None:
        return self.access

    async def store_files(self, deployment_id: str, files: Mapping[str, str | bytes], **changes: Any) -> None:
        listed = []
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            sha256 = hashlib.sha256(data).hexdigest()
            await self.objects.put(blob_key("prj_x", sha256), data, size=len(data))
            self.blobs.known[sha256] = len(data)
            listed.append(replace(SourceFile(path, sha256, len(data)), **changes))
        self.listed[deployment_id] = tuple(listed)

    async def read(self, sha256: str) -> bytes:
        async with self.objects.open(blob_key("prj_x", sha256)) as body:
            return b"".join([chunk async for chunk in body.chunks])

    async def read_variant(self, variant: Variant) -> bytes:
        body = await self.read(variant.object_sha256)
        if variant.pack is not None:
            body = body[variant.pack.start :][: variant.size]
        assert hashlib.sha256(body).hexdigest() == variant.sha256
        return body


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    url = f"file://{tmp_path / 'objects'}"
    objects: ObjectStore = PLUGINS.provider("object_stores", "file")(StoreConfig(url=url))
    await objects.start()
    yield Place(tmp_path, objects)
    await objects.close()


@pytest.fixture
def git(tmp_path: Path) -> Iterator[GitServer]:
    root = tmp_path / "repositories"
    root.mkdir()
    with serve_git(root) as server:
        yield server


@pytest.fixture
async def platform(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Platform]:
    settings = Settings(
        data_dir=tmp_path / "data",
        database_url=database_url,
        redis_url=redis_url,
        store=f"file://{tmp_path}/objects",
        git_allow_insecure=True,
    )
    async with open_platform(settings) as platform:
        yield platform
