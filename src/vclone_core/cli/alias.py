"""`vclone alias`: which hosts show which deployment of a project, and hosts that are pointed at one by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import json_option, platform_options
from vclone_core.cli.progress import say
from vclone_core.cli.project import this_project
from vclone_core.cli.projects import find_deployment
from vclone_core.cli.render import format_table, print_json, print_outcome


@click.group()
def alias() -> None:
    """Hosts that show deployments: list them, set one, take one away. `promote` and `rollback` move production's."""


@alias.command("ls")
@click.option("--project", metavar="NAME", help="Project, instead of the linked one.")
@json_option
@platform_options
def list_aliases(project: str | None, *, as_json: bool, **options: str | None) -> None:
    """List the hosts of a project, with the deployment that each shows."""

    async def fetch(api: ApiClient) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await api.get("/api/aliases", project=project or this_project())
        return found

    answer = call_api(options, fetch)
    if as_json:
        print_json(answer)
        return
    rows = [[one["host"], one["kind"], one["deployment_id"]] for one in answer["items"]]
    if rows:
        click.echo(format_table(["HOST", "KIND", "DEPLOYMENT"], rows))
    else:
        say("No host shows a deployment of this project yet.")


@alias.command("set")
@click.argument("host")
@click.argument("deployment")
@json_option
@platform_options
def set_alias(host: str, deployment: str, *, as_json: bool, **options: str | None) -> None:
    """Point HOST at DEPLOYMENT: a name of your choice (`try` for try.BASE), or a proved domain of its project.

    A name stays there until it is set again; a domain until the next deployment that is published on it.
    """

    async def run(api: ApiClient) -> Any:
        found = await find_deployment(api, deployment)
        return await api.put(f"/api/aliases/{quote(host, safe='')}", {"deployment": found["id"]})

    answer = call_api(options, run)
    if as_json:
        print_json(answer)
        return
    click.echo(answer["alias"]["url"])
    say(f"It shows {answer['alias']['deployment_id']}.")


@alias.command("rm")
@click.argument("host")
@json_option
@platform_options
def remove_alias(host: str, *, as_json: bool, **options: str | None) -> None:
    """Take away a HOST that `alias set` has pointed at a deployment; the deployment stays."""

    async def run(api: ApiClient) -> None:
        await api.delete(f"/api/aliases/{quote(host, safe='')}")

    call_api(options, run)
    print_outcome({"host": host}, f"{host} shows nothing any more", as_json=as_json)
