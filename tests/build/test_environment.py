"""What a build finds in its environment, printed by real builds."""

from __future__ import annotations

import re
from pathlib import Path

from tests.build.conftest import Place
from tests.git_server import GitServer

from vclone_core.models import ProjectSettings, Source

PAGE = Path(__file__).parent.parent.parent / "docs/howto/build-variables.md"
# What the runner gives to every command, for its programs to work at all.
RUNNER = {"PATH", "HOME", "PWD", "OLDPWD", "LANG", "LC_ALL", "TMPDIR", "USER", "LOGNAME", "SHELL", "SHLVL", "_", "TERM"}


async def build_and_print(place: Place, source: Source, environment: dict[str, str]) -> dict[str, str]:
    command = "mkdir -p dist; env -0 > dist/env.bin"
    settings = ProjectSettings(framework="vite", install_command="", build_command=command, output_directory="dist")
    manifest = await place.deploy(source, settings=settings, environment=environment)
    said = (await place.read(manifest.files["/env.bin"].sha256)).decode()
    # The process runner finds a build's processes by a mark.
    return dict(
        line.split("=", 1) for line in said.split("\0") if line and not line.startswith("VCLONE_BUILD_SESSION=")
    )


async def test_git_build_finds_every_documented_variable(place: Place, git: GitServer) -> None:
    sha = git.commit("shop", {"index.html": "x"}, branch="feat/x", message="Add $(x) 'cart'\n\nbody")
    found = await build_and_print(place, Source("git", url=git.address("shop"), ref="feat/x"), {"API_KEY": "my own"})
    assert {name: found[name] for name in found if name.startswith("VCLONE")} == {
        "VCLONE": "1",
        "VCLONE_ENV": "preview",
        "VCLONE_URL": "http://0000000001-shop.example.org:8080",
        "VCLONE_HOST": "0000000001-shop.example.org",
        "VCLONE_PROJECT": "shop",
        "VCLONE_DEPLOYMENT_ID": "dep_00000000000000000001",
        "VCLONE_GIT_URL": git.address("shop"),
        "VCLONE_GIT_COMMIT_REF": "feat/x",
        "VCLONE_GIT_COMMIT_SHA": sha,
        "VCLONE_GIT_COMMIT_MESSAGE": "Add $(x) 'cart'",
        "VCLONE_GIT_COMMIT_AUTHOR": "Ada",
    }
    assert (found["CI"], found["API_KEY"]) == ("1", "my own")
    documented = set(re.findall(r"`([A-Z_]+)`", "".join(re.findall(r"^\| `.*? \|", PAGE.read_text(), re.MULTILINE))))
    assert documented == {name for name in found if name.startswith(("VCLONE", "CI"))}
    public = {name.removeprefix("VITE_"): text for name, text in found.items() if name.startswith("VITE_")}
    assert public == {name: text for name, text in found.items() if name.startswith("VCLONE_")}


async def test_nothing_of_the_platform_s_own_environment_is_found(place: Place, git: GitServer) -> None:
    git.commit("shop", {"index.html": "x"})
    found = await build_and_print(place, Source("git", url=git.address("shop")), {"VCLONE_ENV": "staging"})
    assert found["VCLONE_ENV"] == "staging"
    ours = {name for name in found if name.startswith(("VCLONE", "VITE_VCLONE")) or name == "CI"}
    assert "VCLONE_GIT_COMMIT_REF" not in found
    assert not {name for name in found if "DATABASE" in name or "REDIS" in name or "TOKEN" in name or "VERCEL" in name}
    assert set(found) - ours - RUNNER == set()
