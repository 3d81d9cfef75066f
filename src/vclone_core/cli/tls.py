"""`vclone tls`: what clients need to know of the platform's certificates."""

from __future__ import annotations

import os
from pathlib import Path

import click

from vclone_core.cli.context import json_option
from vclone_core.cli.render import print_outcome
from vclone_core.cli.status import pick_data_dir
from vclone_core.errors import NotFound
from vclone_core.log import configure_log
from vclone_core.plugins import load_plugins
from vclone_core.protocols import CertificateIssuer, IssuerConfig
from vclone_core.settings import load_settings


@click.group()
def tls() -> None:
    """Look after the certificates of the sites."""


@tls.command()
@click.option("--data-dir", envvar="VCLONE_DATA_DIR", type=click.Path(path_type=Path), help="Data folder of `up`.")
@click.option("--base-domain", default=None, help="The domain that `up` was started with.  [localhost]")
@click.option("--issuer", default=None, help="Plugin that makes the certificates.  [internal]")
@json_option
def ca(data_dir: Path | None, base_domain: str | None, issuer: str | None, *, as_json: bool) -> None:
    """Print the authority (PEM) that clients have to trust; it is made if there is none yet.

    For one command: curl --cacert ca.pem URL. For all of Debian: save it as /usr/local/share/ca-certificates/vclone.crt
    and run update-ca-certificates. For Chromium: certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n vclone -i ca.pem
    """
    path = pick_data_dir(data_dir)
    chosen = {} if base_domain is None else {"base_domain": base_domain}
    settings = load_settings(os.environ, data_dir=path, **chosen)
    configure_log(process="cli", log_level="warning")
    plugins = load_plugins(allow=settings.plugins, drop_in=settings.plugins_dir)
    name = issuer or settings.edge_certificate_issuer or "internal"
    found: CertificateIssuer = plugins.make(
        "certificate_issuers", name, IssuerConfig(settings.data_dir, settings.base_domain)
    )
    if not found.authority:
        raise NotFound(what=f"authority of its own at {name}", hint="Clients trust its certificates as they are.")
    authority = found.authority.decode()
    print_outcome({"authority": authority}, authority.removesuffix("\n"), as_json=as_json)
