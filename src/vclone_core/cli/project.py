"""`vclone project`: a project's settings, shown and changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import platform_options
from vclone_core.cli.link import name_project, read_link
from vclone_core.cli.progress import say
from vclone_core.cli.render import print_json
from vclone_core.errors import FieldProblem, InvalidFields
from vclone_core.models import ProjectSettings

NAMES: Final = tuple(field.name for field in fields(ProjectSettings))
_FLAGS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@click.group()
def project() -> None:
    """Show and change the settings of a project."""


@project.command()
@click.argument("name", required=False, metavar="[PROJECT]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def show(name: str | None, as_json: bool, **options: str | None) -> None:
    """Show PROJECT, or the linked project, with its settings."""

    async def fetch(api: ApiClient) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await api.get(f"/api/projects/{name or this_project()}")
        return found

    print_project(call_api(options, fetch), as_json=as_json)


@project.command("set")
@click.argument("changes", nargs=-1, required=True, metavar="NAME=VALUE…")
@click.option("--project", "name", metavar="NAME", help="Project to change, instead of the linked one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def set_(changes: tuple[str, ...], name: str | None, as_json: bool, **options: str | None) -> None:
    """Change settings; a value left empty means again: as detected. Patterns of `watch_paths` are parted by commas.

    Settings: framework, root_directory, install_command, build_command, output_directory, node_version,
    production_branch, ignore_command, watch_paths, skip_unaffected; and git_url.
    """
    body = plan_changes(changes)

    async def change(api: ApiClient) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await api.patch(f"/api/projects/{name or this_project()}", body)
        return found

    print_project(call_api(options, change), as_json=as_json)


def this_project() -> str:
    """Return the project that the current folder is linked to, else the one named like it."""
    return read_link(Path()) or name_project(Path())


def plan_changes(changes: Sequence[str]) -> dict[str, Any]:
    """Return the body of a PATCH for `NAME=VALUE` words; raise `InvalidFields` with every word that is none.

    >>> plan_changes(["build_command=npm run site", "watch_paths=apps/shop,!**/*.md", "framework="])["settings"]
    {'build_command': 'npm run site', 'watch_paths': ['apps/shop', '!**/*.md'], 'framework': None}
    """
    settings: dict[str, Any] = {}
    body: dict[str, Any] = {}
    problems = []
    for word in changes:
        name, equals, value = word.partition("=")
        if name == "git_url" and equals:
            body["git_url"] = value
        elif name not in NAMES or not equals:
            problems.append(FieldProblem(name, f"is no setting; known are {', '.join(NAMES)}, git_url"))
        elif name == "watch_paths":
            settings[name] = [pattern.strip() for pattern in value.split(",") if pattern.strip()]
        elif name == "skip_unaffected":
            if (flag := _FLAGS.get(value.lower())) is None:
                problems.append(FieldProblem(name, "must be true or false"))
            settings[name] = flag
        elif name == "root_directory":
            settings[name] = value
        else:
            settings[name] = value or None
    if problems:
        raise InvalidFields(tuple(problems))
    return {**body, **({"settings": settings} if settings else {})}


def print_project(found: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a project: its facts, then its settings."""
    if as_json:
        print_json(found)
        return
    say(f"{found['name']} ({found['id']})  {found['production_url']}")
    rows = {"git_url": found["git_url"], **found["settings"]}
    for name, value in rows.items():
        text = ", ".join(value) if isinstance(value, list) else value
        click.echo(f"{name:<18} {'(as detected)' if text is None or text == '' else text}")
