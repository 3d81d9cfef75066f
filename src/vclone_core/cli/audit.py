"""`vclone audit`: what was changed in the team, by whom; exported, and checked for gaps and forgeries."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import json_option, platform_options
from vclone_core.cli.render import format_age, format_table, print_json, print_outcome
from vclone_core.errors import Conflict, Invalid
from vclone_core.rules.audit import FIRST, find_break


@click.group()
def audit() -> None:
    """The team's audit log: every change, by whom, from where."""


@audit.command("ls")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="How many to list.")
@click.option("--action", help="Only changes of this kind, such as promote_deployment.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def list_entries(limit: int, action: str | None, as_json: bool, **options: str | None) -> None:
    """List what was changed, newest first."""
    answer = call_api(options, lambda api: api.get("/api/audit", limit=limit, action=action))
    if as_json:
        print_json(answer)
        return
    now = datetime.now(UTC)
    rows = [
        [format_age(it["at"], now), it["actor_id"] or "", it["action"], it["subject"], it["address"]]
        for it in answer["items"]
    ]
    click.echo(format_table(["AGE", "WHO", "WHAT", "ON", "FROM"], rows))


@audit.command("export")
@click.option("--format", "kind", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Write there.  [stdout]")
@platform_options
def export(kind: str, output: Path | None, **options: str | None) -> None:
    """Write the whole log, oldest first, as JSON lines or CSV. `vclone audit verify` checks the former."""

    async def run(api: ApiClient) -> bytes:
        return b"".join([line async for line in api.lines("/api/audit/export", format=kind)])

    data = call_api(options, run)
    if output is None:
        sys.stdout.buffer.write(data)
        return
    draft = output.with_name(f".{output.name}.part")
    draft.write_bytes(data)
    draft.replace(output)
    click.echo(f"{data.count(bytes([10])) - (kind == 'csv')} entries in {output}", err=True)


@audit.command("verify")
@click.argument("file", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@json_option
@platform_options
def verify(file: Path | None, *, as_json: bool, **options: str | None) -> None:
    """Check that no entry was changed, taken out or put in: of FILE, an export in JSON lines, or of the live log.

    Prints the last hash. Kept elsewhere, it shows later that the end wasn't cut off either.
    """
    if file is not None:
        lines: Iterable[bytes] = file.read_bytes().splitlines()
    else:

        async def run(api: ApiClient) -> list[bytes]:
            return [line async for line in api.lines("/api/audit/export", format="jsonl")]

        lines = call_api(options, run)
    entries = list(read_entries(lines))
    try:
        count, broken = find_break(entries)
    except (KeyError, TypeError) as error:
        raise Invalid(what=f"an entry lacks {error}") from error
    if broken is not None:
        raise Conflict(
            what=f"entry {broken['number']} of {broken['at']} does not fit the one before it ({count} hold)",
            hint="It, or one before it, was changed, taken out or put in after it was written.",
        )
    start = "" if not entries or entries[0]["previous_hash"] == FIRST else ", from the middle of the log on"
    last = entries[-1]["hash"] if entries else FIRST
    print_outcome(
        {"entries": count, "last_hash": last, "is_whole": not start},
        f"{count} entries hold{start}. The last hash is {last}",
        as_json=as_json,
    )


def read_entries(lines: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
    """Yield the entries of an export in JSON lines; raise `Invalid` for what is none."""
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise Invalid(what=f"line {number} is not JSON", hint="Export with --format jsonl.") from error
        if not isinstance(entry, dict):
            raise Invalid(what=f"line {number} is no entry")
        yield entry
