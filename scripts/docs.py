"""Writes the generated blocks of the documentation from the code: `make docs`. With `--check` it only compares.

A block stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->`; NAME is a key of `BLOCKS`. The words around the
blocks are written by hand.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import click
from pydantic import SecretStr

from vclone_api.guard import OPEN
from vclone_api.openapi import template_path
from vclone_api.routes import ROUTES
from vclone_core import hookspecs
from vclone_core.cli import COMMANDS, vclone
from vclone_core.cli.exits import EXIT_CODES
from vclone_core.errors import VcloneError, every_error
from vclone_core.plugins import load_plugins
from vclone_core.rules.access import PERMISSIONS, ROLES, SCOPES
from vclone_core.rules.definitions import parse_frameworks
from vclone_core.rules.failures import CAUSES
from vclone_core.rules.faults import FAULTS
from vclone_core.settings import PREFIX, Settings

ROOT: Final = Path(__file__).parent.parent
_BLOCK: Final = re.compile(r"(<!-- begin: (?P<name>[a-z]+) -->\n).*?(<!-- end: (?P=name) -->)", re.DOTALL)
_SHAPES: Final = ("Question", "Event", "Provider")


def write_settings() -> str:
    """Every start-up setting, in the order of `Settings`."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if isinstance(default, SecretStr) or default in (None, "") else f"`{default}`"
        rows.append((f"`{PREFIX}{name.upper()}`", shown, field.description or ""))
    return write_table(("Variable", "Default", "Meaning"), rows)


def write_errors() -> str:
    """Every error, parents first."""
    rows = [
        (f"`{error.code}`", str(error.status), str(error.exit_code), sentence_of(error), escape(error.hint))
        for error in every_error()
    ]
    return write_table(("Code", "Status", "Exit", "Sentence", "Hint"), rows)


def write_exits() -> str:
    """What the exit codes of `vclone` say."""
    return write_table(("Exit", "Meaning"), [(f"`{code}`", meaning) for code, meaning in EXIT_CODES.items()])


def write_causes() -> str:
    """The causes that a failed command's output is searched for, in their order."""
    return write_table(
        ("Cause", "Sentence", "Hint"),
        [(f"`{cause.name}`", escape(cause.sentence), escape(cause.hint)) for cause in CAUSES],
    )


def write_commands() -> str:
    """Every command with its options, in the order of `vclone --help`."""
    context = click.Context(vclone, info_name="vclone")
    return "\n".join(part for name in COMMANDS for part in write_command(name, context))


def write_command(name: str, parent: click.Context) -> Iterable[str]:
    """One command and those below it."""
    assert isinstance(parent.command, click.Group)
    command = parent.command.get_command(parent, name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=parent)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            yield from write_command(below, context)
        return
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"### `{context.command_path} {usage}`\n\n{escape(inspect.cleandoc(command.help or ''))}\n"
    rows = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            continue  # the usage line has it
        record = parameter.get_help_record(context)
        if record is not None and "--help" not in record[0]:
            rows.append((f"`{record[0].replace('|', chr(92) + '|')}`", escape(record[1])))
    if rows:
        yield write_table(("Option", "Meaning"), rows)


def write_hooks() -> str:
    """Every hook, by shape."""
    found = {
        name: spec
        for name, spec in inspect.getmembers(hookspecs, inspect.isfunction)
        if hasattr(spec, f"{hookspecs.PROJECT}_spec")
    }
    parts = []
    for shape in _SHAPES:
        parts.append(f"## {shape}s\n")
        for name, spec in found.items():
            text = inspect.getdoc(spec) or ""
            if f"{shape}." in text:
                colour = "async def" if inspect.iscoroutinefunction(spec) else "def"
                signature = str(inspect.signature(spec)).replace("vclone_core.models.", "").replace("'", "")
                parts.append(f"### `{name}`\n\n```python\n{colour} {name}{signature}\n```\n\n{text}\n")
    return "\n".join(parts)


def write_frameworks() -> str:
    """The built-in framework definitions, in the order in which they are tried."""
    frameworks, problems = parse_frameworks(load_plugins(allow="").framework_texts)
    assert not problems, problems
    rows = [
        (f"`{one.id}`", one.name, one.kind, code(one.build_command), f"`{one.output_directory}`") for one in frameworks
    ]
    return write_table(("Id", "Name", "Kind", "Build command", "Output"), rows)


def write_routes() -> str:
    """Every operation of the API for people and programs; `/internal` is between our own processes."""
    rows = [
        (route.method, f"`{template_path(route.path)}`", route.summary, "" if route.needs == OPEN else route.needs)
        for route in ROUTES
        if route.path.startswith("/api/")
    ]
    return write_table(("Method", "Address", "What it does", "Needs"), rows)


