"""Protection over the API and the dashboard: changing it, and the way in through `/enter`."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from vclone_core.actions import accounts, deployments
from vclone_core.models import AliasKind, Project
from vclone_core.rules.passes import hash_mark, read_pass
from vclone_core.rules.protection import Allowed, Sent, decide_visit
from vclone_core.rules.requests import Request

from .browser import CookieBrowser
from .conftest import Api
from .test_variables import signed_in

PASSWORD = "open-sesame-of-the-tests"
MARK = "mark-of-this-browser-1"


async def preview(api: Api, covers: str = "previews") -> tuple[Project, str]:
    """A project with a protected deployment, and its host."""
    project = await api.project()
    deployment = await api.live(project)
    status, _ = await api.ask("PATCH", f"/api/projects/{project.name}/protection", json={"covers": covers})
    assert status == 200
    aliases = await deployments.list_aliases(api.platform, api.owner, project, [deployment.id])
    return project, next(alias.host for alias in aliases if alias.kind is AliasKind.DEPLOYMENT)


async def visit(api: Api, host: str, path: str = "/", query: str = "", **cookies: str) -> Any:
    """What an edge that was told of the host does with a browser's request."""
    site = await deployments.resolve_host(api.platform, host)
    assert site is not None and site.protection is not None
    headers = {b"accept": b"text/html"}
    if cookies:
        headers[b"cookie"] = "; ".join(f"{name.replace('_', '-')}={text}" for name, text in cookies.items()).encode()
    import time

    request = Request("GET", host, path, query, headers)
    return decide_visit(site.protection, request, origin=f"http://{host}:8080", now_s=time.time(), mark=MARK)


def onward(page: str) -> str:
    """Where the page that lets somebody in leads, by itself and by its link."""
    found = re.findall(r'content="0; url=([^"]+)"|<a class="link" href="([^"]+)" rel', page)
    (first, _), (_, second) = found
    assert first == second
    return unescape(first)


async def test_changed_shown_and_audited(api: Api) -> None:
    project, host = await preview(api)
    path = f"/api/projects/{project.name}/protection"
    status, changed = await api.ask("PUT", f"{path}/password", json={"password": PASSWORD})
    assert (status, changed["covers"], changed["has_password"]) == (200, "previews", True)
    status, made = await api.ask("POST", f"{path}/bypass")
    assert status == 201 and re.fullmatch(r"vcp_[0-9A-Za-z]{46}", made["secret"])
    status, link = await api.ask("POST", f"{path}/links", json={"of": host, "name": "Ann", "days": 1})
    assert (status, link["host"], link["name"]) == (201, host, "Ann")
    status, shown = await api.ask("GET", path, "viewer")
    assert shown["has_bypass"] and shown["bypass_made_at"] and shown["receipts"] == []
    listed = (await api.ask("GET", f"{path}/links", "viewer"))[1]["items"]
    assert [one["id"] for one in listed] == [link["id"]] and "url" not in listed[0]
    assert (await api.ask("DELETE", f"{path}/links/{link['id']}"))[0] == 204
    assert (await api.ask("DELETE", f"{path}/links/{link['id']}"))[0] == 404
    assert (await api.ask("DELETE", f"{path}/bypass"))[0] == 204
    status, changed = await api.ask("DELETE", f"{path}/password")
    assert (status, changed["has_password"], changed["has_bypass"]) == (200, False, False)
    assert (await api.ask("POST", f"{path}/revoke"))[0] == 200
    entries = (await api.ask("GET", "/api/audit?limit=8"))[1]["items"]
    assert [one["action"] for one in entries] == [
        "end_passes", "remove_site_password", "remove_bypass", "revoke_share_link", "create_share_link",
        "make_bypass", "set_site_password", "change_protection",
    ]  # fmt: skip
    kept = json.dumps(entries)
    assert PASSWORD not in kept and made["secret"] not in kept and "_vclone_share" not in kept


async def test_what_is_refused_names_its_place(api: Api) -> None:
    project, host = await preview(api)
    path = f"/api/projects/{project.name}/protection"
    for method, where, body in [
        ("PATCH", path, {"covers": "some"}),
        ("PATCH", path, {}),
        ("PATCH", path, {"covers": "off", "password": PASSWORD}),
        ("PUT", f"{path}/password", {"password": "short"}),
        ("PUT", f"{path}/password", {"password": "x" * 5000}),
        ("POST", f"{path}/links", {"of": host, "days": 0}),
        ("POST", f"{path}/links", {"of": host, "days": 400}),
        ("POST", f"{path}/links", {"days": 1}),
    ]:
        status, problem = await api.ask(method, where, json=body)
        assert (status, problem["code"]) == (400, "invalid_fields"), (where, body)
        assert "xxxx" not in json.dumps(problem)
    assert (await api.ask("POST", f"{path}/links", json={"of": "none"}))[0] == 404
    assert (await api.ask("POST", f"{path}/links", json={"of": f"{project.name}.localhost"}))[0] == 409


