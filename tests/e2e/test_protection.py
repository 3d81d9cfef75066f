"""Protection as people meet it: Chromium before a protected preview of a whole platform, and programs without one.

Chromium goes from the site's host to the dashboard's and back by itself: cookies, redirects and policies are its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.e2e.whole_platform import WholePlatform, WriteSite, running_platform

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PASSWORD = "open-sesame-of-the-tests"
ACCOUNT_PASSWORD = "a-long-password-of-an-account"
INDEX = (
    '<!doctype html><html lang="en"><title>Preview</title><link rel="icon" href="data:,">'
    '<h1>No script</h1><script type="module" src="/app.js"></script>'
)
SCRIPT = "document.querySelector('h1').textContent = 'A secret preview'"
WITHIN_MS = 20_000


def deploy(platform: WholePlatform, site: WriteSite, name: str) -> str:
    """Deploy a project twice, protect its previews, and return the URL of one."""
    folder = site(name, {"index.html": INDEX, "app.js": SCRIPT})
    platform.ask("deploy", str(folder), "--prod")
    url: str = platform.ask("deploy", str(folder))["url"]
    set_to = platform.ask("protection", "set", "previews", "--project", name)
    assert set_to["covers"] == "previews"
    assert all(receipt["after_ms"] is not None for receipt in set_to["receipts"])
    return url


@pytest.fixture(scope="module", params=["granian", "hypercorn"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholePlatform]:
    """A platform with each of the edge's engines."""
    with running_platform(tmp_path_factory.mktemp("platform"), edge_server=request.param) as platform:
        yield platform


def test_programs_without_a_browser(either: WholePlatform, site: WriteSite) -> None:
    url = deploy(either, site, "programs")
    production = re.sub(r"//[^.]+\.", "//programs.", url)
    for _ in range(3):  # the third comes by the lane, if any does
        assert either.fetch(production).status == 200
    refused = either.fetch(url)
    assert (refused.status, refused.headers["cache-control"]) == (401, "private, no-store")
    assert "secret" not in refused.text
    secret = either.ask("protection", "bypass", "--project", "programs")["secret"]
    header = {"x-vclone-protection-bypass": secret}
    for _ in range(3):
        answer = either.fetch(url, headers=header)
        assert (answer.status, answer.headers["cache-control"]) == (200, "private, no-store")
        assert either.fetch(url).status == 401
    etag = answer.headers["etag"]
    assert either.fetch(url, headers={"if-none-match": etag}).status == 401
    assert either.fetch(url, headers={"if-none-match": etag, **header}).status == 304
    # All of it, hot answers too, from one moment on.
    either.ask("protection", "set", "everything", "--project", "programs")
    assert [either.fetch(production).status for _ in range(3)] == [401] * 3
    either.ask("protection", "set", "off", "--project", "programs")
    assert (either.fetch(production).status, either.fetch(url).status) == (200, 200)
    either.ask("protection", "set", "previews", "--project", "programs")
    either.ask("protection", "bypass", "--remove", "--project", "programs")
    assert either.fetch(url, headers=header).status == 401


def somebody(browser: Browser, **more: Any) -> Page:
    """A page in a browser of its own, without any cookie."""
    page = browser.new_context(**more).new_page()
    page.set_default_timeout(WITHIN_MS)
    return page


def sees_the_site(page: Page, url: str) -> None:
    """The page is shown, its script has run, and the address bar holds the address and nothing else."""
    page.wait_for_url(url)
    page.get_by_role("heading", name="A secret preview").wait_for()
    assert page.url == url


def is_asked(page: Page, name: str) -> None:
    page.get_by_role("heading", name=name).wait_for()
    assert "/enter?" in page.url


@pytest.mark.browser
def test_a_member_signs_in_and_comes_back(platform: WholePlatform, browser: Browser, site: WriteSite) -> None:
    url = deploy(platform, site, "members") + "/?a=b"
    page = somebody(browser)
    link = next(word for word in platform.log_path.read_text().split() if "/sign-in/" in word)
    page.goto(link)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Account").first.click()
    page.get_by_label("New password").fill(ACCOUNT_PASSWORD)
    page.get_by_role("button", name="Set password").click()
    # Signed in already: nothing is asked.
    page.goto(url)
    sees_the_site(page, url)
    (cookie,) = page.context.cookies(url)
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("vclone-pass", True, "Lax")
    assert cookie["domain"] == re.sub(r"https?://|:\d+.*", "", url)
    # In another browser: the form of the dashboard, and back to the very page.
    other = somebody(browser)
    other.goto(url)
    is_asked(other, "Sign in")
    other.get_by_label("E-mail address").fill("owner@localhost")
    other.get_by_label("Password").fill(ACCOUNT_PASSWORD)
    other.get_by_role("button", name="Sign in").click()
    sees_the_site(other, url)
    # The pass is taken away: who is signed in doesn't notice, who isn't is asked.
    platform.ask("protection", "revoke", "--project", "members")
    assert other.evaluate("fetch(location.href).then(answer => answer.status)") == 401
    other.reload()
    sees_the_site(other, url)
    stolen = somebody(browser)
    stolen.context.add_cookies([{"name": "vclone-pass", "value": cookie["value"], "url": url}])
    stolen.goto(url)
    is_asked(stolen, "Sign in")


@pytest.mark.browser
def test_a_visitor_types_the_password(platform: WholePlatform, browser: Browser, site: WriteSite) -> None:
    url = deploy(platform, site, "guests") + "/?a=b"
    done = platform.run("protection", "password", "--project", "guests", "--json", typed=f"{PASSWORD}\n")
    assert done.code == 0 and done.json["has_password"], done.err
    page = somebody(browser)
    page.goto(url)
    is_asked(page, "This site is protected")
    page.get_by_label("Password of the site").fill("not-the-password")
    page.get_by_role("button", name="Go on").click()
    page.get_by_text("This is not the password.").wait_for()
    page.get_by_label("Password of the site").fill(PASSWORD)
    page.get_by_role("button", name="Go on").click()
    sees_the_site(page, url)
    page.reload()
    sees_the_site(page, url)
    platform.run("protection", "password", "--project", "guests", "--json", typed=f"{PASSWORD}2\n")
    page.goto(url)
    is_asked(page, "This site is protected")


@pytest.mark.browser
def test_links_and_automation(platform: WholePlatform, browser: Browser, site: WriteSite) -> None:
    url = deploy(platform, site, "shared") + "/"
    host = re.sub(r"https?://|:\d+.*", "", url)
    link = platform.ask("protection", "share", host, "--project", "shared", "--name", "Ann")
    page = somebody(browser)
    page.goto(link["url"])
    sees_the_site(page, url)
    platform.ask("protection", "unshare", link["id"], "--project", "shared")
    page.goto(url)
    is_asked(page, "Sign in")
    page.goto(link["url"])
    is_asked(page, "Sign in")
    # A test sends its secret once; the script of the page is fetched with the cookie.
    secret = platform.ask("protection", "bypass", "--project", "shared")["secret"]
    test = somebody(browser)
    test.goto(f"{url}?x-vclone-protection-bypass={secret}&x-vclone-set-bypass-cookie=true")
    sees_the_site(test, url)
    headed = somebody(browser, extra_http_headers={"x-vclone-protection-bypass": secret})
    headed.goto(url)
    sees_the_site(headed, url)
