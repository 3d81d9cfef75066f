"""`vclone env` and `vclone keys`: what they read, write and refuse on one's own machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from vclone_core.actions.keys import ring_of
from vclone_core.cli import run
from vclone_core.cli.env import name_problem, read_file, write_private_text
from vclone_core.cli.keys import add_key, drop_keys
from vclone_core.errors import BadSettings, FieldProblem, Invalid, InvalidFields
from vclone_core.settings import Settings


def test_a_file_with_a_bad_line_is_refused_whole() -> None:
    with pytest.raises(InvalidFields) as caught:
        read_file("A=1\nB\n")
    assert [one.field for one in caught.value.problems] == ["line 2"]
    with pytest.raises(Invalid):
        read_file("# nothing\n")


def test_references_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert read_file("A=$HOME/x\nB=1") == {"A": "$HOME/x", "B": "1"}
    assert "nothing is put in the place of `$…`: A." in capsys.readouterr().err


def test_problems_are_told_by_the_variable_s_name() -> None:
    keys = ["A", "B"]
    told = [name_problem(FieldProblem(f"variables.{at}", "x"), keys).field for at in ("1.key", "0.value", "7.key", "x")]
    assert told == ["B", "A (value)", "variables.7.key", "variables.x"]


def test_a_written_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / ".env.local"
    path.write_text("old")
    path.chmod(0o644)
    write_private_text(path, "A=1\n")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("A=1\n", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_there_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env.local").write_text("mine")
    assert run(["env", "pull", "--project", "x", "--api", "http://127.0.0.1:9", "--token", "t"]) == 5
    assert "`--yes` overwrites it" in capsys.readouterr().err
    assert Path(".env.local").read_text() == "mine"


def test_a_key_is_added_in_front_and_dropped_by_name(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(json.dumps({"secret_key": "s" * 40}))
    settings = Settings(secrets_path=path, secret_key=SecretStr("s" * 40))
    assert ring_of(settings).current == "derived"
    first = add_key(path, settings)
    second = add_key(path, settings)
    ring = ring_of(settings)
    assert (ring.current, list(ring.keys)) == (second, [second, first, "derived"])
    assert path.stat().st_mode & 0o777 == 0o600
    assert drop_keys(path, keep={second}) == [first]
    assert list(ring_of(settings).keys) == [second, "derived"]
    assert json.loads(path.read_text())["secret_key"] == "s" * 40


def test_a_damaged_file_of_keys_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text("{")
    with pytest.raises(BadSettings):
        add_key(path, Settings(secrets_path=path, secret_key=SecretStr("s" * 40)))
    assert path.read_text() == "{"
