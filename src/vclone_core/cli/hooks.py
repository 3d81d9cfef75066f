"""`vclone hooks`: the secret URLs that deploy a branch for whoever calls them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import json_option, platform_options
from vclone_core.cli.progress import say
from vclone_core.cli.project import this_project
from vclone_core.cli.render import format_age, format_table, print_json, say_outcome


@click.group()
def hooks() -> None:
    """Make, list and remove deploy hooks: secret URLs that deploy a branch."""


@hooks.command()
@click.argument("name")
@click.option("--branch", metavar="BRANCH", help="What it deploys, instead of the production branch.")
@click.option("--project", metavar="NAME", help="Project, instead of the linked one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def create(name: str, branch: str | None, project: str | None, as_json: bool, **options: str | None) -> None:
    """Make a deploy hook and print its URL, this once."""

    async def make(api: ApiClient) -> Mapping[str, Any]:
        path = f"/api/projects/{project or this_project()}/hooks"
        made: Mapping[str, Any] = await api.post(path, {"name": name, "branch": branch})
        return made

    hook = call_api(options, make)
    if as_json:
        print_json(hook)
        return
    say(f"{hook['id']} deploys {hook['branch']}. Whoever knows this URL can call it; it is not shown again:")
    click.echo(hook["url"])


@hooks.command("ls")
@click.option("--project", metavar="NAME", help="Project, instead of the linked one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def list_hooks(project: str | None, as_json: bool, **options: str | None) -> None:
    """List the deploy hooks of a project."""

    async def fetch(api: ApiClient) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await api.get_all(f"/api/projects/{project or this_project()}/hooks")
        return found

    answer = call_api(options, fetch)
    if as_json:
        print_json(answer)
        return
    now = datetime.now(UTC)
    rows = [
        [
            one["id"],
            one["name"],
            one["branch"],
            format_age(one["last_used_at"], now) if one["last_used_at"] else "never",
        ]
        for one in answer["items"]
    ]
    if rows:
        click.echo(format_table(["HOOK", "NAME", "BRANCH", "USED"], rows))
    else:
        say("There is no deploy hook: `vclone hooks create NAME` makes one.")


@hooks.command()
@click.argument("hook")
@click.option("--project", metavar="NAME", help="Project, instead of the linked one.")
@json_option
@platform_options
def rm(hook: str, project: str | None, *, as_json: bool, **options: str | None) -> None:
    """Remove a deploy hook; its URL answers 404 from now on."""

    async def remove(api: ApiClient) -> None:
        await api.delete(f"/api/projects/{project or this_project()}/hooks/{hook}")

    call_api(options, remove)
    say_outcome({"removed": hook}, f"Removed {hook}.", as_json=as_json)
