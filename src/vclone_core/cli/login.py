"""Signing this computer in and out: `vclone login`, `logout`, `whoami`; and `vclone dashboard`, signed in at once."""

from __future__ import annotations

import asyncio
import os
import platform as machine
import time
from collections.abc import Mapping
from typing import Any, Final

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import (
    check_url,
    default_data_dir,
    find_platform,
    json_option,
    platform_file,
    platform_options,
    save_platform,
)
from vclone_core.cli.progress import say
from vclone_core.cli.render import print_json, print_outcome
from vclone_core.embedded.datadir import read_json
from vclone_core.errors import Forbidden, Unauthorised, VcloneError

POLL_S: Final = 2.0


@click.command()
@click.argument("api_url", required=False, metavar="[URL]")
@click.option("--no-browser", is_flag=True, help="Only print the address to open.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def login(api_url: str | None, no_browser: bool, as_json: bool, **options: str | None) -> None:
    """Sign this computer in to a platform: by a code that you confirm in a browser, or with `--token`."""
    named = api_url or options["api"]
    url = check_url(named) if named else find_platform(data_dir=options["data_dir"]).api_url
    token = options["token"] or sign_in_by_code(url, no_browser=no_browser)
    me = ask_me({**options, "api": url, "token": token.strip()})
    save_platform(platform_file(os.environ), api_url=url, token=token.strip(), team=options["team"] or "")
    if as_json:
        print_json({"api_url": url, **me})
    else:
        click.echo(f"Signed in to {url} as {describe(me)}.")


def sign_in_by_code(url: str, *, no_browser: bool) -> str:
    """Show a code, wait until a person has confirmed it, and return the API token. Raises `Forbidden` when refused."""

    async def run(api: ApiClient) -> str:
        started = await api.post("/api/auth/device", {"client": machine.node()[:100]})
        say(f"Open {started['verification_uri_complete']}\nand confirm this code:  {started['user_code']}")
        if not no_browser:
            click.launch(started["verification_uri_complete"])
        deadline = time.monotonic() + started["expires_in"]
        while time.monotonic() < deadline:
            await asyncio.sleep(max(started["interval"], POLL_S))
            answer = await api.post("/api/auth/device/token", {"device_code": started["device_code"]})
            if answer["state"] == "approved":
                return str(answer["token"])
            if answer["state"] != "pending":
                break
        raise Forbidden(what="the code was refused, or is too old", hint="Run `vclone login` again.")

    return call_api({"api": url, "token": "", "data_dir": None}, run)


@click.command()
@json_option
@platform_options
def logout(*, as_json: bool, **options: str | None) -> None:
    """Sign this computer out: its token is revoked. What `vclone up` on this machine uses by itself stays."""
    path = platform_file(os.environ)
    kept = read_json(path) or {}
    if kept.get("data_dir") or not kept.get("token"):
        words = "Nobody signed in here: the CLI uses the platform of this machine."
        print_outcome({"signed_out": False}, words, as_json=as_json)
        return

    async def leave(api: ApiClient) -> None:
        await api.post("/api/auth/logout")

    try:
        call_api({**options, "api": kept["api_url"], "token": kept["token"]}, leave)
    except Unauthorised:
        pass  # it opens nothing any more
    except VcloneError as error:
        say(f"The token could not be revoked: {error.sentence} It is forgotten here; revoke it on the dashboard.")
    path.unlink(missing_ok=True)
    own = read_json(default_data_dir(os.environ) / "cli.json")
    words = "Signed out." + (f" The CLI goes on with the platform of this machine, {own['api_url']}." if own else "")
    print_outcome({"signed_out": True}, words, as_json=as_json)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def whoami(as_json: bool, **options: str | None) -> None:
    """Print who the CLI acts as, in which team, in which role."""
    me = ask_me(options)
    if as_json:
        print_json(me)
    else:
        click.echo(describe(me))


@click.command()
@click.option("--no-browser", is_flag=True, help="Only print the address to open.")
@json_option
@platform_options
def dashboard(*, no_browser: bool, as_json: bool, **options: str | None) -> None:
    """Open the dashboard, signed in as who the CLI acts as; the printed link works once, for 15 minutes."""

    async def ask(api: ApiClient) -> str:
        url: str = (await api.post("/api/auth/links"))["url"]
        return url

    url = call_api(options, ask)
    print_outcome({"url": url}, url, as_json=as_json)
    if not no_browser and not as_json:
        click.launch(url)


def ask_me(options: Mapping[str, str | None]) -> Any:
    async def ask(api: ApiClient) -> Any:
        return await api.get("/api/auth/me")

    return call_api(options, ask)


def describe(me: Mapping[str, Any]) -> str:
    """Return who somebody is, on one line."""
    return f"{me['user'].get('email') or me['user']['id']} ({me['role']} of {me['team']['slug']})"
