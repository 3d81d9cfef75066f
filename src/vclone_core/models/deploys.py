"""What is deployed: projects, deployments, their files and routes, and the hosts that show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from vclone_core.models.protection import Protection


class State(StrEnum):
    """Where a deployment stands. Transitions are the table in `rules/lifecycle.py`."""

    QUEUED = "queued"
    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class Step(StrEnum):
    """The steps of a build, in their order."""

    CLONE = "clone"
    DETECT = "detect"
    INSTALL = "install"
    BUILD = "build"
    COLLECT = "collect"
    OPTIMISE = "optimise"
    UPLOAD = "upload"
    PUBLISH = "publish"


class Target(StrEnum):
    """Which environment a deployment is made for."""

    PRODUCTION = "production"
    PREVIEW = "preview"


class Trigger(StrEnum):
    """What asked for a deployment."""

    REQUEST = "request"  # a person or a program, by CLI, API or dashboard
    PUSH = "push"  # a git push: the one that may be skipped
    HOOK = "hook"  # the secret URL of a deploy hook
    REDEPLOY = "redeploy"  # the source of an earlier deployment, again


class AliasKind(StrEnum):
    """Why a host points at a deployment."""

    PRODUCTION = "production"
    DEPLOYMENT = "deployment"
    BRANCH = "branch"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class ProjectSettings:
    """What a project says about its builds. None means: as detected.

    `ignore_command` (it ends with 0), `watch_paths` (globs) and `skip_unaffected` say which pushes need none
    (`rules/skips.py`); `build_network`, `egress` or `none`, what the build command reaches in a runner that isolates.
    """

    framework: str | None = None
    root_directory: str = ""
    install_command: str | None = None
    build_command: str | None = None
    output_directory: str | None = None
    node_version: str | None = None
    python_version: str | None = None
    production_branch: str = "main"
    ignore_command: str | None = None
    watch_paths: tuple[str, ...] = ()
    skip_unaffected: bool = True
    build_network: str = "egress"
    build_cache: bool = True
    git_submodules: bool = False
    git_lfs: bool = False


@dataclass(frozen=True, slots=True)
class Project:
    id: str
    team_id: str
    name: str
    git_url: str | None
    settings: ProjectSettings
    is_publishing_paused: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of an upload. `path` is relative, with `/`."""

    path: str
    sha256: str
    size: int
    is_executable: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Where a deployment's files come from.

    `git`: url, ref (branch, tag or None for the remote's default) and sha (40 hex, or None: the tip of ref).
    `upload` and `prebuilt`: the file list lies beside the deployment, its blobs in the object store. `fork` names the
    repository that a pull request comes from where it isn't the project's own.
    """

    kind: Literal["git", "upload", "prebuilt"]
    url: str | None = None
    ref: str | None = None
    sha: str | None = None
    message: str | None = None
    author: str | None = None
    fork: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a deployment failed: an error's code, sentence and advice, and the step it happened in."""

    code: str
    sentence: str
    advice: str
    step: str | None


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment as it stands. `reason` says why it was skipped, or what took its place."""

    id: str
    project_id: str
    target: Target
    state: State
    source: Source
    sequence: int
    attempt: int
    failure: Failure | None
    framework: str | None
    file_count: int | None
    size_bytes: int | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    step_seconds: Mapping[str, float] = field(default_factory=dict)
    step: str | None = None
    trigger: Trigger = Trigger.REQUEST
    reason: str | None = None
    is_pinned: bool = False


@dataclass(frozen=True, slots=True)
class DeployHook:
    """A secret URL whose call deploys a branch; of the secret only a hash is kept."""

    id: str
    project_id: str
    name: str
    branch: str
    created_at: datetime
    last_used_at: datetime | None


class Fence(NamedTuple):
    """What every write of a build carries. It writes nothing once another attempt, or a final state, has come."""

    deployment_id: str
    attempt: int
    worker_id: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's hold on one build. `attempt` is the fencing token of every later write."""

    deployment: Deployment
    project: Project
    worker_id: str
    attempt: int

    @property
    def fence(self) -> Fence:
        return Fence(self.deployment.id, self.attempt, self.worker_id)


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Where a queued deployment stands: its position from 1, and what it waits for, as a sentence."""

    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class Alias:
    host: str
    project_id: str
    deployment_id: str
    kind: AliasKind
    version: int


@dataclass(frozen=True, slots=True)
class Site:
    """What an edge needs to answer a host. `version` grows with every alias change on the platform.

    `previous_deployment_id` is what the host showed before, `newest_deployment_id` the newest of late, unless it shows
    that: pages of both may still be open. The newest knows the files of those before it.
    """

    host: str
    project_id: str
    deployment_id: str
    manifest_key: str
    kind: AliasKind
    version: int
    protection: Protection | None = None
    redirect_to: str | None = None
    previous_deployment_id: str | None = None
    newest_deployment_id: str | None = None

    @property
    def shown_before(self) -> tuple[str, ...]:
        """The deployments whose pages may still be open, each once."""
        found = (self.previous_deployment_id, self.newest_deployment_id)
        return tuple(dict.fromkeys(one for one in found if one and one != self.deployment_id))


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One entry of the edges' event stream: from `version` on, `host` is `site`; None: it is gone."""

    version: int
    host: str
    site: Site | None


@dataclass(frozen=True, slots=True)
class EdgeReceipt:
    """What one edge said of a switch. `after_ms` None: it has not acknowledged within the time limit."""

    edge_id: str
    after_ms: float | None


@dataclass(frozen=True, slots=True)
class Pack:
    """The blob that a small variant is a part of, from byte `start` on."""

    sha256: str
    size: int
    start: int


@dataclass(frozen=True, slots=True)
class Variant:
    """A precompressed copy of a file: a blob, or where it has a `pack`, a part of one."""

    sha256: str
    size: int
    pack: Pack | None = None

    @property
    def object_sha256(self) -> str:
        """The SHA-256 of the object in the store that has its bytes."""
        return (self.pack or self).sha256


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One servable file of a deployment. `variants` is keyed by content coding: `br`, `gzip`, `zstd`."""

    sha256: str
    size: int
    type: str
    immutable: bool = False
    variants: Mapping[str, Variant] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """One entry of the routing table, as the Build Output API v3 names its fields.

    https://vercel.com/docs/build-output-api/configuration#routes. A `handle` entry has only that field and starts a
    phase: `filesystem`, `rewrite`, `miss`, `resource`, `hit`, `error`; entries before the first belong to phase null.
    A header with an empty value takes away what earlier entries said.
    """

    src: str | None = None
    dest: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None
    methods: tuple[str, ...] = ()
    has: tuple[Mapping[str, Any], ...] = ()
    missing: tuple[Mapping[str, Any], ...] = ()
    is_continue: bool = False
    check: bool = False
    case_sensitive: bool = False
    important: bool = False
    handle: str | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class EarlierFile:
    """A file of an earlier build that its open pages may still ask for; replaced in Unix seconds."""

    entry: FileEntry
    replaced_s: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """All the edge knows of one deployment. Keys of `files` start with `/`, decoded, without dot segments; `earlier`
    are fingerprinted files of the project's builds before this one, which this one doesn't have."""

    deployment_id: str
    project_id: str
    framework: str | None
    files: Mapping[str, FileEntry]
    routes: tuple[Route, ...]
    functions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    version: int = 1
    earlier: Mapping[str, EarlierFile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `end`, both included, `0 <= start <= end < size`."""

    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start + 1


@dataclass(frozen=True, slots=True)
class BuildLimits:
    """What one build may use."""

    wall_clock_s: float = 900.0
    memory_bytes: int = 2 * 1024**3
    processes: int = 512
    cpus: float = 2.0
    disk_bytes: int = 5 * 1024**3
    log_bytes: int = 10 * 1024**2
    output_files: int = 25_000
    output_bytes: int = 1024**3
    output_file_bytes: int = 100 * 1024**2


@dataclass(frozen=True, slots=True)
class LogLine:
    """One stored line of a build log; numbers start at 1 and have no gaps within a deployment."""

    number: int
    step: str
    stream: Literal["platform", "stdout", "stderr"]
    text: str
    at: datetime
