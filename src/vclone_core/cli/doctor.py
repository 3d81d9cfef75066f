"""`vclone doctor`: looks at everything the platform needs here, and says how to mend what it finds.

One function per check in a table; each returns what it saw. A check never changes anything.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from vclone_core.cli.status import pick_data_dir
from vclone_core.embedded.datadir import NEEDED_BYTES, check_place, nearest_existing
from vclone_core.embedded.ports import check_port
from vclone_core.embedded.runfile import read_status
from vclone_core.errors import BadSettings, VcloneError
from vclone_core.log import configure_log
from vclone_core.settings import Settings, load_settings

LIMIT_S: Final = 15.0
OLDEST_NODE: Final = 20
MARKS: Final = {"ok": "✓", "warning": "!", "error": "✗"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw. `warning`: the platform runs, but something it can do is missing here."""

    level: str
    seen: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """What the checks look at: the settings, the data folder, and what runs on it."""

    settings: Settings
    data_dir: Path
    status: dict[str, Any]

    @property
    def is_running(self) -> bool:
        return bool(self.status["state"] == "running")


Check = Callable[[Place], Awaitable[Finding]]


@click.command()
@click.option("--data-dir", envvar="VCLONE_DATA_DIR", type=click.Path(path_type=Path), help="Data folder to look at.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(data_dir: Path | None, as_json: bool) -> int:
    """Check this machine, and say how to mend what is wrong. Exits 1 when something keeps the platform from running."""
    configure_log(process="doctor", log_level="error")  # a finding says it better than the log does
    findings = asyncio.run(examine(pick_data_dir(data_dir)))
    if as_json:
        rows = [{"check": name, "level": f.level, "seen": f.seen, "mend": f.mend} for name, f in findings]
        click.echo(json.dumps({"ok": all(f.level != "error" for _, f in findings), "checks": rows}, indent=2))
    else:
        width = max(len(name) for name, _ in findings)
        for name, finding in findings:
            click.echo(f"{MARKS[finding.level]} {name:<{width}}  {finding.seen}")
            if finding.mend:
                click.echo(f"  {'':<{width}}  → {finding.mend}")
    return 1 if any(finding.level == "error" for _, finding in findings) else 0


async def examine(data_dir: Path) -> list[tuple[str, Finding]]:
    """Make every check at the same time; return (name, finding) in the table's order."""
    try:
        settings = load_settings(os.environ, data_dir=data_dir)
    except BadSettings as error:
        return [("settings", Finding("error", error.sentence, "Correct or unset these variables."))]
    place = Place(settings, data_dir, read_status(data_dir))
    findings = await asyncio.gather(*(_make(check, place) for check in CHECKS.values()))
    return [("settings", Finding("ok", "can be used")), *zip(CHECKS, findings, strict=True)]


async def _make(check: Check, place: Place) -> Finding:
    try:
        async with asyncio.timeout(LIMIT_S):
            return await check(place)
    except TimeoutError:
        return Finding("error", f"no answer within {LIMIT_S:.0f} s")
    except VcloneError as error:
        return Finding("error", error.sentence, error.advice)


async def check_data_dir(place: Place) -> Finding:
    check_place(place.data_dir, needed_bytes=NEEDED_BYTES)
    free = shutil.disk_usage(nearest_existing(place.data_dir)).free
    return Finding("ok", f"{place.data_dir}, {free / 1024**3:.1f} GiB free")


async def check_ports(place: Place) -> Finding:
    if place.is_running:
        return Finding("ok", f"vclone listens: {place.status['edge']} and {place.status['api']}")
    settings = place.settings
    check_port(settings.edge_host, settings.edge_port, "--port")
    check_port(settings.api_host, settings.api_port, "--api-port")
    return Finding("ok", f"{settings.edge_port} and {settings.api_port} are free")


async def check_names(place: Place) -> Finding:
    """Ask for a name nobody has made: only a wildcard answers it."""
    import dns.asyncresolver
    import dns.exception

    base = place.settings.base_domain
    if base == "localhost" or base.endswith(".localhost"):
        return Finding("ok", f"*.{base} leads to this machine by itself")
    name = f"vclone-{secrets.token_hex(4)}.{base}"
    try:
        answer = await dns.asyncresolver.resolve(name, "A", lifetime=LIMIT_S - 1)
    except dns.exception.DNSException as error:
        mend = f"Add a wildcard record at the DNS of {base}: *.{base} A (this machine's address)."
        return Finding("error", f"*.{base} leads nowhere ({type(error).__name__})", mend)
    return Finding("ok", f"*.{base} leads to {', '.join(sorted(str(item) for item in answer))}")


async def check_database(place: Place) -> Finding:
    url = _url_in_use(place, place.settings.database_url.get_secret_value(), "postgres")
    if url is None:
        return Finding("ok", "embedded; `vclone up` starts it")
    from vclone_core.stores.postgres import Database

    database = await Database.connect(url, max_size=1)
    await database.close()
    return Finding("ok", "answers")


async def check_redis(place: Place) -> Finding:
    url = _url_in_use(place, place.settings.redis_url.get_secret_value(), "valkey")
    if url is None:
        return Finding("ok", "embedded; `vclone up` starts it")
    from vclone_core.stores import redis

    bell = await redis.connect(url)
    try:
        is_there = await bell.publish("doctor", "ping")
    finally:
        await bell.close()
    return Finding("ok", "answers") if is_there else Finding("error", "does not answer", "Check VCLONE_REDIS_URL.")


def _url_in_use(place: Place, chosen: str, name: str) -> str | None:
    """Return the URL of a server of the operator's; None where `up` runs its own, which `status` knows about."""
    if chosen:
        return chosen
    service = place.status["services"].get(name)
    if place.is_running and service is not None and service["state"] != "running":
        raise BadSettings(problems=f"{name} is {service['state']}.", hint=f"Its log: {place.data_dir}/logs/{name}.log")
    return None


async def check_store(place: Place) -> Finding:
    from vclone_core.plugins import load_plugins
    from vclone_core.stores.objects import open_object_store

    url = place.settings.store or f"file://{place.data_dir / 'objects'}"
    if url.startswith("file:"):
        return Finding("ok", f"local folder {url.removeprefix('file://')}")
    plugins = load_plugins(allow=place.settings.plugins, drop_in=place.settings.plugins_dir)
    store = open_object_store(place.settings, plugins)
    try:
        await store.start()
        await store.head("doctor/ping")
    finally:
        await store.close()
    return Finding("ok", "answers")


async def check_runner(place: Place) -> Finding:
    """Let the runner look at this machine: the podman one starts a container as a build's would be."""
    from vclone_core.plugins import load_plugins
    from vclone_core.protocols import BuildRunner, RunnerConfig

    settings = place.settings
    plugins = load_plugins(allow=settings.plugins, drop_in=settings.plugins_dir)
    runner: BuildRunner = plugins.make("build_runners", settings.runner, RunnerConfig(options=settings.runner_options))
    if (why := await runner.check()) is not None:
        return Finding(
            "error", why, "docs/howto/run-builds-in-podman.md has the set-up." if runner.is_isolating else ""
        )
    if runner.is_isolating:
        return Finding("warning" if runner.note else "ok", runner.note or f"{runner.name}: builds can run, isolated")
    mend = "To isolate them: apt-get install podman, vclone runner build-image, then set VCLONE_RUNNER=podman"
    return Finding("warning", runner.note or f"{runner.name}: builds are not isolated", mend)


async def check_git(_place: Place) -> Finding:
    seen = await asyncio.to_thread(_version_of, "git")
    return Finding("ok", seen) if seen else Finding("error", "git is not installed", "apt-get install git")


async def check_node(_place: Place) -> Finding:
    mend = f"Builds of JavaScript projects need Node {OLDEST_NODE} or newer with npm."
    seen = await asyncio.to_thread(_version_of, "node")
    if seen is None:
        return Finding("warning", "Node is not installed", mend)
    major = re.search(r"\d+", seen)
    is_old = major is not None and int(major.group()) < OLDEST_NODE
    return Finding("warning" if is_old else "ok", f"Node {seen}", mend if is_old else "")


def _version_of(program: str) -> str | None:
    if (path := shutil.which(program)) is None:
        return None
    answer = subprocess.run((path, "--version"), capture_output=True, text=True, timeout=LIMIT_S / 2, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else None


CHECKS: Final[dict[str, Check]] = {
    "data directory": check_data_dir,
    "ports": check_ports,
    "names": check_names,
    "database": check_database,
    "redis": check_redis,
    "object store": check_store,
    "runner": check_runner,
    "git": check_git,
    "node": check_node,
}
