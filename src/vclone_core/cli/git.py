"""`vclone git`: which repository a project follows, what its host told and was told, pull requests."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import find_platform, platform_options
from vclone_core.cli.progress import say
from vclone_core.cli.project import this_project
from vclone_core.cli.render import format_age, format_table, print_json, print_outcome, say_outcome
from vclone_core.errors import Conflict, Invalid

Options = str | None
project_option = click.option("--project", metavar="NAME", help="Project, instead of the linked one.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def git() -> None:
    """Have a project follow a repository: pushes and pull requests deploy, the git host hears how it went."""


@git.command()
@click.argument("git_url", required=False)
@click.option("--host", default="github", metavar="KIND", help="Kind of git host: github, gitlab, gitea, bitbucket.")
@click.option("--host-token", "takes_token", is_flag=True, help="Read a token for the host's API from standard input.")
@click.option("--account", metavar="NAME", help="User name that the host's API takes beside the token.")
@click.option("--repository", metavar="NAME", help="What the host calls it, where its server lies below a path.")
@click.option("--api-url", metavar="URL", help="The host's API, where it isn't at its usual place.")
@click.option("--app", "git_app_id", metavar="ID", help="Follow it by an App: see `vclone git app`.")
@click.option("--new-secret", is_flag=True, help="Make a new secret for the webhook.")
@project_option
@json_option
@platform_options
def connect(git_url: str | None, project: str | None, takes_token: bool, as_json: bool, **options: Any) -> None:
    """Have the project follow the repository at GIT_URL, else its own; print the webhook's address and secret."""
    names = ("host", "repository", "account", "api_url", "git_app_id", "new_secret")
    given = {name: value for name in names if (value := options.pop(name))}
    body = {**given, **({"git_url": git_url} if git_url else {}), **({"token": _read_token()} if takes_token else {})}

    async def put(api: ApiClient) -> Mapping[str, Any]:
        made: Mapping[str, Any] = await api.put(f"{_path(project)}", body)
        return made

    made = call_api(options, put)
    if as_json:
        print_json(made)
        return
    say(f"The project follows {made['repository']} on {made['host']}.")
    if made["git_app_id"]:
        say("Its App tells of pushes; install it for the repository at the host.")
        return
    say("Make a webhook at the host, for pushes and pull requests, with the content type application/json:")
    click.echo(f"URL     {made['webhook_url']}")
    if made["secret"]:
        click.echo(f"Secret  {made['secret']}")
        say("The secret is not shown again.")
    else:
        say("Its secret goes on; `--new-secret` makes another one.")


@git.command()
@project_option
@json_option
@platform_options
def disconnect(project: str | None, *, as_json: bool, **options: Options) -> None:
    """Have the project follow no repository any more; its deployments stay."""
    name = project or this_project()

    async def remove(api: ApiClient) -> None:
        await api.delete(_path(name))

    call_api(options, remove)
    words = "The project follows no repository any more. Remove the webhook at the host too."
    say_outcome({"disconnected": name}, words, as_json=as_json)


@git.command()
@project_option
@json_option
@platform_options
def show(project: str | None, as_json: bool, **options: Options) -> None:
    """Show which repository the project follows."""
    found = _fetch(_path(project), options)
    if as_json:
        print_json(found)
        return
    for name in ("repository", "host", "api_url", "git_app_id", "webhook_url"):
        if found[name]:
            click.echo(f"{name.replace('_', ' '):12} {found[name]}")


@git.command()
@project_option
@json_option
@platform_options
def deliveries(project: str | None, as_json: bool, **options: Options) -> None:
    """List what the host has told of late, and what came of it."""
    found = _fetch(f"{_path(project)}/deliveries", options)
    if as_json:
        print_json(found)
        return
    now = datetime.now(UTC)
    rows = [
        [
            str(one["number"]),
            format_age(one["received_at"], now),
            one["event"],
            one["ref"] or "",
            one["outcome"] or one["state"],
            one["deployment_id"] or one["detail"],
        ]
        for one in found["items"]
    ]
    _print(["NUMBER", "AGE", "EVENT", "BRANCH", "OUTCOME", "DETAIL"], rows, "Nothing has arrived yet.")


