"""Finds the platform a command speaks to: its API's address and a token.

The first that answers: `--api`/`--token` (or their variables), `--data-dir`'s `cli.json`, the file that the latest `up`
or `login` of this user wrote, the `cli.json` of the default data folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from vclone_core.errors import Invalid, Unavailable

HOW_TO_START = "Is the platform running? `vclone up` starts it; `--api URL --token TOKEN` names another."

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class PlatformAddress:
    """Where a platform's API is, the token that opens it, and the team to act in; empty: none is known or chosen."""

    api_url: str
    token: str
    team: str = ""


def platform_options(command: Command) -> Command:
    """Give a click command `--api`, `--token`, `--team` and `--data-dir`, which `find_platform` takes."""
    for option in (
        click.option("--team", envvar="VCLONE_TEAM", metavar="TEAM", help="Team to act in.", show_envvar=True),
        click.option("--data-dir", envvar="VCLONE_DATA_DIR", metavar="DIR", help="Data folder of the platform to use."),
        click.option("--token", envvar="VCLONE_TOKEN", metavar="TOKEN", help="API token.", show_envvar=True),
        click.option("--api", envvar="VCLONE_API_URL", metavar="URL", help="Address of the API.", show_envvar=True),
    ):
        command = option(command)
    return command


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def find_platform(
    *,
    api: str | None = None,
    token: str | None = None,
    data_dir: str | None = None,
    team: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> PlatformAddress:
    """Return the platform to speak to. Raises `Unavailable` when none is named and none was started by this user."""
    environ = os.environ if environ is None else environ
    found = _find_file(data_dir, environ)
    if api is not None:
        api = check_url(api)
        # The token of another platform must not travel to this one.
        known = found.token if found is not None and found.api_url == api else ""
        return PlatformAddress(api, known if token is None else token, team or "")
    if found is None:
        where = f"in {data_dir}" if data_dir else "for this user"
        raise Unavailable(sentence=f"There is no platform {where}.", hint=HOW_TO_START)
    # The team that was chosen goes with the token it was chosen for.
    chosen = found.team if token is None else ""
    return PlatformAddress(found.api_url, found.token if token is None else token, chosen if team is None else team)


def check_url(url: str) -> str:
    """Return an API address without its last slash; raise `Invalid` when it is none."""
    if not url.startswith(("http://", "https://")):
        raise Invalid(what=f"the API address {url!r} starts with neither http:// nor https://")
    return url.rstrip("/")


def platform_file(environ: Mapping[str, str]) -> Path:
    """Return the file that names this user's latest platform."""
    home = Path(environ.get("HOME") or Path.home())
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "vclone" / "platform.json"


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """Return where `vclone up` keeps its data when it isn't told."""
    if os.geteuid() == 0:
        return Path("/var/lib/vclone")
    home = Path(environ.get("HOME") or Path.home())
    return Path(environ.get("XDG_DATA_HOME") or home / ".local/share") / "vclone"


def save_platform(path: Path, *, api_url: str, token: str, data_dir: str | None = None, team: str = "") -> None:
    """Write a platform file, readable by its user only, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    document = json.dumps({"api_url": api_url, "token": token, "data_dir": data_dir, "team": team}, indent=2) + "\n"
    draft.touch(mode=0o600)
    draft.write_text(document, encoding="utf-8")
    draft.replace(path)


def _find_file(data_dir: str | None, environ: Mapping[str, str]) -> PlatformAddress | None:
    if data_dir:
        return _read_file(Path(data_dir) / "cli.json")
    places = (platform_file(environ), default_data_dir(environ) / "cli.json")
    return next((found for found in map(_read_file, places) if found is not None), None)


def _read_file(path: Path) -> PlatformAddress | None:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return PlatformAddress(check_url(raw["api_url"]), str(raw["token"]), str(raw.get("team") or ""))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise Invalid(
            what=f"{path} does not name a platform ({type(error).__name__})",
            hint="Remove the file and run `vclone up` or `vclone login` again.",
        ) from error
