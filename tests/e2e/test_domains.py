"""Custom domains over the whole platform: the CLI claims, BIND says what the owner set, the edge serves."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.e2e.whole_platform import WholePlatform, WriteSite, fetch, running_platform
from tests.named import Named, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.dns
ADDRESS = "203.0.113.5"
EDGE = "edge.platform.example"


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Named]:
    with serving(tmp_path_factory.mktemp("named"), ["shop.example", "platform.example"]) as named:
        named.set("platform.example", EDGE, f"A {ADDRESS}")
        yield named


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, named: Named) -> Iterator[WholePlatform]:
    settings = {
        "domain_resolvers": named.address,
        "domain_target": EDGE,
        "domain_addresses": ADDRESS,
        # The zone's own server is BIND, too, but not at port 53.
        "domain_ask_zones": "false",
    }
    with running_platform(tmp_path_factory.mktemp("platform"), **settings) as platform:
        yield platform


def set_records(named: Named, records: list[dict[str, Any]], *, only: str | None = None) -> None:
    for one in records:
        if only in (None, one["purpose"]):
            dot = "." if one["type"] == "CNAME" else ""
            named.set("shop.example", one["name"], f"{one['type']} {one['value']}{dot}")


def wait_for(platform: WholePlatform, host: str, state: str) -> dict[str, Any]:
    """Wait until the platform has found out by itself."""
    ends = time.monotonic() + 60
    found: dict[str, Any] = {}
    while found.get("state") != state:
        assert time.monotonic() < ends, (found, platform.all_logs())
        time.sleep(0.1)
        found = platform.ask("domains", "inspect", host)
    return found


def test_from_claim_to_visitors_and_back(platform: WholePlatform, named: Named, site: WriteSite) -> None:
    folder = site("shop", {"index.html": "<h1>first</h1>"})
    platform.ask("deploy", str(folder), "--project", "shop", "--prod")
    assert fetch(platform.port, "shop.example", "/").status == 404
    added = platform.ask("domains", "add", "Shop.Example", "--project", "shop")
    www = platform.ask("domains", "add", "www.shop.example", "--project", "shop", "--redirect-to", "shop.example")
    asked = platform.run("domains", "verify", "shop.example")
    assert asked.code == 5 and "_vclone.shop.example" in asked.out and "NXDOMAIN" in asked.err
    # The proof first: the site is there before anybody is led to it.
    set_records(named, added["records"], only="ownership")
    found = wait_for(platform, "shop.example", "misrouted")
    assert found["problem"] == f"shop.example has neither A nor AAAA; expected {ADDRESS}."
    assert fetch(platform.port, "shop.example", "/").text == "<h1>first</h1>"
    set_records(named, added["records"], only="routing")
    set_records(named, www["records"])
    wait_for(platform, "shop.example", "active")
    wait_for(platform, "www.shop.example", "active")
    answer = fetch(platform.port, "www.shop.example", "/a/b?c=d%20e&f")
    assert (answer.status, answer.headers["location"]) == (308, f"http://shop.example:{platform.port}/a/b?c=d%20e&f")
    # What is deployed next is shown there in the same moment as in production.
    folder = site("shop", {"index.html": "<h1>second</h1>"})
    platform.ask("deploy", str(folder), "--project", "shop", "--prod")
    assert fetch(platform.port, "shop.example", "/").text == "<h1>second</h1>"
    platform.ask("rollback", "shop")
    assert fetch(platform.port, "shop.example", "/").text == "<h1>first</h1>"
    explained = platform.run("explain", f"http://shop.example:{platform.port}/")
    assert explained.code == 0 and "custom" in explained.out
    listed = platform.run("domains", "ls", "--project", "shop")
    assert "active" in listed.out and "shop.example (redirect)" in listed.out
    assert platform.run("domains", "redirect", "www.shop.example").code == 0
    assert fetch(platform.port, "www.shop.example", "/").status == 200
    assert platform.run("domains", "rm", "shop.example").code == 0
    wait_gone(platform, "shop.example")
    assert platform.run("domains", "inspect", "shop.example").code == 3
    # Claimed again, the record that is still there proves nothing.
    platform.ask("domains", "add", "shop.example", "--project", "shop")
    asked = platform.run("domains", "verify", "shop.example")
    assert asked.code == 5 and "expected vclone-verify=" in asked.err
    assert fetch(platform.port, "shop.example", "/").status == 404


def wait_gone(platform: WholePlatform, host: str) -> None:
    ends = time.monotonic() + 10
    while fetch(platform.port, host, "/").status != 404:
        assert time.monotonic() < ends, platform.all_logs()


def test_checks_go_on_after_the_api_is_killed(platform: WholePlatform, named: Named, site: WriteSite) -> None:
    platform.ask("deploy", str(site("late", {"index.html": "late"})), "--project", "late", "--prod")
    added = platform.ask("domains", "add", "late.shop.example", "--project", "late")
    os.kill(platform.service_pids()["api"], signal.SIGKILL)
    set_records(named, added["records"])
    ends = time.monotonic() + 90
    while fetch(platform.port, "late.shop.example", "/").status != 200:
        assert time.monotonic() < ends, platform.all_logs()
        time.sleep(0.1)


@pytest.mark.browser
def test_the_page_follows_by_itself(platform: WholePlatform, named: Named, site: WriteSite, browser: Browser) -> None:
    host = "seen.shop.example"
    platform.ask("deploy", str(site("seen", {"index.html": "seen"})), "--project", "seen", "--prod")
    link = platform.run("dashboard", "--no-browser").out.strip()
    page = browser.new_page(viewport={"width": 390, "height": 844})
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(link)
    page.click("main button")
    page.goto(f"{link.partition('/sign-in')[0]}/projects/seen/domains")
    page.fill("#host", host)
    page.click("text=Add it")
    page.wait_for_selector(".state.pending")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    set_records(named, platform.ask("domains", "inspect", host)["records"])
    # Nobody reloads the page.
    page.wait_for_selector(".state.active", timeout=60_000)
    assert page.text_content('[data-part="problem"]') == ""
    assert complaints == []
