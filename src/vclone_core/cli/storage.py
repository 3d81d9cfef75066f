"""Commands about what is kept: `vclone gc`, `pin`, `unpin` and `retention`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import platform_options
from vclone_core.cli.progress import format_size, say
from vclone_core.cli.projects import find_deployment
from vclone_core.cli.render import print_json

COLLECTION_S: Final = 3600.0
PAGE: Final = 100
RULES: Final = ("preview_days", "preview_count", "production_days", "production_count")


@click.command()
@click.argument("project", required=False)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def gc(project: str | None, dry_run: bool, as_json: bool, **options: str | None) -> None:
    """Remove deployments that retention lets go, and free storage that nothing needs: of PROJECT, or of all."""

    async def run(api: ApiClient) -> list[Mapping[str, Any]]:
        done = []
        for name in [project] if project else await list_names(api):
            one = await api.post(f"/api/projects/{name}/collect", {"dry_run": dry_run}, answer_s=COLLECTION_S)
            done.append(one)
            if not as_json:
                print_collected(one)
        return done

    done = call_api(options, run)
    total = sum(one["bytes"] for one in done)
    if as_json:
        print_json({"items": done, "bytes": total, "is_dry_run": dry_run})
    else:
        say(f"{format_size(total)} {'would be' if dry_run else 'were'} freed.")


@click.command()
@click.argument("deployment")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def pin(deployment: str, as_json: bool, **options: str | None) -> None:
    """Keep a deployment, whatever its project's retention says."""
    print_pinned(call_api(options, lambda api: set_pin(api, deployment, "pin")), as_json=as_json)


@click.command()
@click.argument("deployment")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def unpin(deployment: str, as_json: bool, **options: str | None) -> None:
    """Let retention decide about a deployment again."""
    print_pinned(call_api(options, lambda api: set_pin(api, deployment, "unpin")), as_json=as_json)


@click.command()
@click.argument("project")
@click.option("--preview-days", type=click.IntRange(1), help="Days that previews are kept.")
@click.option("--preview-count", type=click.IntRange(1), help="How many previews are kept.")
@click.option("--production-days", type=click.IntRange(1), help="Days that old production deployments are kept.")
@click.option("--production-count", type=click.IntRange(1), help="How many of them are kept at any age.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def retention(project: str, as_json: bool, **options: Any) -> None:
    """Show how long PROJECT's deployments are kept, and how many; change what is given."""
    changes = {name: value for name in RULES if (value := options.pop(name)) is not None}

    async def run(api: ApiClient) -> Mapping[str, Any]:
        path = f"/api/projects/{project}/retention"
        answer: Mapping[str, Any] = await (api.post(path, changes, method="PATCH") if changes else api.get(path))
        return answer

    rules = call_api(options, run)
    if as_json:
        print_json(rules)
    else:
        for name in RULES:
            click.echo(f"{name.replace('_', ' '):<17} {rules[name]}")


async def list_names(api: ApiClient) -> list[str]:
    """Return the names of the team's projects."""
    return [one["name"] for one in (await api.get_all("/api/projects", limit=PAGE))["items"]]


async def set_pin(api: ApiClient, deployment: str, what: str) -> Mapping[str, Any]:
    """Pin or unpin what a command's word names."""
    found = await find_deployment(api, deployment)
    changed: Mapping[str, Any] = await api.post(f"/api/deployments/{found['id']}/{what}")
    return changed


def print_pinned(deployment: Mapping[str, Any], *, as_json: bool) -> None:
    """Print whether a deployment is pinned."""
    if as_json:
        print_json(deployment)
    else:
        click.echo(f"{deployment['id']} is {'pinned' if deployment['is_pinned'] else 'not pinned'}.")


def print_collected(one: Mapping[str, Any]) -> None:
    """Print what of a project went, or would go; nothing for a project that keeps everything."""
    verb = "would remove" if one["is_dry_run"] else "removed"
    for removal in one["deployments"]:
        click.echo(f"{one['project']}: {verb} {removal['id']} ({removal['reason']})")
    if one["objects"]:
        click.echo(f"{one['project']}: {verb} {one['objects']:,} objects, {format_size(one['bytes'])}")
    if one["problem"]:
        say(f"{one['project']}: storage is left as it is: {one['problem']}")
