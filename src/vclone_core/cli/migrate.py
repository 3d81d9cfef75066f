"""`vclone migrate`: bring the database to this version's tables."""

from __future__ import annotations

import asyncio
import os

import click

from vclone_core.cli.context import json_option
from vclone_core.cli.render import print_outcome
from vclone_core.errors import BadSettings


@click.command()
@json_option
def migrate(*, as_json: bool) -> None:
    """Apply the migrations that VCLONE_DATABASE_URL has not seen. Safe to run from several machines at once."""
    from vclone_core.log import configure_log
    from vclone_core.settings import load_settings
    from vclone_core.stores.postgres import migrate as apply

    configure_log(process="migrate", log_level="warning")  # what was applied is said below
    url = load_settings(os.environ).database_url.get_secret_value()
    if not url:
        raise BadSettings(
            problems="VCLONE_DATABASE_URL is not set.",
            hint="Set it to the database to migrate; `vclone up` migrates its own.",
        )
    applied = asyncio.run(apply(url))
    words = "\n".join(f"applied {name}" for name in applied) or "nothing to apply"
    print_outcome({"applied": list(applied)}, words, as_json=as_json)
