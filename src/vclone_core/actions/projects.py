"""Projects and their blobs. Another team's project is the same answer as none."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

from vclone_core.actions.announcing import announce_change
from vclone_core.actions.newids import new_id
from vclone_core.actions.platform import Platform
from vclone_core.actions.publishing import remove_aliases
from vclone_core.errors import Duplicate, FieldProblem, InvalidFields, Limited, NameTaken, NotFound
from vclone_core.models import Actor, Project, ProjectSettings
from vclone_core.rules.access import require
from vclone_core.rules.names import parse_project_name, production_host
from vclone_core.rules.objectkeys import blob_key
from vclone_core.rules.skips import check_watch_paths
from vclone_core.stores import queue, records

# As many as one deployment may have files.
HASHES_AT_ONCE: Final = 25_000
# Two clocks measure the age of a put: this process's, and the database's.
CLOCK_S: Final = 0.5
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SETTINGS: Final = frozenset(field.name for field in fields(ProjectSettings))
_FLAGS: Final = frozenset(field.name for field in fields(ProjectSettings) if isinstance(field.default, bool))
_NEVER_NONE: Final = frozenset({"root_directory", "production_branch", "watch_paths", "build_network", *_FLAGS})
_CHOICES: Final = {"build_network": ("egress", "none")}
_SETTING_LENGTH: Final = 1000


async def create_project(
    platform: Platform,
    actor: Actor,
    name: str,
    *,
    git_url: str | None = None,
    settings: ProjectSettings | None = None,
) -> Project:
    """Make a project in the actor's team; raise `NameTaken` when the name, or the host it gives, is taken."""
    require(actor, "create a project")
    parse_project_name(name)
    host = production_host(name, platform.settings.base_domain)
    if await platform.db.fetch_one("fetch_host_owner", host) is not None:
        raise NameTaken(name=name)
    row = settings or ProjectSettings()
    try:
        made = await platform.db.fetch_one(
            "insert_project", new_id("project"), actor.team_id, name, git_url, records.settings_row(row)
        )
    except Duplicate as error:
        raise NameTaken(name=name) from error
    assert made is not None
    return records.project_from(made)


async def find_project(platform: Platform, actor: Actor, name_or_id: str) -> Project:
    """Return a project of the actor's team by its name or id; raise `NotFound` otherwise."""
    require(actor, "see a project")
    project = await records.fetch_project(platform.db, actor, name_or_id)
    if project is None:
        raise NotFound(what="project")
    return project


async def list_projects(
    platform: Platform, actor: Actor, *, limit: int = 100, before: str | None = None
) -> list[Project]:
    """Return projects of the actor's team, newest first; `before` is the last id of the page before."""
    require(actor, "see a project")
    rows = await platform.db.fetch("list_projects", actor.team_id, before, limit, actor.projects)
    return [records.project_from(row) for row in rows]


async def update_project(
    platform: Platform,
    actor: Actor,
    project: Project,
    *,
    git_url: str | None = None,
    settings: Mapping[str, Any] | None = None,
    is_publishing_paused: bool | None = None,
) -> Project:
    """Change what is given of a project and return it. `settings` holds the fields to change, None: as detected."""
    require(actor, "change a project")
    changed = replace(
        project,
        git_url=project.git_url if git_url is None else git_url,
        settings=change_settings(project.settings, settings or {}),
        is_publishing_paused=project.is_publishing_paused if is_publishing_paused is None else is_publishing_paused,
    )
    row = await platform.db.fetch_one(
        "update_project",
        project.id,
        actor.team_id,
        changed.git_url,
        records.settings_row(changed.settings),
        changed.is_publishing_paused,
    )
    if row is None:
        raise NotFound(what="project")
    return records.project_from(row)


