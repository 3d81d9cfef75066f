"""`vclone tokens`: API tokens for programs."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from vclone_core.cli.client import call_api
from vclone_core.cli.context import json_option, platform_options
from vclone_core.cli.progress import say
from vclone_core.cli.render import format_age, format_table, print_json, print_outcome


@click.group()
def tokens() -> None:
    """API tokens, for programs."""


@tokens.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def list_tokens(as_json: bool, **options: str | None) -> None:
    """List the team's API tokens that you may see, newest first."""
    answer = call_api(options, lambda api: api.get_all("/api/tokens"))
    if as_json:
        print_json(answer)
        return
    now = datetime.now(UTC)
    rows = [
        [
            it["name"],
            ",".join(it["scopes"]) or "as its user",
            it["user"]["email"],
            format_age(it["last_used_at"], now) if it["last_used_at"] else "never",
            (it["expires_at"] or "never")[:10],
            it["id"],
        ]
        for it in answer["items"]
    ]
    click.echo(format_table(["NAME", "SCOPES", "OF", "USED", "ENDS", "ID"], rows))


@tokens.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=("deploy",),
    show_default=True,
    type=click.Choice(["read", "deploy", "manage", "admin"]),
    help="What it is for; each includes those before it.",
)
@click.option("--days", type=click.FloatRange(0, 366, min_open=True), default=90, show_default=True, help="Its life.")
@click.option("--no-end", is_flag=True, help="Let it hold until it is revoked.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def create(name: str, scopes: tuple[str, ...], days: float, no_end: bool, as_json: bool, **options: str | None) -> None:
    """Make an API token of the team; its text is printed this once."""
    body = {"name": name, "scopes": list(scopes), "expires_days": None if no_end else days}
    answer = call_api(options, lambda api: api.post("/api/tokens", body))
    if as_json:
        print_json(answer)
    else:
        say(f"{name} is made ({', '.join(answer['scopes'])}). Keep it safe: it is shown this once.")
        click.echo(answer["token"])


@tokens.command("revoke")
@click.argument("token_id", metavar="ID")
@json_option
@platform_options
def revoke(token_id: str, *, as_json: bool, **options: str | None) -> None:
    """Revoke an API token: it opens nothing from now on."""
    call_api(options, lambda api: api.delete(f"/api/tokens/{token_id}"))
    print_outcome({"revoked": token_id}, f"{token_id} is revoked.", as_json=as_json)
