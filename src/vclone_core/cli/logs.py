"""`vclone logs`: a deployment's build log, whole or followed to the deployment's end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import platform_options
from vclone_core.cli.follow import follow_deployment
from vclone_core.cli.projects import find_deployment
from vclone_core.cli.render import format_line, print_state, raise_unless_ready


@click.command()
@click.argument("deployment")
@click.option("--follow", "-f", is_flag=True, help="Go on until the deployment has ended; its exit code is this one's.")
@click.option("--after", default=0, type=click.IntRange(0), metavar="N", help="Leave out the lines up to number N.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@platform_options
def logs(deployment: str, follow: bool, after: int, as_json: bool, **options: str | None) -> None:
    """Print the build log of a deployment: an id, its URL, or a project's name for its newest."""
    print_one: Callable[[Mapping[str, Any]], None] = print_as_json if as_json else print_as_text

    async def run(api: ApiClient) -> Mapping[str, Any] | None:
        found = await find_deployment(api, deployment)
        if follow:
            return await follow_deployment(api, found["id"], on_line=print_one, on_state=print_state, after=after)
        last = after
        while lines := (await api.get(f"/api/deployments/{found['id']}/logs", after=last))["items"]:
            for line in lines:
                print_one(line)
            last = lines[-1]["number"]
        return None

    ended = call_api(options, run)
    if ended is not None:
        raise_unless_ready(ended)


def print_as_text(line: Mapping[str, Any]) -> None:
    """Print a log line on stdout: here the log is the answer."""
    click.echo(format_line(line))


def print_as_json(line: Mapping[str, Any]) -> None:
    """Print a log line as one JSON object in one line."""
    click.echo(json.dumps(line, ensure_ascii=False))