def write_permissions() -> str:
    """The permission table: an action, the roles it is allowed to, the scope a token needs for it."""
    rows = [
        (
            action,
            *("yes" if role in one.roles else "" for role in ROLES),
            "yes" if one.for_restricted else "",
            f"`{one.scope}`" if one.scope in SCOPES else "none: signed in only",
        )
        for action, one in PERMISSIONS.items()
    ]
    return write_table(("Action", *ROLES, "restricted to projects", "Scope"), rows)


def write_product() -> str:
    """Every sentence of tests/product.toml, with the tests whose marks name it."""
    return write_sentences("product")


def write_reliability() -> str:
    """Every sentence of tests/reliability.toml, with the tests whose marks name it."""
    return write_sentences("reliability")


def write_faults() -> str:
    """Which faults are retried, and why."""
    rows = [
        (f"`{fault.error.code}`", "again" if fault.is_retried else "told at once", escape(fault.why))
        for fault in FAULTS
    ]
    return write_table(("Error, and those below it", "The attempt is", "Why"), rows)


def write_sentences(table: str) -> str:
    """The sentences of one table, each with the tests that show it."""
    marks, missing = find_marks(table), read_missing(table)
    parts = []
    for line, sentences in read_sentences(table).items():
        rows = []
        for key, sentence in sentences.items():
            tests = ", ".join(f"`{place}::{test}`" for place, test in marks.get(key, ()))
            rows.append((key, escape(sentence), tests or f"none: {missing.get(key, 'unknown')}"))
        parts.append(f"## {line}\n\n{write_table(('Line', 'Sentence', 'Shown by'), rows)}")
    return "\n".join(parts)


def read_sentences(table: str) -> dict[str, dict[str, str]]:
    """Return the sentences of each line of a table: `{"B1": {"B1.1": "…"}}`."""
    raw = tomllib.loads((ROOT / f"tests/{table}.toml").read_text(encoding="utf-8"))
    return {
        line: {f"{line}.{number}": text for number, text in sentences.items()}
        for line, sentences in raw.items()
        if line != "missing"
    }


def read_missing(table: str) -> dict[str, str]:
    """Return what a table promises and no test shows, with the reason."""
    return dict(tomllib.loads((ROOT / f"tests/{table}.toml").read_text(encoding="utf-8"))["missing"])


TESTS: Final = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def find_marks(table: str) -> dict[str, list[tuple[str, str]]]:
    """Return the tests whose `@pytest.mark.product` (the table's name) names a sentence: (file, test), by sentence."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted([*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "plugins").glob("*/tests/test_*.py")]):
        text = path.read_text(encoding="utf-8")
        if f"mark.{table}" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            for mark in node.decorator_list if isinstance(node, TESTS) else ():
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == f"pytest.mark.{table}":
                    for key in mark.args:
                        place = str(path.relative_to(ROOT)).removeprefix("tests/")
                        found.setdefault(str(ast.literal_eval(key)), []).append((place, node.name))
    return found


BLOCKS: Final[dict[str, Callable[[], str]]] = {
    "settings": write_settings,
    "errors": write_errors,
    "exits": write_exits,
    "causes": write_causes,
    "commands": write_commands,
    "hooks": write_hooks,
    "frameworks": write_frameworks,
    "routes": write_routes,
    "permissions": write_permissions,
    "product": write_product,
    "reliability": write_reliability,
    "faults": write_faults,
}


def sentence_of(error: type[VcloneError]) -> str:
    return escape((error.__doc__ or "").strip().splitlines()[0])


def code(text: str | None) -> str:
    return f"`{text}`" if text else ""


def escape(text: str) -> str:
    return text.replace("|", "\\|")


def write_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines) + "\n"


def fill(text: str) -> str:
    """Return a page with its blocks written anew."""

    def replace(match: re.Match[str]) -> str:
        return f"{match[1]}\n{textwrap.dedent(BLOCKS[match['name']]())}\n{match[3]}"

    return _BLOCK.sub(replace, text)


def main(arguments: Sequence[str]) -> Any:
    """Write the pages, or with `--check` return 1 when one is not up to date."""
    stale = []
    for page in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        if (filled := fill(text)) != text:
            stale.append(str(page.relative_to(ROOT)))
            if "--check" not in arguments:
                page.write_text(filled, encoding="utf-8")
    if stale:
        sys.stderr.write(f"{'stale' if '--check' in arguments else 'written'}: {', '.join(stale)}\n")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
