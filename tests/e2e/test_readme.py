"""The README's tour does what it says: its commands are read from its text and run, one block after the other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.whole_platform import WholePlatform, find_url
from tests.git_server import GitServer

README = (Path(__file__).parent.parent.parent / "README.md").read_text(encoding="utf-8")
TOUR = dict(re.findall(r"<!-- tour: (\w+) -->\n```sh\n(.*?)```", README, re.DOTALL))


class Tour:
    """A shell in one folder, in which `./vclone` is this checkout's."""

    def __init__(self, platform: WholePlatform, folder: Path, repository: str) -> None:
        self.platform, self.folder, self.repository = platform, folder, repository
        program = folder / "vclone"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m vclone_core.cli "$@"\n')
        program.chmod(0o755)

    def run(self, block: str) -> str:
        """Run one block of the README; return what it printed on stdout. Every command of it must succeed."""
        text = TOUR[block].replace("https://git.example.com/me/app.git", self.repository)
        text = text.replace(":8080", f":{self.platform.port}")
        done = subprocess.run(
            ["sh", "-eu", "-c", text], cwd=self.folder, env=self.platform.environ, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def tour(platform: WholePlatform, git: GitServer, tmp_path_factory: pytest.TempPathFactory) -> Tour:
    git.commit("app", {"index.html": "<h1>From git</h1>"})
    return Tour(platform, tmp_path_factory.mktemp("tour"), git.address("app"))


@pytest.mark.timeout(240)
def test_the_tour_of_the_readme_does_what_it_says(tour: Tour) -> None:
    platform = tour.platform
    first = find_url(tour.run("folder"))
    assert "<h1>One</h1>" in platform.fetch(first + "/").text
    assert "<h1>One</h1>" in platform.fetch(platform.url("my-site")).text

    second = find_url(tour.run("second"))
    assert "<h1>Two</h1>" in platform.fetch(second + "/").text
    assert "<h1>Two</h1>" in platform.fetch(platform.url("my-site")).text
    assert "<h1>One</h1>" in platform.fetch(first + "/").text

    tour.run("rollback")
    assert "<h1>One</h1>" in platform.fetch(platform.url("my-site")).text
    assert "<h1>Two</h1>" in platform.fetch(second + "/").text

    assert "<h1>From git</h1>" in platform.fetch(find_url(tour.run("git")) + "/").text
    assert "<h1>Handbook</h1>" in platform.fetch(find_url(tour.run("prebuilt")) + "/").text

    shown = tour.run("look")
    for word in ("my-site", "publish", "200", "running", "static"):
        assert word in shown


def test_the_tour_has_no_block_that_is_not_run() -> None:
    assert set(TOUR) == {"folder", "second", "rollback", "git", "prebuilt", "look"}
    tagged = README.count("<!-- tour: ")
    assert tagged == len(TOUR) == README.count("```sh") - 1  # the first block starts the platform
