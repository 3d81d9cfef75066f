"""`vclone env`: the environment variables of a project, and the `.env.local` of one's own machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import json_option, platform_options
from vclone_core.cli.progress import say
from vclone_core.cli.project import this_project
from vclone_core.cli.render import format_age, format_table, print_json, say_outcome
from vclone_core.errors import Conflict, FieldProblem, Invalid, InvalidFields, NotFound
from vclone_core.rules.dotenv import format_dotenv, parse_dotenv
from vclone_core.rules.variables import TARGETS

HEAD: Final = "# Written by `vclone env pull`. Keep it out of git.\n"

project_option = click.option("--project", metavar="NAME", help="Project, instead of the linked one.")


@click.group()
def env() -> None:
    """List, add, remove and pull the environment variables of a project."""


@env.command("ls")
@click.option("--target", type=click.Choice(TARGETS), help="Only those for this target.")
@project_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def list_variables(target: str | None, project: str | None, as_json: bool, **options: str | None) -> None:
    """List the variables of a project; values are in `--json` and `env pull` alone."""
    items = call_api(options, lambda api: fetch_variables(api, project))
    shown = [one for one in items if target in (None, one["target"])]
    if as_json:
        print_json({"items": shown})
        return
    now = datetime.now(UTC)
    rows = [
        [one["key"], one["target"], one["branch"] or "", kind_of(one), format_age(one["updated_at"], now)]
        for one in shown
    ]
    if rows:
        click.echo(format_table(["NAME", "TARGET", "BRANCH", "KIND", "CHANGED"], rows))
    else:
        say("There is no variable: `vclone env add NAME` adds one.")


@env.command()
@click.argument("name", required=False)
@click.option("--from", "source", type=click.File("r", encoding="utf-8"), help="A `.env` file (`-`: standard input).")
@click.option("--target", "targets", type=click.Choice(TARGETS), multiple=True, help="For this; again for more.")
@click.option("--branch", metavar="BRANCH", help="For the previews of this branch alone.")
@click.option("--sensitive", is_flag=True, help="Never show the value again.")
@click.option("--build-only", is_flag=True, help="Leave it out of what runs.")
@click.option("--run-only", is_flag=True, help="Leave it out of builds.")
@click.option("--replace", is_flag=True, help="Take the place of what is there.")
@project_option
@json_option
@platform_options
def add(
    name: str | None,
    source: Any,
    targets: tuple[str, ...],
    branch: str | None,
    *,
    sensitive: bool,
    build_only: bool,
    run_only: bool,
    replace: bool,
    as_json: bool,
    project: str | None,
    **options: str | None,
) -> None:
    """Add the variable NAME, or all of a `.env` file, for every target unless some are named.

    The value is asked for, or read from standard input without its last line break.
    """
    if (name is None) == (source is None):
        raise Invalid(what="give either the NAME of a variable or --from FILE")
    if build_only and run_only:
        raise Invalid(what="--build-only and --run-only exclude each other")
    values = {name: read_value(name)} if name is not None else read_file(source.read())
    kind = {
        "targets": list(targets or (("preview",) if branch else TARGETS)),
        "branch": branch,
        "is_sensitive": sensitive,
        "is_build": not run_only,
        "is_run": not build_only,
    }
    asked = [{"key": key, "value": value, **kind} for key, value in values.items()]

    async def save(api: ApiClient) -> Mapping[str, Any]:
        path = f"/api/env/{project or this_project()}"
        kept: Mapping[str, Any] = await api.post(path, {"variables": asked, "replace": replace})
        return kept

    try:
        kept = call_api(options, save)
    except InvalidFields as error:
        raise InvalidFields(tuple(name_problem(problem, list(values)) for problem in error.problems)) from error
    found = "it" if len(values) == 1 else "them"
    say_outcome(kept, f"Kept {', '.join(values)}. The next build finds {found}.", as_json=as_json)


@env.command()
@click.argument("name")
@click.option("--target", "targets", type=click.Choice(TARGETS), multiple=True, help="Only for this; again for more.")
@click.option("--branch", metavar="BRANCH", help="Only the one for this branch.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@project_option
@json_option
@platform_options
def rm(
    name: str,
    targets: tuple[str, ...],
    branch: str | None,
    *,
    yes: bool,
    as_json: bool,
    project: str | None,
    **options: str | None,
) -> None:
    """Remove the variable NAME: of every target and branch, unless some are named."""
    found = [
        one
        for one in call_api(options, lambda api: fetch_variables(api, project))
        if one["key"] == name and (not targets or one["target"] in targets) and branch in (None, one["branch"])
    ]
    if not found:
        raise NotFound(what="variable")
    places = ", ".join(f"{one['target']} {one['branch'] or ''}".strip() for one in found)
    if not yes and sys.stdin.isatty():
        click.confirm(f"Remove {name} ({places})?", abort=True, err=True)

    async def remove(api: ApiClient) -> None:
        for one in found:
            await api.delete(f"/api/env/{project or this_project()}/{one['id']}")

    call_api(options, remove)
    say_outcome({"removed": [one["id"] for one in found]}, f"Removed {name} ({places}).", as_json=as_json)


@env.command()
@click.argument("file", default=".env.local", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--target", type=click.Choice(TARGETS), default="development", show_default=True, help="Whose values.")
@click.option("--branch", metavar="BRANCH", help="As a preview of this branch gets them.")
@click.option("--yes", is_flag=True, help="Overwrite a file that is there.")
@project_option
@json_option
@platform_options
def pull(
    file: Path,
    target: str,
    branch: str | None,
    *,
    yes: bool,
    as_json: bool,
    project: str | None,
    **options: str | None,
) -> None:
    """Write the variables to FILE (`.env.local`), which only you can read. Sensitive ones are left out."""
    if file.exists() and not yes:
        raise Conflict(what=f"{file} is there already", hint="`--yes` overwrites it.")

    async def fetch(api: ApiClient) -> Mapping[str, Any]:
        path = f"/api/env/{project or this_project()}/values"
        found: Mapping[str, Any] = await api.get(path, target=target, branch=branch)
        return found

    answer = call_api(options, fetch)
    write_private_text(file, HEAD + format_dotenv(answer["values"]))
    outcome = {"file": str(file), "keys": list(answer["values"]), "withheld": answer["withheld"]}
    say_outcome(outcome, f"Wrote {len(answer['values'])} variables for {target} to {file}.", as_json=as_json)
    if answer["withheld"] and not as_json:
        say(f"Left out, being sensitive: {', '.join(answer['withheld'])}.")


async def fetch_variables(api: ApiClient, project: str | None) -> list[Mapping[str, Any]]:
    """Return a project's variables as the API lists them."""
    items: list[Mapping[str, Any]] = (await api.get_all(f"/api/env/{project or this_project()}"))["items"]
    return items


