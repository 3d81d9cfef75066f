"""The distribution that `vclone plugins new` writes: the smallest plugin that does something, with a test that passes.

`{name}` is what it is called, `{module}` its Python package.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from vclone_core.errors import Conflict, Invalid

NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
NAME_LENGTH: Final = 40

FILES: Final[dict[str, str]] = {
    "pyproject.toml": """\
[build-system]
requires = ["setuptools>=80"]
build-backend = "setuptools.build_meta"

[project]
name = "vclone-{name}"
version = "0.1.0"
description = "Says which addresses have moved"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["vclone"]

[project.optional-dependencies]
test = ["pytest"]

[project.entry-points.vclone]
{name} = "{module}"

[tool.setuptools.packages.find]
where = ["src"]

[tool.pytest.ini_options]
pythonpath = ["src"]
""",
    "README.md": """\
# vclone-{name}

A plugin for vclone. Install it into the environment that vclone runs in:

```sh
vclone plugins install .
vclone plugins info {name}
```

`pytest` runs its tests. API, workers and edges load it when they start.
""",
    "src/{module}/__init__.py": """\
\"\"\"Says which addresses have moved.\"\"\"

from vclone_core import get_log, hookimpl, models

log = get_log(__name__)


def tell(project: models.Project, alias: models.Alias) -> str:
    \"\"\"Return what is to be said of a move.\"\"\"
    return f"{{alias.host}} of {{project.name}} shows {{alias.deployment_id}}"


@hookimpl
async def alias_moved(project: models.Project, alias: models.Alias) -> None:
    log.info("{name}.moved", what=tell(project, alias))
""",
    "tests/test_{module}.py": """\
\"\"\"The plugin as vclone loads it.\"\"\"

import asyncio

import {module}
from vclone_core.testing import example_alias, example_project, load_module


def test_it_fits_its_hooks() -> None:
    (info,) = load_module({module}).infos
    assert (info.refused, info.hooks) == (None, ("alias_moved",))


def test_it_tells_of_a_move(monkeypatch) -> None:
    heard = []
    monkeypatch.setattr({module}.log, "info", lambda event, **facts: heard.append(facts["what"]), raising=False)
    moved = {{"project": example_project(), "alias": example_alias(), "previous_deployment_id": None}}
    asyncio.run(load_module({module}).announce("alias_moved", **moved))
    assert heard == [f"shop.localhost of shop shows {{example_alias().deployment_id}}"]
""",
    ".gitignore": "__pycache__/\n*.egg-info/\nbuild/\ndist/\n",
}


def write_plugin(name: str, parent: Path) -> Path:
    """Write a new plugin `vclone-NAME` below a folder and return its own; raise `Conflict` when that is there."""
    if not NAME.fullmatch(name) or len(name) > NAME_LENGTH:
        raise Invalid(
            what=f"a plugin can't be called {name[:NAME_LENGTH]!r}",
            hint=f"Use lower-case letters, digits and single hyphens, {NAME_LENGTH} at most: `notify-chat`.",
        )
    folder = parent / f"vclone-{name}"
    if folder.exists():
        raise Conflict(what=f"{folder} is there already")
    names = {"name": name, "module": f"vclone_{name.replace('-', '_')}"}
    for place, text in FILES.items():
        path = folder / place.format(**names)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(**names) if place != ".gitignore" else text, encoding="utf-8")
    return folder
