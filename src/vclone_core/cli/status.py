"""`vclone status`: what of the platform on this machine runs just now."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from vclone_core.cli.context import default_data_dir, platform_file
from vclone_core.embedded.datadir import read_json
from vclone_core.embedded.runfile import read_status


@click.command()
@click.option("--data-dir", envvar="VCLONE_DATA_DIR", type=click.Path(path_type=Path), help="Data folder to look at.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(data_dir: Path | None, as_json: bool) -> None:
    """Show what of the platform on this machine runs: addresses, processes and their states.

    The state is running, starting, stopping or stopped.
    """
    found = read_status(pick_data_dir(data_dir))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"{found['state']}  {found['data_dir']}")
    if found["state"] == "stopped":
        click.echo("  `vclone up` starts it.")
        return
    click.echo(f"  sites      {found['edge']}\n  dashboard  {found['dashboard']}")
    for name, service in found["services"].items():
        again = f", restarted {service['restarts']} time(s)" if service["restarts"] else ""
        click.echo(f"  {name:<9}  {service['state']}  (process {service['pid']}{again})")


def pick_data_dir(chosen: Path | None) -> Path:
    """Return the data folder a command means: the one named, else the latest `up`'s, else the default."""
    if chosen is not None:
        return chosen.expanduser().absolute()
    latest = (read_json(platform_file(os.environ)) or {}).get("data_dir")
    return Path(latest) if latest else default_data_dir(os.environ)