async def asked_way(api: Api, host: str, path: str = "/a", query: str = "b=c") -> tuple[str, str]:
    """Where an edge sends a new browser: the path at the API, and the browser's cookie."""
    sent = await visit(api, host, path, query)
    assert isinstance(sent, Sent)
    assert sent.cookie == f"vclone-pass={MARK}; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"
    split = urlsplit(sent.location)
    assert f"{split.scheme}://{split.netloc}" == api.platform.settings.api_url
    return f"{split.path}?{split.query}", MARK


async def test_a_member_is_let_in_and_comes_back_to_the_page(api: Api) -> None:
    _, host = await preview(api)
    way, mark = await asked_way(api, host)
    status, page = await CookieBrowser(api.app).get(way)
    assert status == 401 and "Sign in" in page
    (kept,) = re.findall(r'name="next" value="([^"]*)"', page)
    assert unescape(kept) == way
    browser = await signed_in(api, "owner")
    response = await browser.open("GET", way)
    page = await response.get_data(as_text=True)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["referrer-policy"] == "no-referrer"
    split = urlsplit(onward(page))
    assert f"{split.scheme}://{split.netloc}{split.path}" == f"http://{host}:8080/.well-known/vclone/enter"
    entered = await visit(api, host, split.path, split.query, vclone_pass=mark)
    assert isinstance(entered, Sent)
    assert entered.location == f"http://{host}:8080/a?b=c"
    assert entered.cookie is not None
    kept = entered.cookie.partition(";")[0].partition("=")[2]
    assert isinstance(await visit(api, host, vclone_pass=kept), Allowed)
    # Not with another browser's mark, and not at another host of the project.
    assert not isinstance(await visit(api, host, split.path, split.query, vclone_pass="another-browsers-mark"), Sent)
    _, other = await preview(api)
    assert not isinstance(await visit(api, other, vclone_pass=kept), Allowed)


async def test_an_account_of_another_team_is_not_let_in_and_told_nothing(api: Api) -> None:
    project, host = await preview(api)
    way, _ = await asked_way(api, host)
    status, page = await (await signed_in(api, "stranger")).get(way)
    assert status == 403
    assert "grant=" not in page and f">{project.name}<" not in page
    # A token is no browser that somebody signed in with.
    status, page = await api.ask("GET", way, "owner")
    assert status == 401 and "grant=" not in page


async def test_the_password_lets_in_whoever_knows_it(api: Api) -> None:
    project, host = await preview(api)
    path = f"/api/projects/{project.name}/protection/password"
    await api.ask("PUT", path, json={"password": PASSWORD})
    way, mark = await asked_way(api, host)
    for browser in (CookieBrowser(api.app), await signed_in(api, "stranger")):
        status, page = await browser.get(way)
        assert status == 200 and 'type="password"' in page and "grant=" not in page
        asked = {name: values[0] for name, values in parse_qs(urlsplit(way).query).items()}
        status, page = await browser.post("/enter", password="not-the-password", **asked)
        assert status == 401 and "This is not the password." in page and "not-the-password" not in page
        assert 'name="visitor"' in page and "grant=" not in page
        status, page = await browser.post("/enter", password=PASSWORD, **asked)
        assert status == 200
        split = urlsplit(onward(page))
        entered = await visit(api, host, split.path, split.query, vclone_pass=mark)
        assert isinstance(entered, Sent) and entered.location == f"http://{host}:8080/a?b=c"
    # The member's session needs none.
    assert "grant=" in (await (await signed_in(api, "viewer")).get(way))[1]
    await api.ask("DELETE", path)
    status, page = await CookieBrowser(api.app).post("/enter", password=PASSWORD, **asked)
    assert status == 400 and "grant=" not in page


async def test_tries_are_few(api: Api) -> None:
    project, host = await preview(api)
    await api.ask("PUT", f"/api/projects/{project.name}/protection/password", json={"password": PASSWORD})
    asked = {"host": host, "visitor": hash_mark(MARK), "to": "/"}
    found = []
    for _ in range(7):
        found.append((await CookieBrowser(api.app).post("/enter", password="wrong-wrong", **asked))[0])
    assert found == [401] * 5 + [429] * 2
    # Nor is the right one taken any more, for now: a refusal says nothing.
    assert (await CookieBrowser(api.app).post("/enter", password=PASSWORD, **asked))[0] == 429


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"host": "none.localhost"}, 404),
        ({"host": ""}, 400),
        ({"host": "evil.example"}, 404),
        ({"host": "http://evil.example/"}, 404),
        ({"host": "a" * 300}, 400),
        ({"host": "a\r\nb"}, 400),
        ({"visitor": ""}, 400),
        ({"visitor": "short"}, 400),
        ({"visitor": '"><script>' + "a" * 33}, 400),
    ],
)
async def test_what_no_edge_asks_is_refused(api: Api, changed: dict[str, str], status: int) -> None:
    _, host = await preview(api)
    browser = await signed_in(api, "owner")
    asked = {"host": host, "visitor": hash_mark(MARK), "to": "/"} | changed
    response = await browser.open("GET", "/enter", query_string=asked)
    page = await response.get_data(as_text=True)
    assert response.status_code == status
    assert "grant=" not in page and "<script>" not in page and "refresh" not in page


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:x", "a", ""])
async def test_the_way_back_is_to_the_site_alone(api: Api, to: str) -> None:
    _, host = await preview(api)
    browser = await signed_in(api, "owner")
    asked = {"host": host, "visitor": hash_mark(MARK), "to": to}
    page = await (await browser.open("GET", "/enter", query_string=asked)).get_data(as_text=True)
    assert onward(page).endswith("&to=%2F") and "evil" not in page


