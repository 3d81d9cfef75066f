"""`vclone queue`: what of the team is being built, what waits, since when and for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import platform_options
from vclone_core.cli.progress import say
from vclone_core.cli.render import format_age, format_table, print_json

LIMIT: Final = 100


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def queue(as_json: bool, **options: str | None) -> None:
    """Show the builds that run and those that wait, with their places and reasons."""

    async def fetch(api: ApiClient) -> Mapping[str, Any]:
        building = await api.get(f"/api/deployments?state=building&limit={LIMIT}")
        queued = await api.get(f"/api/deployments?state=queued&limit={LIMIT}")
        return summarise(building["items"], queued["items"], now=datetime.now(UTC))

    found = call_api(options, fetch)
    if as_json:
        print_json(found)
        return
    now = datetime.now(UTC)
    rows = [
        [one["place"], one["id"], one["project"], one["target"], format_age(one["since"], now), one["why"]]
        for one in found["items"]
    ]
    if rows:
        click.echo(format_table(["PLACE", "DEPLOYMENT", "PROJECT", "TARGET", "SINCE", ""], rows))
    oldest = f"; the oldest has waited {found['oldest_s']:.0f} s" if found["queued"] else ""
    say(f"{found['building']} running, {found['queued']} waiting{oldest}.")


def summarise(
    building: Sequence[Mapping[str, Any]], queued: Sequence[Mapping[str, Any]], *, now: datetime
) -> dict[str, Any]:
    """Return the queue's figures, and its builds in their order: those that run, then those that wait by their places.

    A place is an estimate, and counts the builds of every team.
    """
    running = [
        {**_shape(one), "place": "-", "since": one["started_at"], "why": f"step {one['step'] or 'clone'}"}
        for one in sorted(building, key=lambda one: str(one["started_at"]))
    ]
    waiting = [
        {**_shape(one), "place": str(place), "since": one["created_at"], "why": one["queue_reason"] or ""}
        for place, one in sorted(
            ((one["queue_position"] or 0, one) for one in queued), key=lambda pair: (pair[0], pair[1]["created_at"])
        )
    ]
    waits = [(now - datetime.fromisoformat(one["created_at"])).total_seconds() for one in queued]
    return {
        "building": len(running),
        "queued": len(waiting),
        "oldest_s": round(max(waits, default=0.0), 1),
        "items": running + waiting,
    }


def _shape(one: Mapping[str, Any]) -> dict[str, Any]:
    return {name: one[name] for name in ("id", "project", "target", "state")}