def change_settings(settings: ProjectSettings, changes: Mapping[str, Any]) -> ProjectSettings:
    """Return the settings with `changes` made; raise `InvalidFields` with every change that can't be."""
    problems = [
        FieldProblem(f"settings.{name}", problem)
        for name, value in changes.items()
        if (problem := _setting_problem(name, value)) is not None
    ]
    if problems:
        raise InvalidFields(tuple(problems))
    values: dict[str, Any] = {name: tuple(it) if isinstance(it, list) else it for name, it in changes.items()}
    return replace(settings, **values)


async def delete_project(platform: Platform, actor: Actor, project: Project) -> None:
    """Delete a project: its hosts answer nothing at once, its builds end, its secrets go, its name is free again."""
    require(actor, "delete a project")
    await remove_aliases(platform, actor, project)
    for query in ("delete_variables", "delete_deploy_key", "delete_git_connection", "delete_protection"):
        await platform.db.execute(query, project.id)
    for deployment in await queue.cancel_orphans(platform.db):
        await announce_change(platform, deployment)
    for row in await platform.db.fetch("request_cancel_of_project", project.id):
        await platform.redis.publish(f"deployment:{row['id']}", "cancel")


async def missing_blobs(platform: Platform, actor: Actor, project: Project, hashes: Sequence[str]) -> list[str]:
    """Return which of these SHA-256 the project lacks, each once, in their order. The others count as needed now."""
    require(actor, "deploy")
    if len(hashes) > HASHES_AT_ONCE:
        raise Limited(what=f"{HASHES_AT_ONCE} hashes in one question")
    problems = [
        FieldProblem(f"sha256.{index}", "is not 64 lower-case hex digits")
        for index, text in enumerate(hashes)
        if not isinstance(text, str) or not _SHA256.fullmatch(text)
    ]
    if problems:
        raise InvalidFields(tuple(problems[:100]))
    return await missing_of(platform, project.id, hashes)


async def missing_of(platform: Platform, project_id: str, hashes: Sequence[str]) -> list[str]:
    """Return which of these SHA-256 a project lacks; for the platform's own use (uploading a build's output)."""
    present = await records.touch_blobs(platform.db, project_id, hashes)
    return [sha256 for sha256 in dict.fromkeys(hashes) if sha256 not in present]


async def store_blob(
    platform: Platform, project_id: str, sha256: str, size: int, body: bytes | Path | AsyncIterator[bytes]
) -> None:
    """Store one blob and note it. Raises `Invalid` when the bytes are not `size` long or have another hash."""
    started_s = time.monotonic()
    await platform.objects.put(blob_key(project_id, sha256), body, size=size, sha256=sha256)
    await note_blobs(platform, project_id, [(sha256, size)], since_s=started_s)


async def note_blobs(platform: Platform, project_id: str, blobs: Sequence[tuple[str, int]], *, since_s: float) -> None:
    """Note (sha256, size) pairs whose puts began at `since_s` (monotonic) or later: they aren't missing any more.

    Raises `BlobsCollected` when one may have been removed since: it must be put again.
    """
    await records.insert_blobs(platform.db, project_id, blobs, age_s=time.monotonic() - since_s + CLOCK_S)


def _setting_problem(name: str, value: Any) -> str | None:
    if name not in _SETTINGS:
        return "there is no such setting"
    if name in _NEVER_NONE and value is None:
        return "can't be null"
    if (check := _CHECKS.get(name)) is not None:
        return check(value)
    if value is None:
        return None
    if not isinstance(value, str):
        return "must be a text or null"
    if len(value) > _SETTING_LENGTH or "\0" in value:
        return f"must be at most {_SETTING_LENGTH} characters, without U+0000"
    if value not in _CHOICES.get(name, (value,)):
        return f"must be one of {', '.join(_CHOICES[name])}"
    return None


def _patterns_problem(value: Any) -> str | None:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        return "must be a list of texts"
    return check_watch_paths(value)


# The settings that are no text.
_CHECKS: Final[Mapping[str, Callable[[Any], str | None]]] = {
    "watch_paths": _patterns_problem,
    **dict.fromkeys(_FLAGS, lambda value: None if isinstance(value, bool) else "must be true or false"),
}
