"""The `vclone` command's own behaviour: its table, its error border, `doctor`, `migrate`, `status` of nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from vclone_core.cli import COMMANDS, INTERRUPTED, MISTAKE, LazyGroup, run, vclone
from vclone_core.errors import Invalid, NotFound


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there_and_explains_itself(name: str) -> None:
    module, _, attribute = COMMANDS[name].partition(":")
    command = getattr(import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.help


def test_a_command_loads_nothing_that_it_does_not_need() -> None:
    program = "import sys; from vclone_core.cli import run; run(['--version']); print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(answer.stdout.split())
    assert not loaded & {"asyncpg", "redis", "aiohttp", "quart", "granian", "pydantic", "structlog", "asyncio"}


@pytest.mark.parametrize(
    ("raised", "code", "shown"),
    [
        (NotFound(what="project"), 3, "error: There is no such project."),
        (KeyboardInterrupt(), INTERRUPTED, ""),
        (click.UsageError("no"), 2, "no"),
        (ZeroDivisionError("oh"), MISTAKE, "This is a mistake in vclone"),
    ],
)
def test_every_error_is_shown_once_with_its_code(
    raised: BaseException, code: int, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command("fails")
    def fails() -> None:
        raise raised

    vclone.add_command(fails)
    try:
        assert run(["fails"]) == code
    finally:
        del vclone.commands["fails"]
    assert shown in capsys.readouterr().err


def test_a_plugin_may_add_a_command_but_not_replace_one(tmp_path: Path) -> None:
    (tmp_path / "greet.py").write_text(
        "import click\n"
        "from vclone_core import hookimpl\n"
        "@click.command('greet')\n"
        "def greet():\n"
        "    click.echo('hello')\n"
        "@hookimpl\n"
        "def register_commands(cli):\n"
        "    cli.add_command(greet)\n"
    )
    argv = [sys.executable, "-P", "-m", "vclone_core.cli", "greet"]
    environ = {**os.environ, "VCLONE_PLUGINS_DIR": str(tmp_path)}
    assert subprocess.run(argv, capture_output=True, text=True, env=environ, check=False).stdout == "hello\n"
    with pytest.raises(Invalid, match="already"):
        LazyGroup("other").add_command(click.Command("deploy"))


def test_doctor_names_what_is_broken_and_how_to_mend_it(tmp_path: Path) -> None:
    argv = [sys.executable, "-P", "-m", "vclone_core.cli", "doctor", "--json", "--data-dir", str(tmp_path / "data")]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("VCLONE_")}
    broken = {**environ, "PATH": str(tmp_path), "VCLONE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    answer = subprocess.run(argv, capture_output=True, text=True, env=broken, check=False, timeout=60)
    found = {check["check"]: check for check in json.loads(answer.stdout)["checks"]}
    assert answer.returncode == 1
    assert found["git"]["level"] == "error" and found["git"]["mend"]
    assert found["node"]["level"] == "warning"
    assert found["database"]["level"] == "error"
    assert found["names"]["level"] == "ok"
    assert not (tmp_path / "data").exists()


def test_doctor_reports_settings_that_cannot_be_used(tmp_path: Path) -> None:
    argv = [sys.executable, "-P", "-m", "vclone_core.cli", "doctor", "--data-dir", str(tmp_path)]
    environ = {**os.environ, "VCLONE_EDGE_WORKERS": "many"}
    answer = subprocess.run(argv, capture_output=True, text=True, env=environ, check=False)
    assert answer.returncode == 1
    assert "VCLONE_EDGE_WORKERS" in answer.stdout


def test_migrate_applies_once(postgres_url: str, tmp_path: Path) -> None:
    import asyncio

    import asyncpg

    async def with_database(sql: str) -> None:
        admin = await asyncpg.connect(postgres_url)
        await admin.execute(sql)
        await admin.close()

    name = f"platform_migrate_{os.getpid()}"
    asyncio.run(with_database(f"create database {name}"))
    try:
        url = f"{postgres_url.rpartition('/')[0]}/{name}"
        argv = [sys.executable, "-P", "-m", "vclone_core.cli", "migrate"]
        environ = {**os.environ, "VCLONE_DATABASE_URL": url}
        said = [subprocess.run(argv, capture_output=True, text=True, env=environ, check=True).stdout for _ in "12"]
        assert said[0].startswith("applied 0001_initial")
        assert said[1] == "nothing to apply\n"
    finally:
        asyncio.run(with_database(f"drop database {name}"))


def test_status_of_a_folder_where_nothing_ever_ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--data-dir", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["pid"], found["services"]) == ("stopped", None, {})
