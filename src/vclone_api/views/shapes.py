"""Every JSON shape the API answers with, as a type and the one function that makes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict  # pydantic reads these, and needs this one before Python 3.12

from vclone_core.actions.deploykeys import DeployKeyInfo
from vclone_core.actions.gittokens import GitToken
from vclone_core.models import (
    Actor,
    Alias,
    AliasKind,
    DeployHook,
    Deployment,
    EdgeReceipt,
    LogLine,
    Project,
    QueuePlace,
    State,
    Team,
    User,
)
from vclone_core.rules.names import deployment_host, production_host
from vclone_core.rules.retention import Retention
from vclone_core.settings import Settings

# RFC 3339, in UTC.
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Health(TypedDict):
    status: str
    version: str


class Part(TypedDict):
    is_up: bool
    is_required: bool
    ms: float
    problem: str | None


class Readiness(TypedDict):
    status: str
    parts: dict[str, Part]


class UserShape(TypedDict):
    id: str
    email: str
    name: str


class TeamShape(TypedDict):
    id: str
    slug: str
    name: str
    is_personal: bool


class Me(TypedDict):
    user: UserShape
    team: TeamShape
    role: str


class SettingsShape(TypedDict):
    framework: str | None
    root_directory: str
    install_command: str | None
    build_command: str | None
    output_directory: str | None
    node_version: str | None
    python_version: str | None
    production_branch: str
    ignore_command: str | None
    watch_paths: list[str]
    skip_unaffected: bool
    build_network: str
    build_cache: bool
    git_submodules: bool
    git_lfs: bool


class ProjectShape(TypedDict):
    id: str
    name: str
    git_url: str | None
    settings: SettingsShape
    is_publishing_paused: bool
    production_url: str
    created_at: Moment


class ProjectList(TypedDict):
    items: list[ProjectShape]
    next_cursor: str | None


class MissingBlobs(TypedDict):
    missing: list[str]


class StoredBlobs(TypedDict):
    stored: int


class SourceShape(TypedDict):
    kind: str
    url: str | None
    ref: str | None
    sha: str | None
    message: str | None
    author: str | None
    fork: str | None


class FailureShape(TypedDict):
    code: str
    sentence: str
    advice: str
    step: str | None


class DeploymentShape(TypedDict):
    id: str
    project_id: str
    project: str
    target: str
    state: str
    url: str
    production_url: str | None
    aliases: list[str]
    source: SourceShape
    sequence: int
    attempt: int
    framework: str | None
    file_count: int | None
    size_bytes: int | None
    trigger: str
    reason: str | None
    failure: FailureShape | None
    step: str | None
    step_seconds: dict[str, float]
    queue_position: int | None
    queue_reason: str | None
    is_pinned: bool
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None


class DeploymentList(TypedDict):
    items: list[DeploymentShape]
    next_cursor: str | None


class RetentionShape(TypedDict):
    preview_days: int
    preview_count: int
    production_days: int
    production_count: int


class RemovalShape(TypedDict):
    id: str
    reason: str


class CollectedShape(TypedDict):
    """What was removed, or would be: `objects` and their `bytes` in the object store."""

    project: str
    deployments: list[RemovalShape]
    objects: int
    bytes: int
    problem: str | None
    is_dry_run: bool


class ChangeShape(TypedDict):
    path: str
    kind: str
    size_before: int | None
    size_after: int | None
    bytes: int


class Diff(TypedDict):
    items: list[ChangeShape]
    next_cursor: str | None
    added: int
    changed: int
    removed: int
    bytes: int


class DeploymentPath(TypedDict):
    items: list[DeploymentShape]
    next_cursor: str | None


class ReceiptShape(TypedDict):
    edge_id: str
    after_ms: float | None


class Switch(TypedDict):
    """What a promote or a rollback answers."""

    deployment: DeploymentShape
    receipts: list[ReceiptShape]


class LineShape(TypedDict):
    number: int
    step: str
    stream: str
    text: str
    at: Moment


class LogPage(TypedDict):
    items: list[LineShape]


class FileShape(TypedDict):
    path: str
    sha256: str
    size: int
    type: str


class FileList(TypedDict):
    items: list[FileShape]
    next_cursor: str | None


class AliasShape(TypedDict):
    host: str
    url: str
    kind: str
    deployment_id: str
    version: int


class AliasList(TypedDict):
    items: list[AliasShape]
    next_cursor: str | None


class HookShape(TypedDict):
    id: str
    name: str
    branch: str
    created_at: Moment
    last_used_at: Moment | None


class NewHookShape(HookShape):
    url: str


class GitTokenShape(TypedDict):
    host: str
    account: str
    created_at: Moment


class GitTokenList(TypedDict):
    items: list[GitTokenShape]
    next_cursor: str | None


class DeployKeyShape(TypedDict):
    public_key: str
    known_hosts: str
    created_at: str


class DeployKeyList(TypedDict):
    items: list[DeployKeyShape]


class HookList(TypedDict):
    items: list[HookShape]
    next_cursor: str | None


class CalledHook(TypedDict):
    """What the caller of a deploy hook is told: enough to look for it, no more."""

    id: str
    project: str
    state: str


class SiteProtection(TypedDict):
    key: str
    enter_url: str
    members: int | None
    password: int | None
    links: list[str]
    bypass: str | None


class SiteShape(TypedDict):
    host: str
    project_id: str
    deployment_id: str
    manifest_key: str
    kind: str
    version: int
    protection: SiteProtection | None
    redirect_to: str | None


def moment(at: datetime) -> str:
    """Return a time as RFC 3339, in UTC."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def optional_moment(at: datetime | None) -> str | None:
    return None if at is None else moment(at)


