"""Commands that compare deployments: `vclone diff`, and `vclone bisect`, which finds the first bad one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import platform_options
from vclone_core.cli.progress import format_size, say
from vclone_core.cli.projects import find_deployment
from vclone_core.cli.render import print_json
from vclone_core.errors import Invalid
from vclone_core.rules.diffs import pick_next

_SIGNS: Final = {"added": ("+", "green"), "changed": ("~", "yellow"), "removed": ("-", "red")}
# As `git bisect run` has it: such a code says nothing about the deployment.
UNTESTABLE: Final = 125
NOT_RUN: Final = 126

Judge = Callable[[Mapping[str, Any]], bool]


@click.command()
@click.argument("before")
@click.argument("after")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def diff(before: str, after: str, as_json: bool, **options: str | None) -> None:
    """List the files that AFTER serves otherwise than BEFORE; each an id, a URL, or a project for its newest."""

    async def run(api: ApiClient) -> Mapping[str, Any]:
        one, other = [await find_deployment(api, text) for text in (before, after)]
        answer: Mapping[str, Any] = await api.get_all(f"/api/deployments/{one['id']}/diff", to=other["id"])
        return answer

    found = call_api(options, run)
    if as_json:
        print_json(found)
        return
    for change in found["items"]:
        sign, colour = _SIGNS[change["kind"]]
        click.echo(click.style(f"{sign} {change['path']}  {format_change(change['bytes'])}", fg=colour))
    say(
        f"{found['added']} added, {found['changed']} changed, {found['removed']} removed, "
        f"{format_change(found['bytes'])} in all."
    )


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout at the end.")
@platform_options
@click.argument("good")
@click.argument("bad")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--run COMMAND ...]")
def bisect(good: str, bad: str, command: tuple[str, ...], as_json: bool, **options: str | None) -> None:
    """Find the first bad deployment between GOOD and BAD, by halves.

    Opens each and asks; with `--run` a command answers: exit code 0 is good, 1 to 124 is bad, others end the search.
    It finds the address in VCLONE_URL, and in its arguments for `{url}`.
    """
    if command and (command[0] != "--run" or len(command) < 2):
        raise Invalid(what=f"{command[0]!r} is not --run with a command")

    async def fetch(api: ApiClient) -> Sequence[Mapping[str, Any]]:
        one, other = [await find_deployment(api, text) for text in (good, bad)]
        path = await api.get_all(f"/api/deployments/{one['id']}/path", to=other["id"])
        items: list[Mapping[str, Any]] = path["items"]
        return items if one["sequence"] < other["sequence"] else items[::-1]

    path = call_api(options, fetch)
    if len(path) < 2:
        raise Invalid(what="good and bad are the same deployment")
    first = search(path, (lambda one: run_check(command[1:], one)) if command else ask)
    if as_json:
        print_json(first)
    else:
        click.echo(f"{first['id']} is the first bad one: {first['url']}")
        if first["source"]["sha"]:
            click.echo(f"{first['source']['sha'][:12]} {first['source']['message'] or ''}".partition("\n")[0])


def search(path: Sequence[Mapping[str, Any]], is_good: Judge) -> Mapping[str, Any]:
    """Return the first bad one of `path`, whose first is good and whose last is bad."""
    good, bad = 0, len(path) - 1
    while (place := pick_next(good, bad)) is not None:
        say(f"{bad - good - 1} left between: {path[place]['id']}  {path[place]['url']}")
        if is_good(path[place]):
            good = place
        else:
            bad = place
    return path[bad]


def ask(deployment: Mapping[str, Any]) -> bool:
    """Open a deployment in the browser, where there is one, and ask the person."""
    click.launch(deployment["url"])
    return click.prompt("Is it good or bad?", type=click.Choice(["good", "bad"]), err=True) == "good"


def run_check(command: Sequence[str], deployment: Mapping[str, Any]) -> bool:
    """Run a check of a deployment and return whether it passed; raise `Invalid` when it could not tell."""
    argv = [argument.replace("{url}", deployment["url"]) for argument in command]
    environment = {**os.environ, "VCLONE_URL": deployment["url"], "VCLONE_DEPLOYMENT_ID": deployment["id"]}
    try:
        # What it prints is for the person; stdout is for the answer.
        code = subprocess.run(argv, env=environment, stdout=2, check=False).returncode
    except OSError as error:
        raise Invalid(what=f"{argv[0]} can't be run ({error.strerror})") from error
    if code < 0 or code in (UNTESTABLE, NOT_RUN) or code > NOT_RUN:
        raise Invalid(what=f"{argv[0]} ended with {code} for {deployment['id']}, which says neither good nor bad")
    say("good" if code == 0 else f"bad (exit code {code})")
    return code == 0


def format_change(size: int) -> str:
    """Return a change of size with its sign.

    >>> format_change(2048), format_change(-10), format_change(0)
    ('+2.0 KiB', '-10 B', '±0 B')
    """
    return f"{'+' if size > 0 else '-' if size < 0 else '±'}{format_size(abs(size))}"
