"""`vclone webhooks`: addresses that are told of a team's deployments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import json_option, platform_options
from vclone_core.cli.progress import say
from vclone_core.cli.render import format_age, format_table, print_json, say_outcome
from vclone_core.cli.teams import in_team
from vclone_core.rules.outgoing import EVENTS

EVENT = click.Choice(EVENTS)


@click.group()
def webhooks() -> None:
    """Make, list, try and remove webhooks: addresses that are told of the team's deployments."""


@webhooks.command()
@click.argument("url")
@click.option("--event", "events", type=EVENT, multiple=True, help="What it is told of; may be given again.  [all]")
@click.option("--project", metavar="NAME", help="Tell it of this project alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def create(url: str, events: tuple[str, ...], project: str | None, as_json: bool, **options: str | None) -> None:
    """Have URL told of the team's deployments; prints the secret of its signatures, this once."""
    body = {"url": url, "events": list(events or EVENTS), "project": project}
    made = call_api(options, in_team(lambda api, team: api.post(f"/api/teams/{team}/webhooks", body)))
    if as_json:
        print_json(made)
        return
    say(f"{made['id']} is told of {', '.join(made['events'])}. Its deliveries are signed with this secret:")
    click.echo(made["secret"])


@webhooks.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def list_webhooks(as_json: bool, **options: str | None) -> None:
    """List the team's webhooks."""
    answer = call_api(options, in_team(lambda api, team: api.get_all(f"/api/teams/{team}/webhooks")))
    if as_json:
        print_json(answer)
        return
    rows = [[one["id"], one["url"], ",".join(one["events"]), describe(one)] for one in answer["items"]]
    if rows:
        click.echo(format_table(["WEBHOOK", "URL", "EVENTS", "STATE"], rows))
    else:
        say("There is no webhook: `vclone webhooks create URL` makes one.")


@webhooks.command()
@click.argument("webhook")
@json_option
@platform_options
def rm(webhook: str, *, as_json: bool, **options: str | None) -> None:
    """Remove WEBHOOK, with the log of its deliveries."""
    call_api(options, in_team(lambda api, team: api.delete(f"/api/teams/{team}/webhooks/{webhook}")))
    say_outcome({"removed": webhook}, f"Removed {webhook}.", as_json=as_json)


@webhooks.command()
@click.argument("webhook")
@json_option
@platform_options
def enable(webhook: str, *, as_json: bool, **options: str | None) -> None:
    """Switch WEBHOOK on: it is told of what happens from now on."""
    say_outcome(switch(webhook, options, is_enabled=True), f"{webhook} is on.", as_json=as_json)


@webhooks.command()
@click.argument("webhook")
@json_option
@platform_options
def disable(webhook: str, *, as_json: bool, **options: str | None) -> None:
    """Switch WEBHOOK off; what it was still to be told is dropped."""
    say_outcome(switch(webhook, options, is_enabled=False), f"{webhook} is off.", as_json=as_json)


@webhooks.command()
@click.argument("webhook")
@json_option
@platform_options
def ping(webhook: str, *, as_json: bool, **options: str | None) -> None:
    """Send WEBHOOK an event that means nothing; `vclone webhooks deliveries` shows whether it arrived."""
    made = call_api(options, in_team(lambda api, team: api.post(f"/api/teams/{team}/webhooks/{webhook}/ping")))
    say_outcome(made, f"Delivery {made['id']} is on its way.", as_json=as_json)


@webhooks.command()
@click.argument("webhook")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def deliveries(webhook: str, limit: int, as_json: bool, **options: str | None) -> None:
    """List what WEBHOOK was sent, newest first."""
    fetch = in_team(lambda api, team: api.get(f"/api/teams/{team}/webhooks/{webhook}/deliveries", limit=limit))
    answer = call_api(options, fetch)
    if as_json:
        print_json(answer)
        return
    now = datetime.now(UTC)
    rows = [
        [
            one["id"],
            format_age(one["created_at"], now),
            one["type"],
            one["state"],
            str(len(one["tries"])),
            tell_last(one),
        ]
        for one in answer["items"]
    ]
    click.echo(format_table(["DELIVERY", "AGE", "EVENT", "STATE", "TRIES", "LAST ANSWER"], rows))


@webhooks.command()
@click.argument("webhook")
@click.argument("delivery")
@json_option
@platform_options
def redeliver(webhook: str, delivery: str, *, as_json: bool, **options: str | None) -> None:
    """Send WEBHOOK the event of DELIVERY again."""

    async def again(api: ApiClient, team: str) -> Mapping[str, Any]:
        path = f"/api/teams/{team}/webhooks/{webhook}/deliveries/{delivery}/redeliver"
        made: Mapping[str, Any] = await api.post(path)
        return made

    made = call_api(options, in_team(again))
    say_outcome(made, f"Delivery {made['id']} is on its way.", as_json=as_json)


def switch(webhook: str, options: Mapping[str, str | None], *, is_enabled: bool) -> Mapping[str, Any]:
    body = {"is_enabled": is_enabled}

    async def change(api: ApiClient, team: str) -> Mapping[str, Any]:
        changed: Mapping[str, Any] = await api.patch(f"/api/teams/{team}/webhooks/{webhook}", body)
        return changed

    changed: Mapping[str, Any] = call_api(options, in_team(change))
    return changed


def describe(webhook: Mapping[str, Any]) -> str:
    """Return how a webhook fares, in a few words."""
    if not webhook["is_enabled"]:
        return f"off: {webhook['disabled_reason']}"
    return f"failing since {webhook['failing_since'][:16]}Z" if webhook["failing_since"] else "on"


def tell_last(delivery: Mapping[str, Any]) -> str:
    """Return what the last try came to."""
    if not delivery["tries"]:
        return ""
    last = delivery["tries"][-1]
    return " ".join(str(part) for part in (last["status"], last["problem"]) if part is not None)