def read_value(name: str) -> str:
    """Return a value from the terminal, or from standard input."""
    if sys.stdin.isatty():
        value: str = click.prompt(f"Value of {name}", hide_input=True, default="", show_default=False, err=True)
        return value
    return sys.stdin.read().removesuffix("\n").removesuffix("\r")


def read_file(text: str) -> dict[str, str]:
    """Return the variables of a `.env` file, and say which are not what they may be meant to be."""
    found = parse_dotenv(text)
    if found.problems:
        raise InvalidFields(found.problems)
    if not found.values:
        raise Invalid(what="the file has no variable in it")
    if found.references:
        say(f"Kept as written, nothing is put in the place of `$…`: {', '.join(found.references)}.")
    return dict(found.values)


def name_problem(problem: FieldProblem, keys: Sequence[str]) -> FieldProblem:
    """Return a problem the API has found by the variable's name: `variables.3.key` says nothing to who gave a file."""
    _, _, rest = problem.field.partition("variables.")
    number, _, part = rest.partition(".")
    if not number.isdecimal() or int(number) >= len(keys):
        return problem
    return FieldProblem(keys[int(number)] if part == "key" else f"{keys[int(number)]} ({part})", problem.message)


def kind_of(one: Mapping[str, Any]) -> str:
    """Return what is special about a variable, as words."""
    words = {
        "sensitive": one["is_sensitive"],
        "build only": not one["is_run"],
        "run only": not one["is_build"],
    }
    return ", ".join(word for word, holds in words.items() if holds)


def write_private_text(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
