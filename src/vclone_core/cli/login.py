"""`vclone login` remembers a platform and its token; `vclone link` remembers a folder's project."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import check_url, find_platform, platform_file, platform_options, save_platform
from vclone_core.cli.link import name_project, read_link, write_link
from vclone_core.cli.render import print_json
from vclone_core.errors import Invalid


@click.command()
@click.argument("api_url", required=False, metavar="[URL]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def login(api_url: str | None, as_json: bool, **options: str | None) -> None:
    """Sign this computer in to a platform with an API token (`--token`, else it is asked for)."""
    url = check_url(api_url) if api_url else find_platform(api=options["api"], data_dir=options["data_dir"]).api_url
    token = options["token"] or click.prompt("API token", hide_input=True, err=True)
    used = {**options, "api": url, "token": token.strip()}

    async def ask(api: ApiClient) -> Any:
        return await api.get("/api/me")

    me = call_api(used, ask)
    path = platform_file(os.environ)
    save_platform(path, api_url=url, token=token.strip())
    if as_json:
        print_json({"api_url": url, **me})
    else:
        click.echo(f"Signed in to {url} as {me['user'].get('email') or me['user']['id']} ({me['role']}).")


@click.command()
@click.argument("project", required=False)
@click.argument("folder", default=".", type=click.Path(path_type=Path, exists=True, file_okay=False))
@platform_options
def link(project: str | None, folder: Path, **options: str | None) -> None:
    """Link FOLDER to PROJECT, so that `vclone deploy` there deploys to it."""
    wanted = project or read_link(folder) or name_project(folder)

    async def find(api: ApiClient) -> str:
        name: str = (await api.get(f"/api/projects/{wanted}"))["name"]
        return name

    found = call_api(options, find)
    if not write_link(folder, found):
        raise Invalid(what=f"{folder} can't be written to")
    click.echo(f"{folder} is linked to the project {found}.")
