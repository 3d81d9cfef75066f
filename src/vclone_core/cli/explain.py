"""`vclone explain URL`: what the edge would do with one request, stage by stage, without serving it.

The stages are the edge's own functions, run here by `vclone_edge.explain`. That package sits above this one, so it is
looked up by name when the command runs. The command needs what an edge needs: the edge token and the object store, from
the environment, or from the data folder of the platform that `vclone up` runs on this machine.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from vclone_core.cli.context import default_data_dir, platform_file
from vclone_core.cli.render import print_json
from vclone_core.errors import Forbidden, Invalid
from vclone_core.log import configure_log
from vclone_core.plugins import load_plugins
from vclone_core.settings import Settings, load_settings


@click.command()
@click.argument("url")
@click.option("--method", default="GET", show_default=True, help="Method of the request.")
@click.option("--header", "-H", "headers", multiple=True, metavar="NAME: VALUE", help="A header of the request.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--data-dir", envvar="VCLONE_DATA_DIR", metavar="DIR", help="Data folder of the platform to use.")
def explain(url: str, method: str, headers: tuple[str, ...], as_json: bool, data_dir: str | None) -> None:
    """Say what the edge would answer to a URL, and why."""
    settings = find_edge_settings(os.environ, data_dir)
    configure_log(process="explain", log_level="warning")
    address = url if "://" in url else f"http://{url}"
    found = asyncio.run(ask_edge(settings, address, method.upper(), parse_headers(headers)))
    if as_json:
        print_json(found)
    else:
        click.echo("\n".join(describe(found)))


def find_edge_settings(environ: Mapping[str, str], data_dir: str | None) -> Settings:
    """Return settings with which an edge's parts can be built here; raise `Forbidden` when the token is unknown."""
    if environ.get("VCLONE_EDGE_TOKEN") or environ.get("VCLONE_EDGE_TOKEN_FILE"):
        return load_settings(environ, edge_disk_bytes=0)
    place = Path(data_dir or read_value(platform_file(environ), "data_dir") or default_data_dir(environ)).absolute()
    token, api_url = read_value(place / "secrets.json", "edge_token"), read_value(place / "cli.json", "api_url")
    if not token or not api_url:
        raise Forbidden(
            what=f"the edge's token can't be read from {place}",
            hint="Run this where the platform runs, as its user, or set what an edge needs: see docs/operations.md.",
        )
    store = environ.get("VCLONE_STORE") or f"file://{place / 'objects'}"
    return load_settings(environ, data_dir=place, edge_token=token, api_url=api_url, store=store, edge_disk_bytes=0)


def read_value(path: Path, name: str) -> str | None:
    """Return a text from a JSON file; None when the file can't be read or has no such text."""
    try:
        value = json.loads(path.read_text(encoding="utf-8")).get(name)
    except (OSError, ValueError, AttributeError):
        return None
    return value if isinstance(value, str) else None


def parse_headers(lines: tuple[str, ...]) -> dict[str, str]:
    """Return headers from `NAME: VALUE` words; raise `Invalid` for one without a colon."""
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise Invalid(what=f"the header {line!r} is not NAME: VALUE")
        headers[name.strip()] = value.strip()
    return headers


async def ask_edge(settings: Settings, url: str, method: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the edge's explanation of one request as JSON values."""
    plugins = load_plugins(allow=settings.plugins, drop_in=settings.plugins_dir)
    parts = import_module("vclone_edge.parts").build_parts(settings, plugins)
    await parts.start(follow=False)
    try:
        found = await import_module("vclone_edge.explain").explain(parts, url, method=method, headers=headers)
    finally:
        await parts.stop()
    decision = found.decision
    return {
        "url": found.url,
        "method": found.method,
        "host": found.host,
        "path": found.path,
        "site": None if found.site is None else asdict(found.site),
        "is_stale": found.is_stale,
        "opened_by": found.opened_by,
        "decision": None if decision is None else type(decision).__name__.lower(),
        "rules": [
            {"number": rule.number, "src": rule.route.src, "dest": rule.route.dest, "origin": rule.route.origin}
            for rule in found.rules
        ],
        "file": found.file,
        "is_earlier": found.is_earlier,
        "object_key": found.object_key,
        "server_url": found.server_url,
        "status": found.status,
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in found.headers],
        "error_code": found.error_code,
    }


def describe(found: Mapping[str, Any]) -> list[str]:
    """Return one line per stage of the request flow, and what would be sent."""
    site = found["site"]
    lines = [f"host     {found['host'] or 'refused: ' + (urlsplit(found['url']).netloc or 'none')}"]
    if site is None:
        lines.append("resolve  nothing is deployed at this host" if found["host"] else "resolve  not reached")
    else:
        stale = ", last known: the API does not answer" if found["is_stale"] else ""
        lines.append(f"resolve  {site['deployment_id']} ({site['kind']} alias, version {site['version']}{stale})")
    if found["opened_by"] is not None:
        opened = f"opened by {found['opened_by']}" if found["opened_by"] else "closed to this request"
        lines.append(f"protect  {opened}")
    for rule in found["rules"]:
        words = [rule["src"], f"→ {rule['dest']}" if rule["dest"] else "", rule["origin"] and f"({rule['origin']})"]
        lines.append(f"route    rule {rule['number']}: {' '.join(word for word in words if word)}")
    if found["decision"]:
        earlier = ", of an earlier build" if found["is_earlier"] else ""
        lines.append(f"route    {found['decision']}{' ' + found['file'] if found['file'] else ''}{earlier}")
    if found["server_url"]:
        lines.append(f"object   asked for at {found['server_url']}")
    else:
        lines.append(f"object   {found['object_key'] or 'none is read'}")
    status = "what the other server says, with" if found["status"] is None else found["status"]
    lines.append(f"stream   {status}{' ' + found['error_code'] if found['error_code'] else ''}")
    return lines + [f"         {name}: {value}" for name, value in found["headers"]]