@git.command()
@click.argument("number", type=int)
@project_option
@json_option
@platform_options
def redeliver(number: int, project: str | None, *, as_json: bool, **options: Options) -> None:
    """Handle the delivery NUMBER once more."""
    repeated = _post(f"{_path(project)}/deliveries/{number}/repeat", {}, options)
    say_outcome(repeated, f"{number} is handled again.", as_json=as_json)


@git.command()
@click.option("--again", is_flag=True, help="Tell again what was refused.")
@project_option
@json_option
@platform_options
def reports(again: bool, project: str | None, as_json: bool, **options: Options) -> None:
    """List what the host was told of late (statuses, entries, comments), and what it refused."""
    if again:
        repeated = _post(f"{_path(project)}/reports/repeat", {}, options)["repeated"]
        say(f"{repeated} are told again.")
        return
    found = _fetch(f"{_path(project)}/reports", options)
    if as_json:
        print_json(found)
        return
    now = datetime.now(UTC)
    rows = [
        [format_age(one["updated_at"], now), one["part"], one["subject"][:24], one["state"], one["problem"]]
        for one in found["items"]
    ]
    _print(["AGE", "PART", "OF", "STATE", "PROBLEM"], rows, "The host was told nothing yet.")


@git.command()
@project_option
@json_option
@platform_options
def pulls(project: str | None, as_json: bool, **options: Options) -> None:
    """List the open pull requests, and which wait for an approval."""

    async def fetch(api: ApiClient) -> Mapping[str, Any]:
        listed: Mapping[str, Any] = await api.get_all(f"{_path(project)}/pull-requests")
        return listed

    found = call_api(options, fetch)
    if as_json:
        print_json(found)
        return
    rows = [
        [
            str(one["number"]),
            f"{one['head_repository']}:{one['head_ref']}" if one["is_fork"] else one["head_ref"],
            one["head_sha"][:12],
            "waits for an approval" if one["waits_for_approval"] else "",
            one["title"][:60],
        ]
        for one in found["items"]
    ]
    _print(["NUMBER", "FROM", "COMMIT", "", "TITLE"], rows, "No pull request is open.")


@git.command()
@click.argument("number", type=int)
@click.argument("sha")
@project_option
@json_option
@platform_options
def approve(number: int, sha: str, project: str | None, as_json: bool, **options: Options) -> None:
    """Deploy the commit SHA of pull request NUMBER, which comes from another repository and somebody has looked at."""

    async def post(api: ApiClient) -> Mapping[str, Any]:
        path = f"{_path(project)}/pull-requests"
        listed = (await api.get_all(path))["items"]
        found = next((one for one in listed if one["number"] == number), None)
        if found is None or len(sha) < 7 or not found["head_sha"].startswith(sha):
            raise Conflict(what=f"{sha} is not the newest commit of an open pull request {number}")
        made: Mapping[str, Any] = await api.post(f"{path}/{number}/approve", {"sha": found["head_sha"]})
        return made

    made = call_api(options, post)
    if as_json:
        print_json(made)
        return
    say(f"{made['id']} is built without the project's secrets.")
    click.echo(made["url"])


@git.command("app")
@json_option
@platform_options
def make_app(*, as_json: bool, **options: Options) -> None:
    """Print the page on which GitHub Apps are made and listed."""
    address = find_platform(api=options["api"], token=options["token"], data_dir=options["data_dir"])
    say("Make the App in a browser that is signed in to the dashboard, then `vclone git connect --app ID`:")
    url = f"{address.api_url.rstrip('/')}/git-apps"
    print_outcome({"url": url}, url, as_json=as_json)


def _path(project: str | None) -> str:
    return f"/api/projects/{project or this_project()}/git"


def _fetch(path: str, options: Mapping[str, Options]) -> Mapping[str, Any]:
    async def fetch(api: ApiClient) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await api.get(path)
        return found

    return call_api(options, fetch)


def _post(path: str, body: Mapping[str, Any], options: Mapping[str, Options]) -> Mapping[str, Any]:
    async def post(api: ApiClient) -> Mapping[str, Any]:
        made: Mapping[str, Any] = await api.post(path, body)
        return made

    return call_api(options, post)


def _print(header: Sequence[str], rows: Sequence[Sequence[str]], otherwise: str) -> None:
    if rows:
        click.echo(format_table(header, rows))
    else:
        say(otherwise)


def _read_token() -> str:
    token: str = click.prompt("Token", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.read()
    if not token.strip():
        raise Invalid(what="there is no token on standard input")
    return token.strip()
