"""Commands that need no platform: detect, frameworks, plugins; and what is refused before one is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vclone_core.cli.deploy import is_git_url, name_repository
from vclone_core.cli.explain import parse_headers
from vclone_core.cli.link import find_home, name_project, read_link, write_link
from vclone_core.errors import Invalid

pytestmark = pytest.mark.processes  # a process each

EXAMPLES = Path(__file__).parent.parent / "examples"
DETECTED = {
    "framework", "install_command", "build_command", "output_directory", "package_manager", "kind", "reasons"
}  # fmt: skip


def vclone(*words: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run one command in a process of its own, with these settings."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("VCLONE_")}
    environ |= {f"VCLONE_{name.upper()}": str(value) for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "vclone_core.cli", *words], env=environ, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", ["vite", "astro", "hugo", "static"])
def test_detect_says_what_would_be_built_and_why(name: str) -> None:
    plan = json.loads(vclone("detect", str(EXAMPLES / name), "--json").stdout)
    assert plan["framework"] == name and set(plan) >= DETECTED and plan["reasons"]
    shown = vclone("detect", str(EXAMPLES / name))
    assert f"framework         {name}" in shown.stdout and plan["reasons"][0] in shown.stderr


def test_detect_refuses_what_is_no_folder(tmp_path: Path) -> None:
    assert vclone("detect", str(tmp_path / "missing")).returncode == 2
    (tmp_path / "package.json").write_text("{")
    refused = vclone("detect", str(tmp_path))
    assert refused.returncode == 25 and "package.json" in refused.stderr and not refused.stdout


def test_a_framework_file_of_the_operator_is_used(tmp_path: Path) -> None:
    definition = 'id = "mine"\nname = "Mine"\norder = 1\nkind = "static"\n[detect]\nsome = [{ file = "mine.cfg" }]\n'
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/mine.toml").write_text(definition)
    (tmp_path / "plugins/broken.toml").write_text('id = "broken"\ncolour = "red"\n')
    (tmp_path / "site").mkdir()
    (tmp_path / "site/mine.cfg").touch()
    shown = vclone("detect", str(tmp_path / "site"), "--json", plugins_dir=tmp_path / "plugins")
    assert json.loads(shown.stdout)["framework"] == "mine"
    assert "broken.toml" in shown.stderr and "colour" in shown.stderr
    listed = json.loads(vclone("frameworks", "--json", plugins_dir=tmp_path / "plugins").stdout)
    assert "mine" in {one["id"] for one in listed["frameworks"]} and len(listed["refused"]) == 1


def test_frameworks_are_a_table_that_fits_a_screen() -> None:
    lines = vclone("frameworks").stdout.splitlines()
    assert len(lines) > 100 and lines[0].startswith("ID ") and max(map(len, lines)) <= 140
    assert any(line.startswith("sphinx ") and "…" in line for line in lines)


def test_plugins_are_listed_with_their_hooks_and_why_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text("raise RuntimeError('not today')")
    listed = json.loads(vclone("plugins", "list", "--json", plugins_dir=tmp_path).stdout)
    found = {info["name"]: info for info in listed}
    assert "register_object_stores" in found["store-local"]["hooks"] and found["store-local"]["refused"] is None
    assert "not today" in found["wrong"]["refused"]
    assert "refused: RuntimeError: not today" in vclone("plugins", "list", plugins_dir=tmp_path).stdout
    assert "vclone-store-local" in vclone("plugins", "info", "store-local").stdout
    assert vclone("plugins", "info", "nobody").returncode == 3
    assert "not today" in vclone("detect", str(EXAMPLES / "vite"), plugins_dir=tmp_path).stderr


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("https://example.com/me/app.git", True),
        ("git@example.com:me/app.git", True),
        ("ssh://git@example.com/app", True),
        ("file:///srv/app", True),
        (".", False),
        ("./app.git", False),
        ("C/app", False),
    ],
)
def test_a_repository_is_told_from_a_folder(source: str, expected: bool) -> None:
    assert is_git_url(source) is expected


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.com/team/My_Shop.git", "my-shop"),
        ("git@example.com:solo.git", "solo"),
        ("https://example.com/x/app/", "app"),
        ("https://example.com/www.git", "www-site"),
    ],
)
def test_a_repositorys_project_is_called_as_it_is(url: str, name: str) -> None:
    assert name_repository(url) == name


def test_an_output_is_called_as_the_folder_above_it(tmp_path: Path) -> None:
    for output in ("my-site/dist", "my-site/.vercel/output", "my-site/build/public", "my-site"):
        assert name_project(find_home(tmp_path / output)) == "my-site"
    assert name_project(find_home(Path("/dist"))) == "site-site"


def test_a_link_is_read_back_and_a_broken_one_is_named(tmp_path: Path) -> None:
    assert read_link(tmp_path) is None
    assert write_link(tmp_path, "shop") and read_link(tmp_path) == "shop"
    for text in ("", "{}", '{"project": 3}', '{"project": "Not A Name"}'):
        (tmp_path / ".vclone/project.json").write_text(text)
        with pytest.raises(Invalid, match=r"project\.json"):
            read_link(tmp_path)
    assert not write_link(tmp_path / "missing", "shop")


def test_headers_of_explain_are_names_and_values() -> None:
    assert parse_headers(("Accept: text/html", "x:")) == {"Accept": "text/html", "x": ""}
    with pytest.raises(Invalid):
        parse_headers(("nonsense",))


@pytest.mark.parametrize("words", [("deploy", "--help"), ("--version",), ("logs", "--help")])
def test_help_loads_nothing_heavy(words: tuple[str, ...]) -> None:
    program = (
        "import sys; from vclone_core.cli import run; run(sys.argv[1:]); "
        "print([m for m in ('aiohttp', 'pydantic', 'pluggy', 'structlog', 'pathspec') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]"
