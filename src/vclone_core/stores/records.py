"""Rows as models, and models as rows. The tables behind: users, teams, projects, deployments, aliases,
domains, blobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, Final

from vclone_core.errors import BlobsCollected
from vclone_core.models import (
    Actor,
    Alias,
    AliasKind,
    Covers,
    DeployHook,
    Deployment,
    Domain,
    DomainState,
    Failure,
    Policy,
    Project,
    ProjectSettings,
    ShareLink,
    Source,
    SourceFile,
    State,
    Target,
    Team,
    Trigger,
    User,
)
from vclone_core.rules.sources import decode_files, encode_files
from vclone_core.stores.postgres import Queries, Record

_SETTINGS: Final = frozenset(field.name for field in fields(ProjectSettings))
_SOURCE: Final = frozenset(field.name for field in fields(Source))


def user_from(row: Record) -> User:
    return User(id=row["id"], email=row["email"], name=row["name"])


def team_from(row: Record) -> Team:
    return Team(id=row["id"], slug=row["slug"], name=row["name"], is_personal=row["is_personal"])


def settings_from(raw: Mapping[str, Any]) -> ProjectSettings:
    """Return the settings in a row; names that this version doesn't know are left out."""
    return ProjectSettings(**_known_settings(raw))


def _known_settings(raw: Mapping[str, Any]) -> dict[str, Any]:
    # JSON has lists where frozen values have tuples.
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in raw.items() if name in _SETTINGS
    }


def settings_row(settings: ProjectSettings) -> dict[str, Any]:
    return asdict(settings)


def with_overrides(project: Project, overrides: Mapping[str, Any]) -> Project:
    """Return the project as one deployment sees it."""
    return replace(project, settings=replace(project.settings, **_known_settings(overrides)))


def project_from(row: Record) -> Project:
    return Project(
        id=row["id"],
        team_id=row["team_id"],
        name=row["name"],
        git_url=row["git_url"],
        settings=settings_from(row["settings"]),
        is_publishing_paused=row["is_publishing_paused"],
        created_at=row["created_at"],
    )


def source_from(raw: Mapping[str, Any]) -> Source:
    return Source(**{name: value for name, value in raw.items() if name in _SOURCE})


def source_row(source: Source) -> dict[str, Any]:
    return asdict(source)


def failure_row(failure: Failure | None) -> dict[str, Any] | None:
    return None if failure is None else asdict(failure)


