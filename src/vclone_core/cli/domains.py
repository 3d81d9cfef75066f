"""`vclone domains`: custom host names of a project, and the DNS records that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import json_option, platform_options
from vclone_core.cli.progress import say
from vclone_core.cli.project import this_project
from vclone_core.cli.render import format_table, print_json, say_outcome
from vclone_core.errors import Conflict
from vclone_core.models import HELD, DomainState

PROBLEM_LENGTH: Final = 80
_COLOURS: Final = {
    DomainState.PENDING: "yellow",
    DomainState.MISROUTED: "yellow",
    DomainState.ACTIVE: "green",
    DomainState.FAILING: "red",
    DomainState.LAPSED: "bright_black",
}


@click.group()
def domains() -> None:
    """Give projects host names of their own: example.com, www.example.com."""


@domains.command("ls")
@click.option("--project", metavar="NAME", help="Only this project's.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def list_domains(project: str | None, as_json: bool, **options: str | None) -> None:
    """List the domains of the team."""

    async def fetch(api: ApiClient) -> list[Any]:
        found: list[Any] = (await api.get_all("/api/domains", project=project))["items"]
        return found

    items = call_api(options, fetch)
    if as_json:
        print_json({"items": items})
        return
    rows = [
        [one["host"], one["project"], style_state(one["state"]), tell_shown(one), shorten(one["problem"])]
        for one in items
    ]
    if rows:
        click.echo(format_table(["DOMAIN", "PROJECT", "STATE", "SHOWS", "PROBLEM"], rows))
    else:
        say("There is no domain: `vclone domains add HOST` claims one.")


@domains.command()
@click.argument("host")
@click.option("--project", metavar="NAME", help="Project, instead of the linked one.")
@click.option("--branch", metavar="BRANCH", help="Show this branch instead of production.")
@click.option("--redirect-to", metavar="HOST", help="Send visitors to this domain of the project.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def add(
    host: str,
    project: str | None,
    branch: str | None,
    redirect_to: str | None,
    as_json: bool,
    **options: str | None,
) -> None:
    """Claim HOST for a project and print the DNS records to set; it is served once they are found."""
    body = {"host": host, "branch": branch, "redirect_to": redirect_to}

    async def claim(api: ApiClient) -> Mapping[str, Any]:
        added: Mapping[str, Any] = await api.post(f"/api/domains/projects/{project or this_project()}", body)
        return added

    added = call_api(options, claim)
    if as_json:
        print_json(added)
        return
    say(f"{added['project']} claims {added['host']}. Set these records where its DNS is kept:")
    print_records(added["records"])
    say("They are looked for from now on; `vclone domains verify` looks at once.")


@domains.command()
@click.argument("host")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def verify(host: str, as_json: bool, **options: str | None) -> None:
    """Look at the DNS of HOST now; exit code 5 when it isn't served and led here."""

    async def look(api: ApiClient) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await api.post(f"/api/domains/{host}/verify")
        return found

    found = call_api(options, look)
    show(found, as_json=as_json)
    if found["state"] != DomainState.ACTIVE:
        raise Conflict(sentence=f"{found['host']} is {found['state']}, not active.")


@domains.command()
@click.argument("host")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def inspect(host: str, as_json: bool, **options: str | None) -> None:
    """Show where HOST stands, what is wrong with it, and the records to set."""

    async def fetch(api: ApiClient) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await api.get(f"/api/domains/{host}")
        return found

    show(call_api(options, fetch), as_json=as_json)


@domains.command()
@click.argument("host")
@json_option
@platform_options
def rm(host: str, *, as_json: bool, **options: str | None) -> None:
    """Give HOST up: it shows nothing from now on, and its record proves nothing any more."""

    async def remove(api: ApiClient) -> None:
        await api.delete(f"/api/domains/{host}")

    call_api(options, remove)
    words = f"Removed {host}. Remove its DNS records, too: nobody else can use them here."
    say_outcome({"removed": host}, words, as_json=as_json)


@domains.command()
@click.argument("host")
@click.argument("target", required=False)
@click.option("--branch", metavar="BRANCH", help="Show this branch instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def redirect(host: str, target: str | None, branch: str | None, as_json: bool, **options: str | None) -> None:
    """Send the visitors of HOST to TARGET, another domain of its project; without one HOST shows production again."""
    body = {"redirect_to": target, "branch": branch}

    async def change(api: ApiClient) -> Mapping[str, Any]:
        changed: Mapping[str, Any] = await api.patch(f"/api/domains/{host}", body)
        return changed

    changed = call_api(options, change)
    if as_json:
        print_json(changed)
        return
    say(f"{changed['host']} shows {tell_shown(changed)}.")


def show(domain: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a domain: what is wrong with it, and the records to set while something is."""
    if as_json:
        print_json(domain)
        return
    say(f"{domain['host']} of {domain['project']} is {style_state(domain['state'])}; it shows {tell_shown(domain)}.")
    if domain["problem"]:
        say(domain["problem"])
    print_records(domain["records"])


def print_records(records: Sequence[Mapping[str, Any]]) -> None:
    """Print DNS records as a table."""
    rows = [[one["type"], one["name"], one["value"], one["purpose"]] for one in records]
    click.echo(format_table(["TYPE", "NAME", "VALUE", "FOR"], rows))


def tell_shown(domain: Mapping[str, Any]) -> str:
    """Return what visitors of a domain are shown."""
    if domain["state"] not in set(HELD):
        return "nothing yet"
    if domain["redirect_to"]:
        return f"{domain['redirect_to']} (redirect)"
    return f"the branch {domain['branch']}" if domain["branch"] else "production"


def shorten(text: str) -> str:
    """Return a problem as it fits into a line of a table; `inspect` has all of it."""
    return text if len(text) <= PROBLEM_LENGTH else f"{text[: PROBLEM_LENGTH - 1]}…"


def style_state(state: str) -> str:
    """Return a domain's state in its colour, where the output has colours."""
    return click.style(state, fg=_COLOURS.get(DomainState(state)) if state in set(DomainState) else None)
