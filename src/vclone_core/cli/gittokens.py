"""`vclone gittokens`: what opens the team's private repositories."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import json_option, platform_options
from vclone_core.cli.progress import say
from vclone_core.cli.render import format_age, format_table, print_json, say_outcome
from vclone_core.errors import Invalid


@click.group("gittokens")
def git_tokens() -> None:
    """Keep, list and forget the tokens that open private repositories to builds."""


@git_tokens.command("set")
@click.argument("host")
@click.option("--account", metavar="NAME", help="User name that the host takes beside the token, where it wants one.")
@json_option
@platform_options
def set_token(host: str, account: str | None, *, as_json: bool, **options: str | None) -> None:
    """Keep the token on standard input for HOST (`git.example.com`, or `git.example.com:8443`)."""
    token = click.prompt("Token", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.read()
    if not token.strip():
        raise Invalid(what="there is no token on standard input")
    body = {"token": token.strip(), **({"account": account} if account else {})}

    async def save(api: ApiClient) -> Mapping[str, Any]:
        kept: Mapping[str, Any] = await api.put(f"/api/git-tokens/{host}", body)
        return kept

    kept = call_api(options, save)
    say_outcome(
        kept, f"Builds of your team can read the repositories on {host} that this token opens.", as_json=as_json
    )


@git_tokens.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def list_tokens(as_json: bool, **options: str | None) -> None:
    """List the hosts that there is a token for."""

    async def fetch(api: ApiClient) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await api.get_all("/api/git-tokens")
        return found

    answer = call_api(options, fetch)
    if as_json:
        print_json(answer)
        return
    now = datetime.now(UTC)
    rows = [[one["host"], one["account"], format_age(one["created_at"], now)] for one in answer["items"]]
    if rows:
        click.echo(format_table(["HOST", "ACCOUNT", "SET"], rows))
    else:
        say("There is no token: `vclone gittokens set HOST` keeps one.")


@git_tokens.command()
@click.argument("host")
@json_option
@platform_options
def rm(host: str, *, as_json: bool, **options: str | None) -> None:
    """Forget the token of HOST."""

    async def remove(api: ApiClient) -> None:
        await api.delete(f"/api/git-tokens/{host}")

    call_api(options, remove)
    say_outcome({"removed": host}, f"Forgot the token of {host}.", as_json=as_json)
