"""`vclone up`: the whole platform on this machine.

    checks -> databases -> migrate -> owner -> api, worker, edge -> welcome site -> ready … Ctrl-C -> stop in order

Every check comes before anything is made. What is slow to import is imported while the databases start.
"""

from __future__ import annotations

import asyncio
import os
import time
from importlib.metadata import version
from pathlib import Path

import click

from vclone_core.cli.context import default_data_dir
from vclone_core.embedded.datadir import open_data_dir
from vclone_core.embedded.ports import check_port
from vclone_core.embedded.runfile import REMAINS_S, clear_remains
from vclone_core.errors import BadSettings


@click.command()
@click.option("--data-dir", envvar="VCLONE_DATA_DIR", type=click.Path(path_type=Path), help="Keep everything here.")
@click.option("--port", type=click.IntRange(1, 65535), default=None, help="Port of the deployed sites.  [8080]")
@click.option("--api-port", type=click.IntRange(1, 65535), default=None, help="Port of API and dashboard.  [9000]")
@click.option("--base-domain", default=None, help="Sites get host names below this domain.  [localhost]")
@click.option("--tls", is_flag=True, help="Serve the sites by https:// too, with certificates of our own authority.")
@click.option("--tls-port", type=click.IntRange(1, 65535), default=None, help="Port of the sites for TLS.  [8443]")
@click.option("--no-welcome", is_flag=True, help="Don't deploy the welcome site on the first start.")
def up(
    data_dir: Path | None,
    port: int | None,
    api_port: int | None,
    base_domain: str | None,
    tls: bool,
    tls_port: int | None,
    no_welcome: bool,
) -> None:
    """Run the whole platform on this machine, until Ctrl-C.

    The first start makes the database, an owner account and a welcome site. Data is kept in --data-dir.
    """
    began = time.monotonic()
    from vclone_core.settings import load_settings

    path = (data_dir or default_data_dir(os.environ)).expanduser().absolute()
    chosen = {"edge_port": port, "api_port": api_port, "base_domain": base_domain, "edge_tls_port": tls_port}
    if tls:
        chosen["edge_certificate_issuer"] = "internal"
    settings = load_settings(os.environ, data_dir=path, **{k: v for k, v in chosen.items() if v is not None})
    ports = [settings.edge_port, settings.api_port, *([settings.edge_tls_port] if settings.has_tls else [])]
    if twice := next((found for found in ports if ports.count(found) > 1), None):
        raise BadSettings(
            problems=f"Port {twice} is chosen for two things.",
            hint="Choose different ports with --port, --tls-port and --api-port.",
        )
    patience_s = REMAINS_S if clear_remains(path) else 0.0
    check_port(settings.edge_host, settings.edge_port, "--port", patience_s=patience_s)
    check_port(settings.api_host, settings.api_port, "--api-port", patience_s=patience_s)
    if settings.has_tls:
        check_port(settings.edge_host, settings.edge_tls_port, "--tls-port", patience_s=patience_s)
    with open_data_dir(path, version=version("vclone")) as folder:
        from vclone_core.cli.bringup import run_platform
        from vclone_core.log import configure_log

        # What each process does is in its own log; the terminal gets what needs a person.
        configure_log(process="up", log_format=settings.log_format, log_level="warning")
        asyncio.run(run_platform(settings, folder, began=began, wants_welcome=not no_welcome))
