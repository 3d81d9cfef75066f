"""`vclone deploykey`: the key by which a project's builds read its repository over SSH."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import json_option, platform_options
from vclone_core.cli.progress import say
from vclone_core.cli.project import this_project
from vclone_core.cli.render import format_table, print_json, say_outcome
from vclone_core.errors import NotFound
from vclone_core.rules.deploykeys import list_host_keys


@click.group("deploykey")
def deploy_key() -> None:
    """Make, show and forget the key that opens a project's repository over SSH."""


@deploy_key.command()
@click.option(
    "--from", "given", type=click.File(), help="Keep this private key instead of making one; `-`: standard input."
)
@click.option("--known-hosts", type=click.File(), help="Believe these host keys, as `ssh-keyscan HOST` prints them.")
@click.option("--project", metavar="NAME", help="Project, instead of the linked one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def create(given: Any, known_hosts: Any, project: str | None, as_json: bool, **options: str | None) -> None:
    """Make a key pair in place of an earlier one, and print the public half for the repository's settings.

    A project that is missing is made, too.
    """
    body = {"private_key": given.read() if given else None, "known_hosts": known_hosts.read() if known_hosts else ""}

    async def make(api: ApiClient) -> Mapping[str, Any]:
        made: Mapping[str, Any]
        try:
            made = await api.post(_path(project), body)
        except NotFound:
            if project is None:
                raise
            # A private repository's key comes before its first deployment, which would have made the project.
            await api.post("/api/projects", {"name": project})
            say(f"Project {project} is made.")
            made = await api.post(_path(project), body)
        return made

    key = call_api(options, make)
    if as_json:
        print_json(key)
        return
    say("Add this key to the repository, for reading; the private half stays here and is never shown:")
    click.echo(key["public_key"])


@deploy_key.command()
@click.option("--project", metavar="NAME", help="Project, instead of the linked one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def show(project: str | None, as_json: bool, **options: str | None) -> None:
    """Print the public half, and the host keys that are believed."""

    async def fetch(api: ApiClient) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await api.get(_path(project))
        return found

    answer = call_api(options, fetch)
    if as_json:
        print_json(answer)
        return
    if not answer["items"]:
        say("There is no deploy key: `vclone deploykey create` makes one.")
        return
    (key,) = answer["items"]
    click.echo(key["public_key"])
    if hosts := list_host_keys(key["known_hosts"]):
        click.echo(format_table(["HOST", "KEY"], [list(one) for one in hosts]))
    else:
        say("No host key yet: the first host that a build meets is believed, and pinned.")


@deploy_key.command()
@click.argument("known_hosts", type=click.File(), required=False)
@click.option("--project", metavar="NAME", help="Project, instead of the linked one.")
@json_option
@platform_options
def trust(known_hosts: Any, project: str | None, *, as_json: bool, **options: str | None) -> None:
    """Believe the host keys in the file KNOWN_HOSTS and no others; without a file the next host that is met."""
    body = {"known_hosts": known_hosts.read() if known_hosts else ""}

    async def save(api: ApiClient) -> Mapping[str, Any]:
        kept: Mapping[str, Any] = await api.put(f"{_path(project)}/hosts", body)
        return kept

    kept = call_api(options, save)
    words = "These host keys are believed." if body["known_hosts"] else "The next host that a build meets is believed."
    say_outcome(kept, words, as_json=as_json)


@deploy_key.command()
@click.option("--project", metavar="NAME", help="Project, instead of the linked one.")
@json_option
@platform_options
def rm(project: str | None, *, as_json: bool, **options: str | None) -> None:
    """Forget the key; take it out of the repository's settings too."""
    name = project or this_project()

    async def remove(api: ApiClient) -> None:
        await api.delete(_path(name))

    call_api(options, remove)
    say_outcome({"removed": name}, "Forgot the deploy key.", as_json=as_json)


def _path(project: str | None) -> str:
    return f"/api/projects/{project or this_project()}/deploy-key"
