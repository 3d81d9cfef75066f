"""Commands that look: `vclone ls`, `vclone inspect`, `vclone open`; and how a command's words name a deployment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import json_option, platform_options
from vclone_core.cli.link import name_project, read_link
from vclone_core.cli.progress import format_size
from vclone_core.cli.render import format_age, format_table, print_json, print_outcome, style_state
from vclone_core.errors import NotFound

SEARCHED_PAGES: Final = 10
PAGE: Final = 100


@click.command()
@click.argument("project", required=False)
@click.option("--all", "-a", "of_all", is_flag=True, help="List the deployments of every project.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, PAGE), help="How many to list.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def ls(project: str | None, of_all: bool, limit: int, as_json: bool, **options: str | None) -> None:
    """List deployments, newest first: of PROJECT, of the linked project, or of all."""
    name = None if of_all else project or read_link(Path())

    async def fetch(api: ApiClient) -> Any:
        return await api.get("/api/deployments", project=name, limit=limit)

    answer = call_api(options, fetch)
    if as_json:
        print_json(answer)
        return
    now = datetime.now(UTC)
    rows = [
        [
            format_age(one["created_at"], now),
            one["project"],
            style_state(one["state"]),
            one["target"],
            format_seconds(one),
            one["id"],
            one["url"] or "",
        ]
        for one in answer["items"]
    ]
    if rows:
        click.echo(format_table(["AGE", "PROJECT", "STATE", "TARGET", "BUILD", "DEPLOYMENT", "URL"], rows))
    else:
        click.echo("Nothing is deployed yet: `vclone deploy FOLDER` does it.", err=True)


@click.command()
@click.argument("deployment")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def inspect(deployment: str, as_json: bool, **options: str | None) -> None:
    """Show one deployment: an id, its URL, or a project's name for its newest."""

    async def fetch(api: ApiClient) -> Mapping[str, Any]:
        return await find_deployment(api, deployment)

    found = call_api(options, fetch)
    if as_json:
        print_json(found)
    else:
        click.echo(describe(found))


@click.command()
@click.argument("name", required=False, metavar="[PROJECT|DEPLOYMENT]")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@json_option
@platform_options
def open_url(name: str | None, *, no_browser: bool, as_json: bool, **options: str | None) -> None:
    """Print the address of a project or a deployment, and open it in a browser where there is one."""
    wanted = name or read_link(Path()) or name_project(Path())

    async def fetch(api: ApiClient) -> str | None:
        if is_deployment(wanted):
            found = await find_deployment(api, wanted)
            url: str | None = found["url"]
        else:
            url = (await api.get(f"/api/projects/{wanted}"))["production_url"]
        return url

    url = call_api(options, fetch)
    if url is None:
        raise NotFound(what="address: this deployment is not ready")
    print_outcome({"url": url}, url, as_json=as_json)
    if not no_browser and not as_json:
        click.launch(url)


def is_deployment(text: str) -> bool:
    """Say whether a command's word names a deployment, by id or by host, rather than a project."""
    return text.startswith("dep_") or "." in text or "://" in text


async def find_deployment(api: ApiClient, text: str) -> Mapping[str, Any]:
    """Return the deployment that `text` names: an id, a URL or host that shows it, or a project (its newest)."""
    if text.startswith("dep_"):
        found: Mapping[str, Any] = await api.get(f"/api/deployments/{text}")
        return found
    if not is_deployment(text):
        newest = (await api.get("/api/deployments", project=text, limit=1))["items"]
        if not newest:
            raise NotFound(what=f"deployment of the project {text}")
        return await find_deployment(api, newest[0]["id"])
    host = urlsplit(text if "://" in text else f"//{text}").hostname or ""
    cursor = None
    for _ in range(SEARCHED_PAGES):
        page = await api.get("/api/deployments", limit=PAGE, cursor=cursor)
        for one in page["items"]:
            if host in one["aliases"]:
                return await find_deployment(api, one["id"])
        if (cursor := page["next_cursor"]) is None:
            break
    raise NotFound(what=f"deployment at {host}", hint="`vclone ls` shows the ids: name it by its id.")


def describe(deployment: Mapping[str, Any]) -> str:
    """Return a deployment's facts, one a line, without those that are not known."""
    source = deployment["source"]
    origin = [source["kind"], source.get("url"), source.get("ref"), (source.get("sha") or "")[:12]]
    facts = {
        "deployment": deployment["id"],
        "project": deployment["project"],
        "state": style_state(deployment["state"]),
        "target": deployment["target"],
        "url": deployment["url"],
        "production": deployment["production_url"],
        "source": " ".join(part for part in origin if part),
        "commit": source.get("message"),
        "asked by": None if deployment.get("trigger") in (None, "request") else deployment["trigger"],
        "reason": deployment.get("reason"),
        "framework": deployment["framework"],
        "files": describe_size(deployment),
        "created": deployment["created_at"],
        "build": format_seconds(deployment),
        "steps": "  ".join(f"{step} {seconds:.1f} s" for step, seconds in deployment["step_seconds"].items()),
    }
    if failure := deployment["failure"]:
        facts |= {"failed in": failure["step"], "error": failure["sentence"], "hint": failure["advice"]}
    lines = [f"{name:<11} {fact}" for name, fact in facts.items() if fact]
    return "\n".join(lines + [f"{'alias':<11} {host}" for host in deployment["aliases"]])


def describe_size(deployment: Mapping[str, Any]) -> str | None:
    """Return how many files a deployment has, and their size; None while that is not known."""
    if deployment["file_count"] is None or deployment["size_bytes"] is None:
        return None
    return f"{deployment['file_count']} ({format_size(deployment['size_bytes'])})"


def format_seconds(deployment: Mapping[str, Any]) -> str:
    """Return how long a finished build took; empty before."""
    if not deployment["started_at"] or not deployment["finished_at"]:
        return ""
    started, finished = (datetime.fromisoformat(deployment[key]) for key in ("started_at", "finished_at"))
    return f"{(finished - started).total_seconds():.1f} s"
