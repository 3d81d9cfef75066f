"""Commands that move aliases or builds: `vclone promote`, `rollback`, `cancel`, `redeploy`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import platform_options
from vclone_core.cli.follow import follow_deployment
from vclone_core.cli.link import name_project, read_link
from vclone_core.cli.progress import say
from vclone_core.cli.projects import find_deployment
from vclone_core.cli.render import print_json, print_line, print_receipts, print_state, raise_unless_ready


@click.command()
@click.argument("deployment")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def promote(deployment: str, as_json: bool, **options: str | None) -> None:
    """Point the production address at a ready deployment; nothing is built."""

    async def run(api: ApiClient) -> Any:
        found = await find_deployment(api, deployment)
        return await api.post(f"/api/deployments/{found['id']}/promote")

    print_switch(call_api(options, run), as_json=as_json)


@click.command()
@click.argument("project", required=False)
@click.option("--to", metavar="DEPLOYMENT", help="Go back to this one; else to the one before.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def rollback(project: str | None, to: str | None, as_json: bool, **options: str | None) -> None:
    """Point the production address back at an earlier deployment, and pause automatic publishing."""
    name = project or read_link(Path()) or name_project(Path())

    async def run(api: ApiClient) -> Any:
        earlier = (await find_deployment(api, to))["id"] if to else None
        return await api.post(f"/api/projects/{name}/rollback", {"to": earlier})

    print_switch(call_api(options, run), as_json=as_json)
    say("New deployments stay previews until you promote one: `vclone promote DEPLOYMENT`.")


@click.command()
@click.argument("deployment")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def cancel(deployment: str, as_json: bool, **options: str | None) -> None:
    """Stop a queued or running build."""

    async def run(api: ApiClient) -> Mapping[str, Any]:
        found = await find_deployment(api, deployment)
        answer: Mapping[str, Any] = await api.post(f"/api/deployments/{found['id']}/cancel")
        return answer

    cancelled = call_api(options, run)
    if as_json:
        print_json(cancelled)
    else:
        click.echo(f"{cancelled['id']} is {cancelled['state']}.")


@click.command()
@click.argument("deployment")
@click.option("--no-cache", is_flag=True, help="Build without what earlier builds left; later ones may use it.")
@click.option("--no-wait", is_flag=True, help="Return as soon as the deployment is queued.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def redeploy(deployment: str, no_cache: bool, no_wait: bool, as_json: bool, **options: str | None) -> None:
    """Build the source of a deployment again, as a new deployment."""
    body = {"settings": {"build_cache": False}} if no_cache else {}

    async def run(api: ApiClient) -> Mapping[str, Any]:
        found = await find_deployment(api, deployment)
        made: Mapping[str, Any] = await api.post(f"/api/deployments/{found['id']}/redeploy", body)
        if no_wait:
            return made
        return await follow_deployment(api, made["id"], on_line=print_line, on_state=print_state)

    made = call_api(options, run)
    if as_json:
        print_json(made)
    else:
        click.echo(made["url"] or made["id"])
    raise_unless_ready(made)


def print_switch(answer: Mapping[str, Any], *, as_json: bool) -> None:
    """Print what a promote or a rollback answered."""
    if as_json:
        print_json(answer)
    else:
        print_receipts(answer)
