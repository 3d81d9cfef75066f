"""Which project a folder belongs to: `.vclone/project.json` in it, or what its name suggests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from vclone_core.errors import Invalid, InvalidFields
from vclone_core.rules.names import parse_project_name, suggest_project_name

# An output folder's own name says nothing about the project.
OUTPUT_NAMES: Final = frozenset(
    {"dist", "build", "out", "output", ".output", "public", "_site", "site", "www", "static"}
)


def read_link(folder: Path) -> str | None:
    """Return the name of the project that `folder` is linked to; raise `Invalid` when the link can't be read."""
    path = folder / ".vclone" / "project.json"
    try:
        return parse_project_name(json.loads(path.read_text(encoding="utf-8"))["project"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, InvalidFields) as error:
        hint = "Run `vclone link PROJECT` to write it anew."
        raise Invalid(what=f"{path} does not name a project", hint=hint) from error


def write_link(folder: Path, project: str) -> bool:
    """Link `folder` to `project`; False when the folder can't be written to. The link keeps itself out of git."""
    place = folder / ".vclone"
    try:
        place.mkdir(exist_ok=True)
        (place / ".gitignore").write_text("*\n", encoding="utf-8")
        (place / "project.json").write_text(json.dumps({"project": project}) + "\n", encoding="utf-8")
    except OSError:
        return False
    return True


def find_home(output: Path) -> Path:
    """Return the folder that a finished output belongs to: the nearest one above it with a name of its own."""
    place = output.resolve()
    while place.name in OUTPUT_NAMES or place.name.startswith("."):
        place = place.parent
    return place


def name_project(folder: Path) -> str:
    """Return the project name that a folder suggests."""
    return suggest_project_name(folder.resolve().name)
