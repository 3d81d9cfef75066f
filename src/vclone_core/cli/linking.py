"""`vclone link` remembers a folder's project."""

from __future__ import annotations

from pathlib import Path

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import json_option, platform_options
from vclone_core.cli.link import name_project, read_link, write_link
from vclone_core.cli.render import print_outcome
from vclone_core.errors import Invalid


@click.command()
@click.argument("project", required=False)
@click.argument("folder", default=".", type=click.Path(path_type=Path, exists=True, file_okay=False))
@json_option
@platform_options
def link(project: str | None, folder: Path, *, as_json: bool, **options: str | None) -> None:
    """Link FOLDER to PROJECT, so that `vclone deploy` there deploys to it."""
    wanted = project or read_link(folder) or name_project(folder)

    async def find(api: ApiClient) -> str:
        name: str = (await api.get(f"/api/projects/{wanted}"))["name"]
        return name

    found = call_api(options, find)
    if not write_link(folder, found):
        raise Invalid(what=f"{folder} can't be written to")
    outcome = {"folder": str(folder.resolve()), "project": found}
    print_outcome(outcome, f"{folder} is linked to the project {found}.", as_json=as_json)
