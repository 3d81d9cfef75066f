"""`vclone plugins new`: what it writes passes its own test, and is a plugin where it is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from vclone_core.cli.plugin_template import write_plugin
from vclone_core.errors import Conflict, Invalid

pytestmark = pytest.mark.processes


def run(*words: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env={**os.environ, **environ}, capture_output=True, text=True
    )


def test_a_new_plugin_passes_its_test_and_is_found(tmp_path: Path) -> None:
    made = run("-m", "vclone_core.cli", "plugins", "new", "notify-chat", ".", "--json", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / json.loads(made.stdout)["folder"]
    tested = run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
    assert tested.returncode == 0 and "2 passed" in tested.stdout, tested.stdout + tested.stderr
    # As an installer leaves it: the package, and what names its entry point.
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert (project["name"], project["entry-points"]["vclone"]) == (
        "vclone-notify-chat",
        {"notify-chat": "vclone_notify_chat"},
    )
    facts = folder / "src/vclone_notify_chat-0.1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: vclone-notify-chat\nVersion: 0.1.0\n")
    (facts / "entry_points.txt").write_text("[vclone]\nnotify-chat = vclone_notify_chat\n")
    shown = run(
        "-m", "vclone_core.cli", "plugins", "info", "notify-chat", "--json",
        cwd=tmp_path, PYTHONPATH=str(folder / "src"),
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout) == {
        "name": "notify-chat",
        "distribution": "vclone-notify-chat",
        "version": "0.1.0",
        "hooks": ["alias_moved"],
        "refused": None,
    }


@pytest.mark.parametrize("name", ["", "-x", "a--b", "Chat", "a_b", "../a", "a/b", "1a", "a" * 41, "a\nb", "a-"])
def test_names_that_are_no_distributions(name: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        write_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(tmp_path: Path) -> None:
    write_plugin("mine", tmp_path)
    with pytest.raises(Conflict):
        write_plugin("mine", tmp_path)