async def test_a_site_that_is_open_is_led_on_to(api: Api) -> None:
    project, _ = await preview(api)
    asked = {"host": f"{project.name}.localhost", "visitor": hash_mark(MARK), "to": "/a"}
    page = await (await CookieBrowser(api.app).open("GET", "/enter", query_string=asked)).get_data(as_text=True)
    assert onward(page) == f"http://{project.name}.localhost:8080/a" and "grant" not in page


async def test_an_old_password_opens_nothing_after_the_change(api: Api) -> None:
    project, host = await preview(api)
    path = f"/api/projects/{project.name}/protection/password"
    await api.ask("PUT", path, json={"password": PASSWORD})
    asked = {"host": host, "visitor": hash_mark(MARK), "to": "/"}
    _, page = await CookieBrowser(api.app).post("/enter", password=PASSWORD, **asked)
    grant = parse_qs(urlsplit(onward(page)).query)["grant"][0]
    assert isinstance(await visit(api, host, vclone_pass=f"{MARK}.{grant}"), Allowed)
    await api.ask("PUT", path, json={"password": PASSWORD})
    assert not isinstance(await visit(api, host, vclone_pass=f"{MARK}.{grant}"), Allowed)


async def test_page_changes_everything_and_shows_secrets_once(api: Api) -> None:
    project, host = await preview(api, "off")
    path = f"/projects/{project.name}/protection"
    browser = await signed_in(api, "owner")
    assert await browser.post(path, covers="previews") == (303, path)
    assert (await browser.post(path, covers="some"))[0] == 400
    status, page = await browser.post(f"{path}/password", password="short")
    assert status == 400 and "Password must have at least 8 characters" in page
    assert await browser.post(f"{path}/password", password=PASSWORD) == (303, path)
    status, page = await browser.post(f"{path}/bypass")
    assert status == 200
    secret = re.search(r"vcp_[0-9A-Za-z]{46}", page)
    status, page = await browser.post(f"{path}/links", of=host, name="<b>Ann", days="7")
    assert status == 200 and "_vclone_share=" in page and "&lt;b&gt;Ann" in page
    status, page = await browser.post(f"{path}/links", of="none", name="", days="7")
    assert status == 404 and 'value="none"' in page
    status, page = await browser.get(path)
    assert status == 200 and secret is not None
    assert secret[0] not in page and "_vclone_share=" not in page and PASSWORD not in page
    assert "A secret was made" in page and host in page
    link = re.search(r"/links/(shr_\w+)/revoke", page)
    assert link is not None
    assert await browser.post(f"{path}/links/{link[1]}/revoke") == (303, path)
    assert await browser.post(f"{path}/bypass/remove") == (303, path)
    assert await browser.post(f"{path}/password/remove") == (303, path)
    assert await browser.post(f"{path}/revoke") == (303, path)
    status, page = await (await signed_in(api, "viewer")).get(path)
    assert status == 200 and "Previews are protected." in page and "<button" not in page.partition("<main")[2]


async def test_only_the_api_knows_what_signs(api: Api) -> None:
    """Neither a stolen edge nor one project's site says what opens another's."""
    (first, one), (second, two) = await preview(api), await preview(api)
    sites = [await deployments.resolve_host(api.platform, host) for host in (one, two)]
    keys = [site.protection.key for site in sites if site is not None and site.protection is not None]
    assert len(set(keys)) == 2
    row = await api.platform.db.fetch_one("fetch_signing_key", first.id)
    assert row is not None and bytes(row["signing_key"]).startswith(b"v1.")
    _, made = await api.ask("POST", f"/api/projects/{second.name}/protection/links", json={"of": two})
    text = made["url"].partition("_vclone_share=")[2]
    assert read_pass(keys[1], text) is not None and read_pass(keys[0], text) is None
    status, told = await api.ask("GET", f"/internal/v1/sites/{one}", "edge")
    assert status == 200 and set(told["protection"]) == {"key", "enter_url", "members", "password", "links", "bypass"}
    assert (await accounts.find_user(api.platform, api.owner))[0].email
