"""`vclone frameworks`: the definitions that detection tries, in its order, and where each comes from."""

from __future__ import annotations

from typing import Final

import click

from vclone_core.cli.plugins import load_own_plugins
from vclone_core.cli.progress import say
from vclone_core.cli.render import format_table, print_json
from vclone_core.rules.definitions import Framework, parse_frameworks

COMMAND_WIDTH: Final = 36


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def frameworks(as_json: bool) -> None:
    """List the frameworks that are recognised."""
    found, problems = parse_frameworks(load_own_plugins().framework_texts)
    if as_json:
        print_json({"frameworks": [describe(one) for one in found], "refused": list(problems)})
        return
    rows = [
        [one.id, one.name, one.kind, shorten(one.build_command or ""), one.output_directory, one.distribution]
        for one in found
    ]
    click.echo(format_table(["ID", "NAME", "KIND", "BUILD", "OUTPUT", "FROM"], rows))
    for problem in problems:
        say(f"Ignored: {problem}")


def shorten(command: str) -> str:
    """Return a command that leaves the table its shape; `--json` has the whole one."""
    return command if len(command) <= COMMAND_WIDTH else f"{command[: COMMAND_WIDTH - 1]}…"


def describe(one: Framework) -> dict[str, object]:
    """Return what of a definition a reader asks for."""
    return {
        "id": one.id,
        "name": one.name,
        "kind": one.kind,
        "install_command": one.install_command,
        "build_command": one.build_command,
        "output_directory": one.output_directory,
        "file": one.file,
        "distribution": one.distribution,
    }
