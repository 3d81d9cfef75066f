"""`vclone keys`: the keys that secrets in the database are sealed with, changed while the platform runs."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vclone_core.cli.context import default_data_dir, json_option
from vclone_core.cli.progress import say
from vclone_core.cli.render import format_table, print_json, print_outcome, say_outcome
from vclone_core.errors import Conflict, Unavailable

if TYPE_CHECKING:
    from vclone_core.actions.keys import Rotation
    from vclone_core.rules.sealing import KeyRing
    from vclone_core.settings import Settings
    from vclone_core.stores.postgres import Database

Result = TypeVar("Result")

data_dir_option = click.option(
    "--data-dir", envvar="VCLONE_DATA_DIR", type=click.Path(path_type=Path), help="Data folder of `vclone up`."
)


@click.group()
def keys() -> None:
    """List and change the keys that secrets in the database are sealed with."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The ring, and how many values each of its keys has sealed; of keys that aren't in it, too."""

    ring: KeyRing
    counted: Counter[str]


@keys.command("ls")
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_keys(data_dir: Path | None, as_json: bool) -> None:
    """List the keys by name, and how many values each has sealed."""
    usage = with_database(find_settings(data_dir), read_usage)
    names = list(dict.fromkeys((*usage.ring.keys, *usage.counted)))
    rows = [(name, usage.counted[name], state_of(usage.ring, name)) for name in names]
    if as_json:
        print_json({"items": [{"key": name, "values": count, "state": state} for name, count, state in rows]})
        return
    click.echo(format_table(["KEY", "VALUES", "STATE"], [[name, str(count), state] for name, count, state in rows]))


@keys.command()
@json_option
def new(*, as_json: bool) -> None:
    """Print a new key for VCLONE_ENCRYPTION_KEYS. It is kept nowhere else."""
    made = new_key()
    print_outcome({"key": made}, made, as_json=as_json)


@keys.command()
@data_dir_option
@json_option
def rotate(data_dir: Path | None, *, as_json: bool) -> None:
    """Seal every secret in the database with a new key, while the platform goes on.

    The key is added to the file that VCLONE_SECRETS_PATH names, or to that of `vclone up`. Where the keys come from
    VCLONE_ENCRYPTION_KEYS, the first of them counts as the new one.
    """
    settings = find_settings(data_dir)
    if settings.secrets_path is not None:
        added = add_key(settings.secrets_path, settings)
        say(f"{added} is in {settings.secrets_path}: keep a backup of it.")
    done = with_database(settings, seal_all)
    say(f"Sealed {done.sealed} values anew.")
    if done.unreadable:
        raise Conflict(
            what=f"{len(done.unreadable)} values are sealed with a key that is not in the ring, or were changed",
            hint=f"Bring that key back, or set them anew: {', '.join(done.unreadable[:10])}.",
        )
    if as_json:
        print_json({"sealed": done.sealed})
    say("`vclone keys prune` drops the keys that nothing is sealed with any more.")


@keys.command()
@data_dir_option
@json_option
def prune(data_dir: Path | None, *, as_json: bool) -> None:
    """Drop the keys that nothing is sealed with from the file of keys."""
    settings = find_settings(data_dir)
    if settings.secrets_path is None:
        raise Conflict(
            what="the keys are in VCLONE_ENCRYPTION_KEYS",
            hint="`vclone keys ls` says which of them can be taken out there.",
        )
    usage = with_database(settings, read_usage)
    dropped = drop_keys(settings.secrets_path, keep={usage.ring.current, *usage.counted})
    words = f"Dropped {', '.join(dropped)}." if dropped else "Every key is in use."
    say_outcome({"dropped": dropped}, words, as_json=as_json)


def find_settings(data_dir: Path | None) -> Settings:
    """Return the settings of the environment, or those of the platform that `vclone up` runs on this machine."""
    from vclone_core.embedded.datadir import read_json
    from vclone_core.embedded.postgres import find_url
    from vclone_core.settings import load_settings

    settings = load_settings(os.environ)
    folder = (data_dir or default_data_dir(os.environ)).absolute()
    facts: dict[str, Any] = {}
    if not settings.database_url.get_secret_value():
        run = read_json(folder / "run.json") or {}
        facts["database_url"] = find_url(Path(run.get("run_dir", "")))
        if facts["database_url"] is None:
            raise Unavailable(
                sentence=f"There is no running platform in {folder}.",
                hint="Start it with `vclone up`, name its --data-dir, or set VCLONE_DATABASE_URL.",
            )
    kept = read_json(folder / "secrets.json")
    if kept is not None and not settings.secret_key.get_secret_value():
        facts |= {"secret_key": kept["secret_key"], "secrets_path": settings.secrets_path or folder / "secrets.json"}
    return load_settings(os.environ, **facts)


def add_key(path: Path, settings: Settings) -> str:
    """Put a new key in front of those in the file, and return its name."""
    from vclone_core.actions.keys import ring_of
    from vclone_core.embedded.datadir import read_json, write_private

    ring_of(settings)  # a file that can't be read is not written over
    kept = read_json(path) or {}
    made = new_key()
    present = kept.get("encryption_keys") or settings.encryption_keys.get_secret_value()
    write_private(path, {**kept, "encryption_keys": ",".join(filter(None, (made, present)))})
    return made.partition(":")[0]


def drop_keys(path: Path, *, keep: set[str]) -> list[str]:
    """Take the keys that aren't to be kept out of the file; return their names."""
    from vclone_core.embedded.datadir import read_json, write_private

    kept = read_json(path) or {}
    listed = [item for item in str(kept.get("encryption_keys") or "").split(",") if item]
    dropped = [item.partition(":")[0] for item in listed if item.partition(":")[0] not in keep]
    if dropped:
        left = [item for item in listed if item.partition(":")[0] in keep]
        write_private(path, {**kept, "encryption_keys": ",".join(left)})
    return dropped


def new_key() -> str:
    """Return a new key, `ID:BASE64`: called by the day, and four digits for the second one of a day."""
    name = f"k{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(2)}"
    return f"{name}:{base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b'=').decode()}"


def state_of(ring: KeyRing, name: str) -> str:
    """Return what a key is for, in a word."""
    if name == ring.current:
        return "seals"
    return "opens" if name in ring.keys else "missing"


async def read_usage(db: Database, ring: KeyRing) -> Usage:
    """Return the ring and what its keys have sealed."""
    from vclone_core.actions.keys import count_by_key

    return Usage(ring, await count_by_key(db))


async def seal_all(db: Database, ring: KeyRing) -> Rotation:
    """Seal everything with the ring's first key."""
    from vclone_core.actions.keys import seal_anew

    return await seal_anew(db, ring)


def with_database(settings: Settings, action: Callable[[Database, KeyRing], Awaitable[Result]]) -> Result:
    """Run `action` on the database that the settings name, with the keys as they are now."""
    from vclone_core.actions.keys import ring_of
    from vclone_core.stores.postgres import Database

    ring = ring_of(settings)

    async def run() -> Result:
        db = await Database.connect(settings.database_url.get_secret_value(), max_size=2)
        try:
            return await action(db, ring)
        finally:
            await db.close()

    return asyncio.run(run())
