"""What people see: Chromium opens the welcome site and three deployed inputs, and finds nothing to complain of.

Pictures go to the folder that VCLONE_TEST_SCREENSHOTS names, else into the test's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.e2e.test_deploys import VITE_REACT
from tests.e2e.whole_platform import WholePlatform, WriteSite
from tests.git_server import GitServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

pytestmark = pytest.mark.browser


class Visit:
    """One page in the browser, with everything that it complained of."""

    def __init__(self, page: Page, pictures: Path) -> None:
        self.page, self.pictures = page, pictures
        self.complaints: list[str] = []
        page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(f"{request.url} failed"))

    def hear(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            self.complaints.append(said.text)

    def open(self, url: str, picture: str) -> None:
        self.page.goto(url, wait_until="networkidle")
        self.page.screenshot(path=self.pictures / f"{picture}.png", full_page=True)


@pytest.fixture
def visit(browser: Browser, tmp_path: Path) -> Iterator[Visit]:
    pictures = Path(os.environ.get("VCLONE_TEST_SCREENSHOTS") or tmp_path)
    pictures.mkdir(parents=True, exist_ok=True)
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    yield Visit(page, pictures)
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_welcome_site_looks_as_it_should(platform: WholePlatform, visit: Visit, scheme: str) -> None:
    visit.page.emulate_media(color_scheme=scheme)
    visit.open(platform.url("welcome"), f"welcome-{scheme}")
    assert visit.page.title() == "vclone is running"
    background = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(251, 251, 253)", "dark": "rgb(11, 11, 15)"}[scheme]
    assert visit.page.locator("ol.steps > li").count() == 3
    assert visit.page.evaluate("document.querySelector('.brand img').naturalWidth") > 0
    assert not visit.complaints


def test_a_phone_needs_no_sideways_scrolling(platform: WholePlatform, visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 390, "height": 844})
    visit.open(platform.url("welcome"), "welcome-phone")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_missing_page_shows_the_sites_own(platform: WholePlatform, visit: Visit) -> None:
    visit.open(platform.url("welcome", "/nothing"), "welcome-404")
    assert visit.page.locator("h1").inner_text() == "There is no such page."


def test_a_deployed_folder_shows_its_page_style_and_script(
    platform: WholePlatform, visit: Visit, site: WriteSite
) -> None:
    page = (
        '<!doctype html><html lang="en"><title>Folder</title><link rel="icon" href="data:,">'
        '<link rel="stylesheet" href="/app.css"><h1>No script</h1><script type="module" src="/app.js"></script>'
    )
    script = "document.querySelector('h1').textContent = 'A folder'"
    folder = site("seen", {"index.html": page, "app.css": "h1 { color: rgb(1, 2, 3) }", "app.js": script})
    visit.open(platform.ask("deploy", str(folder))["production_url"], "folder")
    assert visit.page.locator("h1").inner_text() == "A folder"
    assert visit.page.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(1, 2, 3)"
    assert not visit.complaints


def test_a_prebuilt_output_shows_its_page(platform: WholePlatform, visit: Visit, site: WriteSite) -> None:
    page = '<!doctype html><html lang="en"><title>Out</title><link rel="icon" href="data:,"><h1>Prebuilt</h1>'
    folder = site("finished", {"out/index.html": page})
    visit.open(platform.ask("deploy", "--prebuilt", str(folder / "out"))["url"], "prebuilt")
    assert visit.page.locator("h1").inner_text() == "Prebuilt"
    assert not visit.complaints


@pytest.mark.registry
def test_a_vite_and_react_app_from_git_runs(platform: WholePlatform, visit: Visit, git: GitServer) -> None:
    git.commit("seen-app", VITE_REACT)
    visit.open(platform.ask("deploy", git.address("seen-app"))["production_url"], "vite-react")
    assert visit.page.locator("h1").inner_text() == "Hello from React"
    assert [one for one in visit.complaints if "favicon" not in one and "404" not in one] == []


def test_the_dashboard_has_something_to_say(platform: WholePlatform, visit: Visit) -> None:
    visit.open(f"http://127.0.0.1:{platform.api_port}/", "dashboard-signed-out")
    assert visit.page.locator("h1, h2").first.inner_text()
    sign_in = next(word for word in platform.log_path.read_text().split() if "/sign-in/" in word)
    visit.open(sign_in, "dashboard-sign-in")
    visit.page.get_by_role("button", name="Sign in").click()
    visit.open(f"http://127.0.0.1:{platform.api_port}/", "dashboard")
    assert "welcome" in visit.page.locator("main").inner_text()
