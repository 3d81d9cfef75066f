"""For the tests of plugins: a plugin loaded as the platform's processes load it, and things to call its hooks with.

plugins = load_module(my_plugin)
await plugins.announce("alias_moved", project=example_project(), alias=example_alias(), previous_deployment_id=None)
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from vclone_core.models import Alias, AliasKind, Deployment, Project, ProjectSettings, Source, State, Target
from vclone_core.plugins import Plugins, load_module

__all__ = ["Plugins", "example_alias", "example_deployment", "example_project", "load_module"]

_MADE_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
_PROJECT: Final = Project(
    id="prj_06h1bdtrh4fxm1vfzqpf",
    team_id="tem_06h1bdtrh4x6rkysz64d",
    name="shop",
    git_url="https://git.example/shop.git",
    settings=ProjectSettings(),
    is_publishing_paused=False,
    created_at=_MADE_AT,
)
_DEPLOYMENT: Final = Deployment(
    id="dep_06h1bdtrh4fxm1vfzqpf",
    project_id=_PROJECT.id,
    target=Target.PRODUCTION,
    state=State.READY,
    source=Source("git", url="https://git.example/shop.git", ref="main", sha="0" * 40),
    sequence=1,
    attempt=1,
    failure=None,
    framework="static",
    file_count=1,
    size_bytes=5,
    created_at=_MADE_AT,
    started_at=_MADE_AT,
    finished_at=_MADE_AT,
)
_ALIAS: Final = Alias("shop.localhost", _PROJECT.id, _DEPLOYMENT.id, AliasKind.PRODUCTION, version=1)


def example_project(**changes: Any) -> Project:
    """Return a project of git; `changes` are fields of `Project`."""
    return replace(_PROJECT, **changes)


def example_deployment(**changes: Any) -> Deployment:
    """Return a deployment of that project which is ready; `changes` are fields of `Deployment`."""
    return replace(_DEPLOYMENT, **changes)


def example_alias(**changes: Any) -> Alias:
    """Return the host that shows that deployment in production; `changes` are fields of `Alias`."""
    return replace(_ALIAS, **changes)