def shape_me(actor: Actor, user: User, team: Team) -> Me:
    who: Any = asdict(user)
    where: Any = asdict(team)
    return {"user": who, "team": where, "role": actor.role}


def shape_project(project: Project, settings: Settings) -> ProjectShape:
    said: Any = {**asdict(project.settings), "watch_paths": list(project.settings.watch_paths)}
    return {
        "id": project.id,
        "name": project.name,
        "git_url": project.git_url,
        "settings": said,
        "is_publishing_paused": project.is_publishing_paused,
        "production_url": settings.site_url(production_host(project.name, settings.base_domain)),
        "created_at": moment(project.created_at),
    }


def shape_deployment(
    deployment: Deployment,
    project: Project,
    settings: Settings,
    *,
    aliases: Iterable[Alias] = (),
    place: QueuePlace | None = None,
) -> DeploymentShape:
    """Return a deployment as JSON. `aliases` are the hosts that show it now.

    `url` is there from the start and answers once the deployment is ready; `production_url` only while it is shown.
    """
    hosts = {alias.host: alias.kind for alias in aliases}
    own = next((host for host, kind in hosts.items() if kind is AliasKind.DEPLOYMENT), None)
    own = own or deployment_host(project.name, deployment.id, settings.base_domain)
    production = next((host for host, kind in hosts.items() if kind is AliasKind.PRODUCTION), None)
    failure: Any = None if deployment.failure is None else asdict(deployment.failure)
    source: Any = asdict(deployment.source)
    return {
        "id": deployment.id,
        "project_id": deployment.project_id,
        "project": project.name,
        "target": deployment.target.value,
        "state": deployment.state.value,
        "url": settings.site_url(own),
        "production_url": None if production is None else settings.site_url(production),
        "aliases": sorted(hosts),
        "source": source,
        "sequence": deployment.sequence,
        "attempt": deployment.attempt,
        "framework": deployment.framework,
        "file_count": deployment.file_count,
        "size_bytes": deployment.size_bytes,
        "trigger": deployment.trigger.value,
        "reason": deployment.reason,
        "failure": failure,
        "step": deployment.step if deployment.state is State.BUILDING else None,
        "step_seconds": dict(deployment.step_seconds),
        "queue_position": None if place is None else place.position,
        "queue_reason": None if place is None else place.reason,
        "is_pinned": deployment.is_pinned,
        "created_at": moment(deployment.created_at),
        "started_at": optional_moment(deployment.started_at),
        "finished_at": optional_moment(deployment.finished_at),
    }


def shape_git_token(token: GitToken) -> GitTokenShape:
    return {"host": token["host"], "account": token["account"], "created_at": moment(token["created_at"])}


def shape_deploy_key(key: DeployKeyInfo) -> DeployKeyShape:
    return {**key, "created_at": moment(key["created_at"])}


def shape_hook(hook: DeployHook) -> HookShape:
    return {
        "id": hook.id,
        "name": hook.name,
        "branch": hook.branch,
        "created_at": moment(hook.created_at),
        "last_used_at": optional_moment(hook.last_used_at),
    }


def shape_receipts(receipts: Iterable[EdgeReceipt]) -> list[ReceiptShape]:
    return [{"edge_id": receipt.edge_id, "after_ms": receipt.after_ms} for receipt in receipts]


def shape_line(line: LogLine) -> LineShape:
    return {
        "number": line.number,
        "step": line.step,
        "stream": line.stream,
        "text": line.text,
        "at": moment(line.at),
    }


def shape_alias(alias: Alias, settings: Settings) -> AliasShape:
    return {
        "host": alias.host,
        "url": settings.site_url(alias.host),
        "kind": alias.kind.value,
        "deployment_id": alias.deployment_id,
        "version": alias.version,
    }


def shape_retention(retention: Retention) -> RetentionShape:
    """Return a project's rules of retention as JSON."""
    return {
        "preview_days": retention.preview_days,
        "preview_count": retention.preview_count,
        "production_days": retention.production_days,
        "production_count": retention.production_count,
    }
