"""What a build is given, and what its steps hand to each other."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vclone_core.build.buildlog import BuildLog
from vclone_core.errors import BuildTimeout
from vclone_core.models import (
    BuildLimits,
    Claim,
    EarlierFile,
    FileEntry,
    Manifest,
    ProjectSettings,
    Route,
    Source,
    SourceFile,
)
from vclone_core.plugins import Plugins
from vclone_core.protocols import BuildRunner, BuildSession, ExitStatus, ObjectStore
from vclone_core.rules.buildplan import BuildPlan
from vclone_core.rules.clones import GitAccess
from vclone_core.rules.deploykeys import DeployKey
from vclone_core.rules.frameworks import Detection
from vclone_core.rules.headers_file import HeaderRules
from vclone_core.rules.netlify_config import NetlifyConfig
from vclone_core.rules.redirects_file import RedirectRules
from vclone_core.rules.route_sources import OutputConfig
from vclone_core.rules.vercel_config import VercelConfig
from vclone_core.rules.workspaces import Workspace
from vclone_core.settings import Settings

if TYPE_CHECKING:
    from vclone_core.build.caches import Caches
    from vclone_core.build.uploaded import Upload


class Blobs(Protocol):
    """The blobs of the build's project."""

    async def missing(self, hashes: Sequence[str]) -> Sequence[str]:
        """Return which of these SHA-256 are not stored."""

    async def sizes(self, hashes: Sequence[str]) -> Mapping[str, int]:
        """Return the sizes of those of these SHA-256 that are stored."""

    async def note(self, stored: Sequence[tuple[str, int]], *, since_s: float) -> None:
        """Remember (sha256, size) of what was stored, so that it is not missing any more.

        The puts began at `since_s` (monotonic) or later. Raises `BlobsCollected`: put what is missing again.
        """


async def _no_previous() -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Build:
    """Everything one attempt at one deployment needs from the platform.

    `previous_manifests` are those of the project's newest deployment, and of those that the hosts show which this one
    may take over; the newest first. `source_files` lists an upload (None: the list is gone). `environment` are the
    project's own variables. `learn_hosts` is told which hosts a deploy key has met first. `previous_sha` is the commit
    that a push is compared with, None where there is none.
    """

    claim: Claim
    workspace: Path
    log: BuildLog
    runner: BuildRunner
    limits: BuildLimits
    settings: Settings
    objects: ObjectStore
    plugins: Plugins
    blobs: Blobs
    previous_manifests: Callable[[], Awaitable[Sequence[Manifest]]]
    source_files: Callable[[], Awaitable[Sequence[SourceFile] | None]]
    environment: Mapping[str, str] = field(default_factory=dict)
    git_access: Callable[[], Awaitable[GitAccess | DeployKey | None]] | None = None
    learn_hosts: Callable[[DeployKey, str], Awaitable[None]] | None = None
    previous_sha: Callable[[], Awaitable[str | None]] = _no_previous

    @property
    def project_settings(self) -> ProjectSettings:
        return self.claim.project.settings


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One file to be deployed: served at `path` (with a leading `/`), lying at `local` below the output's root.

    With a `sha256` it lies in the store alone, under that.
    """

    path: str
    local: str
    size: int
    type: str | None = None
    is_copied: bool = False
    sha256: str | None = None


Body = bytes | Path | OutputFile
"""Bytes to be stored, or where they lie."""


@dataclass(slots=True)
class Work:
    """What the steps have found out and made so far. Each field belongs to the step that is named for it."""

    build: Build
    started_s: float
    stack: AsyncExitStack
    source: Source  # clone
    folder: Path  # clone: the repository's root
    root: Path  # detect: the root directory, below or at `folder`
    upload: Upload | None = None  # clone: what was uploaded, of which not all need lie in `folder`
    detection: Detection | None = None
    plan: BuildPlan | None = None  # detect
    caches: Caches | None = None  # install
    output: Path | None = None  # collect
    vercel: VercelConfig = field(default_factory=VercelConfig)  # detect
    netlify: NetlifyConfig = field(default_factory=NetlifyConfig)  # detect
    workspace: Workspace | None = None  # detect
    config: OutputConfig | None = None  # collect: of a ready output
    redirects: RedirectRules = field(default_factory=RedirectRules)  # collect
    headers: HeaderRules = field(default_factory=HeaderRules)  # collect
    files: tuple[OutputFile, ...] = ()  # collect
    entries: Mapping[str, FileEntry] = field(default_factory=dict)  # optimise
    bodies: Mapping[str, Body] = field(default_factory=dict)  # optimise: by SHA-256
    routes: tuple[Route, ...] = ()  # optimise
    earlier: Mapping[str, EarlierFile] = field(default_factory=dict)  # optimise
    manifest: Manifest | None = None  # upload
    _session: BuildSession | None = None

    @property
    def left_s(self) -> float:
        """How much of the build's time is left; raises `BuildTimeout` when none is."""
        left = self.started_s + self.build.limits.wall_clock_s - time.monotonic()
        if left <= 0:
            raise BuildTimeout(limit_s=round(self.build.limits.wall_clock_s))
        return left

    async def place_source(self) -> None:
        """See that the whole source lies in `folder`. Without it an upload's files may lie in the store alone."""
        if self.upload is not None:
            await self.upload.place_all()

    async def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        timeout_s: float | None = None,
        network: bool = True,
    ) -> ExitStatus:
        """Run a command in the build's session, its output into the log. The session is opened by the first one."""
        session = await self._open_session()
        left_s = self.left_s
        status = await session.run(
            argv,
            cwd=cwd,
            env=env,
            timeout_s=min(left_s, timeout_s or left_s),
            on_output=self.build.log.output,
            network=network,
        )
        await self.build.log.finish_output()
        return status

    async def read(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout_s: float
    ) -> tuple[ExitStatus, str]:
        """Run a command whose output is for the platform, not for the log: at most 1 MiB of it, both streams in one."""
        said = bytearray()

        async def keep(stream: str, data: bytes) -> None:
            said.extend(data[: max(0, 1024**2 - len(said))])

        session = await self._open_session()
        status = await session.run(argv, cwd=cwd, env=env, timeout_s=min(self.left_s, timeout_s), on_output=keep)
        return status, said.decode("utf-8", "replace")

    async def _open_session(self) -> BuildSession:
        # A folder of finished files needs no place to run commands in.
        if self._session is None:
            await self.place_source()
            build = self.build
            opening = build.runner.session(build.claim.deployment.id, build.workspace, build.limits)
            self._session = await self.stack.enter_async_context(opening)
            if build.runner.is_isolating and build.runner.note:
                await build.log.line(f"Warning: {build.runner.note}")
        return self._session
