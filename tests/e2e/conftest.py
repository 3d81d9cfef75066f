"""Whole platforms for the tests of a module, and sites to deploy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.e2e.whole_platform import WholePlatform, WriteSite, running_platform
from tests.git_server import GitServer, serve_git
from tests.needs import need_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.platform)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    program = need_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholePlatform]:
    """A platform for the tests of one module, which may clone from this machine."""
    with running_platform(tmp_path_factory.mktemp("platform"), git_allow_insecure="true") as platform:
        yield platform


@pytest.fixture
def site(tmp_path: Path) -> WriteSite:
    """Writes a folder: `site("name", {"index.html": "…"})`; again for more files in it."""

    def write(name: str, files: dict[str, str]) -> Path:
        for path, text in files.items():
            place = tmp_path / name / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return tmp_path / name

    return write


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    with serve_git(tmp_path_factory.mktemp("repositories")) as server:
        yield server
