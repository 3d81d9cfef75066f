"""`vclone protection`: who may see a project's sites, share links, and a secret for automation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import platform_options
from vclone_core.cli.progress import say
from vclone_core.cli.project import this_project
from vclone_core.cli.render import format_age, format_table, print_edges, print_json
from vclone_core.errors import Invalid

COVERED = {
    "off": "Nothing is protected: everybody sees every site.",
    "previews": "Previews are protected; everybody sees production.",
    "everything": "Everything is protected, production too.",
}


def project_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--project`, `--json` and what names the platform."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--project", metavar="NAME", help="Project, instead of the linked one."),
    ):
        command = option(command)
    return platform_options(command)


@click.group()
def protection() -> None:
    """Say who may see a project's sites; share one; let automation in."""


@protection.command()
@project_options
def show(project: str | None, as_json: bool, **options: str | None) -> None:
    """Show which hosts are protected, and by what."""

    async def fetch(api: ApiClient) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await api.get(_path(project))
        return found

    print_policy(call_api(options, fetch), as_json=as_json, is_change=False)


@protection.command("set")
@click.argument("covers", type=click.Choice(["off", "previews", "everything"]))
@project_options
def set_covers(covers: str, project: str | None, as_json: bool, **options: str | None) -> None:
    """Protect nothing (off), every host but production's (previews), or everything."""

    async def change(api: ApiClient) -> Mapping[str, Any]:
        changed: Mapping[str, Any] = await api.patch(_path(project), {"covers": covers})
        return changed

    print_policy(call_api(options, change), as_json=as_json)


@protection.command()
@click.option("--remove", is_flag=True, help="Let nobody in by password any more.")
@project_options
def password(remove: bool, project: str | None, as_json: bool, **options: str | None) -> None:
    """Let in who knows a password, besides members: it is asked for, or read from a pipe."""
    if remove:
        asked = None
    elif sys.stdin.isatty():
        asked = click.prompt("New password of the sites", hide_input=True, confirmation_prompt=True, err=True)
    else:
        asked = sys.stdin.readline(4096).rstrip("\r\n")
    if asked == "":
        raise Invalid(what="there is no password on the standard input")

    async def change(api: ApiClient) -> Mapping[str, Any]:
        path = _path(project, "/password")
        if asked is None:
            removed: Mapping[str, Any] = await api.post(path, method="DELETE")
            return removed
        changed: Mapping[str, Any] = await api.put(path, {"password": asked})
        return changed

    print_policy(call_api(options, change), as_json=as_json)


@protection.command()
@project_options
def revoke(project: str | None, as_json: bool, **options: str | None) -> None:
    """Have everybody who was let in sign in, or type the password, anew."""

    async def change(api: ApiClient) -> Mapping[str, Any]:
        changed: Mapping[str, Any] = await api.post(_path(project, "/revoke"))
        return changed

    print_policy(call_api(options, change), as_json=as_json)


@protection.command()
@click.option("--remove", is_flag=True, help="Take the secret away, and what it opened.")
@project_options
def bypass(remove: bool, project: str | None, as_json: bool, **options: str | None) -> None:
    """Make a new secret for automation in the place of the one before, and print it, this once."""

    async def change(api: ApiClient) -> Mapping[str, Any] | None:
        path = _path(project, "/bypass")
        if remove:
            await api.delete(path)
            return None
        made: Mapping[str, Any] = await api.post(path)
        return made

    made = call_api(options, change)
    if as_json:
        print_json(made or {"secret": None})
    elif made is None:
        say("The secret opens nothing any more.")
    else:
        say("Send it as `x-vclone-protection-bypass: SECRET`. It is not shown again:")
        click.echo(made["secret"])


@protection.command()
@click.argument("of", metavar="HOST|BRANCH|DEPLOYMENT")
@click.option("--days", default=7.0, show_default=True, help="How long the link opens the site.")
@click.option("--name", default="", help="For whom it is.")
@project_options
def share(of: str, days: float, name: str, project: str | None, as_json: bool, **options: str | None) -> None:
    """Make a link that opens one protected host, and print it, this once."""

    async def make(api: ApiClient) -> Mapping[str, Any]:
        made: Mapping[str, Any] = await api.post(_path(project, "/links"), {"of": of, "days": days, "name": name})
        return made

    link = call_api(options, make)
    if as_json:
        print_json(link)
        return
    say(f"{link['id']} opens {link['host']} until {link['expires_at']} for whoever has it. It is not shown again:")
    click.echo(link["url"])


@protection.command()
@project_options
def links(project: str | None, as_json: bool, **options: str | None) -> None:
    """List the share links that hold."""

    async def fetch(api: ApiClient) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await api.get_all(_path(project, "/links"))
        return found

    answer = call_api(options, fetch)
    if as_json:
        print_json(answer)
        return
    now = datetime.now(UTC)
    rows = [
        [one["id"], one["host"], one["name"], format_age(one["created_at"], now), one["expires_at"][:16]]
        for one in answer["items"]
    ]
    if rows:
        click.echo(format_table(["LINK", "HOST", "FOR", "MADE", "ENDS"], rows))
    else:
        say("There is no share link: `vclone protection share HOST` makes one.")


@protection.command()
@click.argument("link")
@project_options
def unshare(link: str, project: str | None, as_json: bool, **options: str | None) -> None:
    """Revoke a share link, and what it opened."""

    async def remove(api: ApiClient) -> None:
        await api.delete(_path(project, f"/links/{link}"))

    call_api(options, remove)
    if as_json:
        print_json({"revoked": link})
    else:
        say(f"{link} opens nothing any more.")


def _path(project: str | None, rest: str = "") -> str:
    return f"/api/projects/{project or this_project()}/protection{rest}"


def print_policy(found: Mapping[str, Any], *, as_json: bool, is_change: bool = True) -> None:
    """Print how a project's sites are protected, and what the edges said of a change."""
    if as_json:
        print_json(found)
        return
    lines = [COVERED[found["covers"]]]
    if found["covers"] != "off":
        lines.append("Members of the team sign in." + (" Others type the password." if found["has_password"] else ""))
    if found["has_bypass"]:
        lines.append(f"Automation has a secret, made {found['bypass_made_at'][:16]}.")
    click.echo("\n".join(lines))
    if is_change:
        print_edges(found["receipts"])
