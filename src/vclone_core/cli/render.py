"""How commands show deployments, receipts and tables: data on stdout, words for the person on stderr."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from vclone_core.cli.progress import say
from vclone_core.errors import Conflict
from vclone_core.models import State
from vclone_core.renderings import parse_problem

_COLOURS = {
    State.QUEUED: "yellow",
    State.BUILDING: "yellow",
    State.READY: "green",
    State.FAILED: "red",
    State.CANCELLED: "bright_black",
    State.SKIPPED: "bright_black",
}


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def format_line(line: Mapping[str, Any]) -> str:
    """Return a log line after the step it belongs to; the platform's own lines stand out by colour."""
    step = click.style(f"{line['step']:>8}", fg="cyan" if line["stream"] == "platform" else "bright_black")
    return f"{step}  {line['text']}"


def print_line(line: Mapping[str, Any]) -> None:
    """Print a log line for the person."""
    say(format_line(line))


def print_state(deployment: Mapping[str, Any]) -> None:
    """Print that a deployment came into a state, and what it waits for."""
    text = style_state(deployment["state"])
    if deployment["state"] == State.QUEUED and deployment.get("queue_position"):
        text += f", number {deployment['queue_position']} in the queue"
    say(f"{'state':>8}  {text}")


def print_receipts(answer: Mapping[str, Any]) -> None:
    """Print where a project points now, and which edges have switched after how long."""
    deployment = answer["deployment"]
    say(f"{deployment['project']} shows {deployment['id']}: {deployment.get('production_url') or deployment['url']}")
    print_edges(answer["receipts"])


def print_outcome(outcome: Mapping[str, Any], words: str, *, as_json: bool) -> None:
    """Print what a command has done: as words for a person, or as JSON for a program."""
    if as_json:
        print_json(outcome)
    else:
        click.echo(words)


def say_outcome(outcome: Mapping[str, Any], words: str, *, as_json: bool) -> None:
    """Say what a command has done, where a person has no use for it as data; print it as JSON for a program."""
    if as_json:
        print_json(outcome)
    say(words)


def print_edges(receipts: Sequence[Mapping[str, Any]]) -> None:
    """Print which edges have put a change into effect, after how long."""
    for receipt in receipts:
        after_ms = receipt["after_ms"]
        outcome = "has not answered yet" if after_ms is None else f"switched after {after_ms:.0f} ms"
        say(f"  edge {receipt['edge_id']} {outcome}")
    if not receipts:
        say("  No edge is connected: each asks again when it is back.")


def style_state(state: str) -> str:
    """Return a state in its colour, where the output has colours."""
    return click.style(state, fg=_COLOURS.get(State(state)) if state in set(State) else None)


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows under a header, in columns as wide as their widest cell.

    >>> print(format_table(["A", "B"], [["one", "2"]]))
    A    B
    one  2
    """
    table = [header, *rows]
    widths = [max(len(click.unstyle(row[column])) for row in table) for column in range(len(header))]
    lines = []
    for row in table:
        cells = [cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def format_age(since: str, now: datetime) -> str:
    """Return how long ago an ISO time was, in its largest unit.

    >>> format_age("2026-01-01T00:00:00+00:00", datetime.fromisoformat("2026-01-01T02:03:00+00:00"))
    '2h'
    """
    seconds = max((now - datetime.fromisoformat(since)).total_seconds(), 0)
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds:.0f}s"


def raise_unless_ready(deployment: Mapping[str, Any]) -> None:
    """Raise the error a deployment ended with, so that the command's exit code says it."""
    if deployment["state"] == State.FAILED:
        raise parse_problem(deployment.get("failure") or {"code": "step_failed", "title": "The build failed."})
    if deployment["state"] == State.CANCELLED:
        raise Conflict(what=f"the deployment {deployment['id']} was cancelled")
