"""What holds for every command: JSON for programs, words for people, exit codes that stay, completion."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from vclone_core.cli import COMMANDS, INTERRUPTED, MISTAKE, vclone
from vclone_core.cli.completion import SHELLS
from vclone_core.cli.exits import EXIT_CODES
from vclone_core.errors import StepFailed, every_error

# Why a command prints no JSON of its own.
WITHOUT_JSON = {
    "up": "runs until it is stopped; VCLONE_LOG_FORMAT=json is for its log",
    "api": "runs until it is stopped",
    "worker": "runs until it is stopped",
    "edge": "runs until it is stopped",
    "audit export": "its format is --format: JSON lines or CSV",
}
# What people's fingers expect of such a tool.
EXPECTED = {
    "up", "login", "logout", "whoami", "link", "deploy", "ls", "inspect", "logs", "env ls", "env add", "env rm",
    "env pull", "alias ls", "promote", "rollback", "redeploy", "cancel", "detect", "explain", "plugins list",
    "plugins info", "frameworks", "doctor", "migrate", "queue", "gc", "completion", "protection set",
}  # fmt: skip


def walk(group: click.Group, names: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Yield every group and command below `group`, by its words."""
    context = click.Context(group)
    for name in COMMANDS if group is vclone else group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield " ".join((*names, name)), command
        if isinstance(command, click.Group):
            yield from walk(command, (*names, name))


EVERY = dict(walk(vclone))
LEAVES = {name: command for name, command in EVERY.items() if not isinstance(command, click.Group)}


def test_the_commands_that_people_expect_are_there() -> None:
    assert set(LEAVES) >= EXPECTED


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_prints_json_or_says_why_not(name: str) -> None:
    has_json = any("--json" in parameter.opts for parameter in LEAVES[name].params)
    assert has_json is not (name in WITHOUT_JSON)


@pytest.mark.parametrize("name", EVERY)
def test_every_command_and_option_says_what_it_does(name: str) -> None:
    command = EVERY[name]
    first = (command.help or "").strip().splitlines()[0]
    assert first.endswith((".", ":")) and first[0].isupper()
    for parameter in command.params:
        if isinstance(parameter, click.Option) and "--format" not in parameter.opts:
            assert parameter.help, parameter.opts


def test_every_way_to_end_is_documented() -> None:
    """Every code has its meaning, and steps of a build share none with anything else."""
    ranges = [[int(number) for number in code.split(" to ")] for code in EXIT_CODES]
    listed = [number for ends in ranges for number in range(ends[0], ends[-1] + 1)]
    assert len(listed) == len(set(listed))
    found = {error.exit_code for error in every_error()}
    assert found | {0, INTERRUPTED, MISTAKE} <= set(listed)
    assert not [ends for ends in ranges if not (found | {0, INTERRUPTED, MISTAKE}) & {*range(ends[0], ends[-1] + 1)}]
    steps = {error.exit_code for error in every_error(StepFailed)}
    others = {error.exit_code for error in every_error() if not issubclass(error, StepFailed)}
    assert not steps & (others | {0, INTERRUPTED, MISTAKE})
    assert all(20 <= code <= 80 for code in steps)


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vclone_core.cli", *words],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--version",), 0),
        (("no-such-command",), 2),
        (("ls", "--no-such-option"), 2),
        (("completion", "tcsh"), 2),
        (("plugins", "info", "nobody"), 3),
        (("ls", "--api", "http://127.0.0.1:1", "--token", "x"), 7),
        (("ls", "--api", "ftp://a"), 2),
    ],
)
def test_exit_codes(words: tuple[str, ...], code: int) -> None:
    done = run(*words)
    assert done.returncode == code
    assert (done.stderr == "") is (code == 0)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_takes_the_script(shell: str, tmp_path: Path) -> None:
    done = run("completion", shell)
    assert done.returncode == 0 and "_VCLONE_COMPLETE" in done.stdout
    assert json.loads(run("completion", shell, "--json").stdout)["script"].strip() == done.stdout.strip()
    program = shutil.which(shell)
    if program is None:
        return
    (tmp_path / "script").write_text(done.stdout)
    checked = subprocess.run([program, "-n", tmp_path / "script"], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("typed", "place", "offered"),
    [
        ("vclone pro", 1, {"promote", "project", "protection"}),
        ("vclone protection s", 2, {"show", "set", "share"}),
        ("vclone protection set ", 3, {"off", "previews", "everything"}),
        ("vclone promote --js", 2, {"--json"}),
    ],
)
def test_tab_offers_what_fits(typed: str, place: int, offered: set[str]) -> None:
    done = run(COMP_WORDS=typed, COMP_CWORD=str(place), _VCLONE_COMPLETE="bash_complete")
    assert {line.partition(",")[2] for line in done.stdout.split()} == offered