def deployment_from(row: Record) -> Deployment:
    return Deployment(
        id=row["id"],
        project_id=row["project_id"],
        target=Target(row["target"]),
        state=State(row["state"]),
        source=source_from(row["source"]),
        sequence=row["sequence"],
        attempt=row["attempt"],
        failure=None if row["failure"] is None else Failure(**row["failure"]),
        framework=row["framework"],
        file_count=row["file_count"],
        size_bytes=row["size_bytes"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        step_seconds=row["step_seconds"],
        step=row["step"],
        trigger=Trigger(row["trigger"]),
        reason=row["reason"],
        is_pinned=row["is_pinned"],
    )


def hook_from(row: Record) -> DeployHook:
    return DeployHook(
        id=row["id"],
        project_id=row["project_id"],
        name=row["name"],
        branch=row["branch"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
    )


def alias_from(row: Record) -> Alias:
    return Alias(
        host=row["host"],
        project_id=row["project_id"],
        deployment_id=row["deployment_id"],
        kind=AliasKind(row["kind"]),
        version=row["version"],
    )


def domain_from(row: Record) -> Domain:
    return Domain(
        id=row["id"],
        project_id=row["project_id"],
        project_name=row["project_name"],
        host=row["host"],
        token=row["token"],
        state=DomainState(row["state"]),
        redirect_to=row["redirect_to"],
        branch=row["branch"],
        problem=row["problem"] or "",
        created_at=row["created_at"],
        since=row["since"],
        verified_at=row["verified_at"],
        checked_at=row["checked_at"],
        next_check_at=row["next_check_at"],
    )


def share_link_from(row: Record) -> ShareLink:
    names = ("id", "project_id", "host", "name", "created_at", "expires_at")
    return ShareLink(**{name: row[name] for name in names})


async def fetch_policy(db: Queries, project_id: str) -> Policy | None:
    """Return how a project's sites are protected; None: they never were."""
    row = await db.fetch_one("fetch_policy", project_id)
    if row is None:
        return None
    return Policy(
        covers=Covers(row["covers"]),
        key=row["key"],
        enter_url=row["enter_url"],
        members_generation=row["members_generation"],
        password_generation=row["password_generation"],
        has_password=row["has_password"],
        bypass=row["bypass"],
        bypass_made_at=row["bypass_made_at"],
        links={host: tuple(ids) for host, ids in row["links"].items()},
    )


async def fetch_project(db: Queries, actor: Actor, name_or_id: str) -> Project | None:
    row = await db.fetch_one("fetch_project", actor.team_id, name_or_id, actor.projects)
    return None if row is None else project_from(row)


async def fetch_project_by_id(db: Queries, project_id: str) -> Project | None:
    row = await db.fetch_one("fetch_project_by_id", project_id)
    return None if row is None else project_from(row)


async def fetch_deployment(db: Queries, actor: Actor, id_or_host: str) -> Deployment | None:
    row = await db.fetch_one("fetch_deployment", actor.team_id, id_or_host, actor.projects)
    return None if row is None else deployment_from(row)


async def fetch_deployment_by_id(db: Queries, deployment_id: str) -> Deployment | None:
    row = await db.fetch_one("fetch_deployment_by_id", deployment_id)
    return None if row is None else deployment_from(row)


async def insert_deployment(
    db: Queries,
    *,
    deployment_id: str,
    project_id: str,
    target: Target,
    source: Source,
    overrides: Mapping[str, Any],
    sequence: int,
    created_by: str | None,
    trigger: Trigger = Trigger.REQUEST,
) -> Deployment:
    row = await db.fetch_one(
        "insert_deployment",
        deployment_id,
        project_id,
        target.value,
        source_row(source),
        dict(overrides),
        sequence,
        int(target is Target.PRODUCTION),
        created_by,
        trigger.value,
    )
    assert row is not None
    return deployment_from(row)


async def list_aliases(db: Queries, project_id: str, deployment_ids: Sequence[str] | None = None) -> list[Alias]:
    rows = await db.fetch("list_aliases", project_id, None if deployment_ids is None else list(deployment_ids))
    return [alias_from(row) for row in rows]


async def insert_source_files(db: Queries, deployment_id: str, files: Sequence[SourceFile]) -> None:
    """Keep the list of an upload's files with its deployment."""
    await db.execute("insert_source_files", deployment_id, encode_files(files))


async def fetch_source_files(db: Queries, deployment_id: str) -> tuple[SourceFile, ...] | None:
    """Return the list of an upload's files; None when there is none."""
    row = await db.fetch_one("fetch_source_files", deployment_id)
    return None if row is None else decode_files(row["files"])


async def touch_blobs(db: Queries, project_id: str, hashes: Sequence[str]) -> Mapping[str, int]:
    """Return the sizes of those of these blobs that the project has; they count as needed from now on."""
    return {row["sha256"]: row["size_bytes"] for row in await db.fetch("touch_blobs", project_id, list(hashes))}


async def insert_blobs(db: Queries, project_id: str, blobs: Sequence[tuple[str, int]], *, age_s: float) -> None:
    """Note (sha256, size) pairs that lie in the object store, put at most `age_s` seconds ago.

    Raises `BlobsCollected` when collection may have removed one since: put those again, then note them.
    """
    sizes = dict(sorted(blobs))
    noted = await db.fetch("insert_blobs", project_id, list(sizes), list(sizes.values()), age_s)
    if len(noted) < len(sizes):
        raise BlobsCollected(count=len(sizes) - len(noted))
