"""`vclone alias`: which hosts show which deployment of a project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import json_option, platform_options
from vclone_core.cli.progress import say
from vclone_core.cli.project import this_project
from vclone_core.cli.render import format_table, print_json


@click.group()
def alias() -> None:
    """List the hosts that show a project's deployments. `vclone promote` and `rollback` move production's."""


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
