"""The pages of accounts and teams, as a browser without scripts uses them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from vclone_api.app import create_app
from vclone_core.actions import accounts, owners, signing_in, teams, tokens
from vclone_core.actions.platform import Platform

from .browser import CookieBrowser
from .conftest import Api
from .test_people import PASSWORD


async def person(platform: Platform, email: str, name: str = "") -> None:
    """A user with a password, whatever the policy."""
    opened = replace(platform, settings=platform.settings.model_copy(update={"sign_up": "open"}))
    await signing_in.sign_up(opened, email=email, password=PASSWORD, name=name, invitation=None, address="")


async def signed_in(api: Api, email: str = "ann@example.com") -> CookieBrowser:
    await person(api.platform, email)
    browser = CookieBrowser(api.app)
    assert await browser.post("/sign-in", email=email, password=PASSWORD) == (303, "/")
    return browser


async def owner_browser(api: Api) -> CookieBrowser:
    browser = CookieBrowser(api.app)
    await browser.post(f"/sign-in/{await owners.sign_in_link(api.platform.db, api.owner.user_id)}", x="")
    return browser


async def test_signing_in_with_a_password(api: Api) -> None:
    await person(api.platform, "ann@example.com", "Ann")
    browser = CookieBrowser(api.app)
    status, page = await browser.post("/sign-in", email="ann@example.com", password="wrong password")
    assert status == 401 and "The address or the password is not right." in page
    assert 'value="ann@example.com"' in page and "wrong password" not in page
    assert "vclone_session" not in browser.cookies
    assert await browser.post("/sign-in", email="ann@example.com", password=PASSWORD, next="/tokens") == (
        303,
        "/tokens",
    )
    cookie = next(line for line in browser.set_cookies if line.startswith("vclone_session="))
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; ")) and "Domain" not in cookie
    assert "ann@example.com" in (await browser.get("/"))[1]


@pytest.mark.parametrize(
    "place", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/\nx"]
)
async def test_signing_in_leads_to_no_other_host(api: Api, place: str) -> None:
    await person(api.platform, "ann@example.com")
    browser = CookieBrowser(api.app)
    assert await browser.post("/sign-in", email="ann@example.com", password=PASSWORD, next=place) == (303, "/")


async def test_a_page_that_needs_a_sign_in_comes_after_it(api: Api) -> None:
    status, page = await CookieBrowser(api.app).get("/device?code=BCDF-GHJK")
    assert status == 401
    assert 'name="next" value="/device?code=BCDF-GHJK"' in page


async def test_too_many_tries_are_said_on_the_page(api: Api) -> None:
    browser = CookieBrowser(api.app)
    statuses = [(await browser.post("/sign-in", email="a@example.com", password="x"))[0] for _ in range(6)]
    assert statuses[:5] == [401] * 5
    response = await browser.open("POST", "/sign-in", form={"email": "a@example.com", "password": "x"})
    assert response.status_code == 429 and response.headers["retry-after"]


async def test_an_invitation_from_the_page_to_the_team(api: Api) -> None:
    owner = await owner_browser(api)
    status, page = await owner.post("/team/invitations", email="new@example.com", role="viewer")
    link = re.search(r"/invitations/vci_\w+", page)
    assert status == 200 and link is not None
    assert link[0] not in (await owner.get("/team"))[1]  # this once
    guest = CookieBrowser(api.app)
    status, page = await guest.get(link[0])
    assert status == 200 and "<strong>new@example.com</strong> is invited as viewer" in page
    form = dict(re.findall(r'name="(\w+)" (?:type="\w+" )?value="([^"]*)"', page))
    assert link[0].endswith(form["invitation"])
    status, page = await guest.post("/sign-up", **{**form, "password": "short"})
    assert status == 400 and "Password must have at least 12 characters." in page
    assert await guest.post("/sign-up", **{**form, "name": "New", "password": PASSWORD}) == (303, "/")
    assert "viewer" in (await guest.get("/teams"))[1]
    assert (await CookieBrowser(api.app).get(link[0]))[0] == 404  # used


async def test_an_invitation_is_accepted_by_its_address_only(api: Api) -> None:
    owner, ann, eve = await owner_browser(api), await signed_in(api), await signed_in(api, "eve@example.com")
    _, page = await owner.post("/team/invitations", email="ann@example.com", role="developer")
    link = re.search(r"/invitations/vci_\w+", page)
    assert link is not None
    assert "Sign out, and open this link again" in (await eve.get(link[0]))[1]
    assert (await eve.post(link[0]))[0] == 403
    assert "Join the team" in (await ann.get(link[0]))[1]
    assert await ann.post(link[0]) == (303, "/")
    assert '<a class="team" href="/teams" title="Your teams">Owner</a>' in (await ann.get("/"))[1]


async def test_going_over_to_another_team_and_back(api: Api) -> None:
    project = await api.project()
    ann = await signed_in(api)
    user = await api.platform.db.fetch_one("fetch_user_by_email", "ann@example.com")
    assert user is not None
    await api.platform.db.execute("insert_member", api.owner.team_id, user["id"], "viewer")
    assert (await ann.get(f"/projects/{project.name}"))[0] == 404
    assert await ann.post("/teams/owner/choose") == (303, "/")
    assert (await ann.get(f"/projects/{project.name}"))[0] == 200
    assert (await ann.post("/teams/nobodys/choose"))[0] == 404
    status, place = await ann.post("/teams", name="Blue Crew")
    assert (status, place) == (303, "/team")
    assert "Blue Crew" in (await ann.get("/team"))[1]
    await ann.post("/team/delete", slug="wrong")
    assert "Blue Crew" in (await ann.get("/teams"))[1]
    assert await ann.post("/team/delete", slug="blue-crew") == (303, "/teams")
    assert "Blue Crew" not in (await ann.get("/teams"))[1]


async def test_a_member_is_changed_on_their_page(api: Api) -> None:
    project, other = await api.project(), await api.project()
    viewer = await accounts.actor_from_token(api.platform, api.callers["viewer"])
    owner = await owner_browser(api)
    path = f"/team/members/{viewer.user_id}"
    assert other.name in (await owner.get(path))[1]
    form = {"role": "developer", "access": "some", f"project:{project.id}": "on"}
    assert await owner.post(path, **form) == (303, "/team")
    (found,) = [m for m in await teams.list_members(api.platform, api.owner) if m.user.id == viewer.user_id]
    assert (found.role, found.projects) == ("developer", (project.id,))
    status, page = await owner.post(path, role="admin", access="some")
    assert status == 409 and "an admin sees every project" in page
    assert await owner.post(path, role="viewer", access="all") == (303, "/team")
    assert await owner.post(f"{path}/remove") == (303, "/team")
    status, page = await owner.post(f"/team/members/{api.owner.user_id}/remove")
    assert status == 409 and "this is the last" in page


async def test_a_token_is_shown_once_and_revoked(api: Api) -> None:
    owner = await owner_browser(api)
    status, page = await owner.post("/tokens", name="ci", scope="deploy", days="30")
    token = re.search(r"vct_\w+", page)
    assert status == 200 and token is not None
    api.callers["ci"] = token[0]
    assert (await api.ask("GET", "/api/projects", "ci"))[0] == 200
    page = (await owner.get("/tokens"))[1]
    assert token[0] not in page
    revoke = re.search(r"/tokens/tok_\w+/revoke", page)
    assert revoke is not None
    assert await owner.post(revoke[0]) == (303, "/tokens")
    assert (await api.ask("GET", "/api/projects", "ci"))[0] == 401
    for form in (
        {"name": "", "scope": "read"},
        {"name": "x", "scope": "all"},
        {"name": "x", "scope": "read", "days": "9"},
    ):
        assert (await owner.post("/tokens", **form))[0] == 400


async def test_the_account_page(api: Api) -> None:
    browser, elsewhere = await signed_in(api), CookieBrowser(api.app)
    await elsewhere.post("/sign-in", email="ann@example.com", password=PASSWORD)
    page = (await browser.get("/account"))[1]
    assert page.count("this one") == 1
    ending = re.search(r"/account/sessions/ses_\w+/end", page)
    assert ending is not None
    assert await browser.post(ending[0]) == (303, "/account")
    assert (await elsewhere.get("/account"))[0] == 401
    status, page = await browser.post("/account", name="Ann", email="new@example.com", current_password="wrong")
    assert status == 401 and "The current password is not right." in page
    assert await browser.post("/account", name="Ann", email="ann@example.com") == (303, "/account")
    changed = {"current_password": PASSWORD, "password": "another long password"}
    assert await browser.post("/account/password", **changed) == (303, "/account")
    assert (await browser.get("/account"))[0] == 200


async def test_a_computer_is_signed_in_or_refused(api: Api) -> None:
    owner = await owner_browser(api)
    device, code = await tokens.begin_device_login(api.platform, client="<b>laptop</b>", address="192.0.2.1")
    status, page = await owner.get(f"/device?code={code.lower()}")
    assert status == 200 and "&lt;b&gt;laptop&lt;/b&gt;" in page and "192.0.2.1" in page
    status, page = await owner.post("/device", code=code, decision="approve")
    assert status == 200 and "Signed in" in page
    assert (await tokens.poll_device_login(api.platform, device))[0] == "approved"
    assert (await owner.post("/device", code=code, decision="approve"))[0] == 404
    device, code = await tokens.begin_device_login(api.platform, client="", address="")
    await owner.post("/device", code=code, decision="anything else")
    assert (await tokens.poll_device_login(api.platform, device))[0] == "denied"


async def test_forms_of_another_site_change_nothing(api: Api) -> None:
    owner = await owner_browser(api)
    token = await owner.form_token()
    cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in owner.cookies.items())}
    device, code = await tokens.begin_device_login(api.platform, client="", address="")
    forged: list[tuple[str, dict[str, str]]] = [
        ("/device", {"code": code, "decision": "approve"}),
        ("/tokens", {"name": "x", "scope": "admin", "days": "7"}),
        ("/team/invitations", {"email": "eve@example.com", "role": "owner"}),
        ("/account/password", {"password": "a password of eve"}),
    ]
    for path, form in forged:
        for headers, secret in (({}, ""), ({"Sec-Fetch-Site": "cross-site"}, token), ({"Origin": "null"}, token)):
            response = await api.app.test_client().post(
                path, form={**form, "form_token": secret}, headers={**cookies, **headers}
            )
            assert response.status_code == 403, (path, headers)
    assert (await tokens.poll_device_login(api.platform, device))[0] == "pending"


async def test_what_people_write_stays_text(api: Api) -> None:
    evil = '<img src=x onerror="alert(1)">'
    owner = await owner_browser(api)
    await owner.post("/account", name=evil, email="owner@localhost")
    await owner.post("/teams", name=evil)
    await owner.post("/tokens", name=evil, scope="read", days="7")
    await owner.post("/team/invitations", email='"<img>"@example.com', role="viewer")
    for path in ("/", "/account", "/team", "/teams", "/tokens", "/audit"):
        page = (await owner.get(path))[1]
        assert "<img src=x" not in page and "<img>" not in page, path


async def test_sign_up_is_offered_where_it_is_open(api: Api) -> None:
    browser = CookieBrowser(api.app)
    assert "/sign-up" not in (await browser.get("/sign-in"))[1]
    open_settings = api.platform.settings.model_copy(update={"sign_up": "open"})
    guest = CookieBrowser(create_app(replace(api.platform, settings=open_settings)))
    assert "/sign-up" in (await guest.get("/sign-in"))[1]
    status, page = await guest.post("/sign-up", email="a@example.com", name="A", password="short")
    assert status == 400 and 'value="a@example.com"' in page
    assert await guest.post("/sign-up", email="a@example.com", name="A", password=PASSWORD) == (303, "/")


async def test_no_secret_of_a_path_reaches_log_or_audit(api: Api, logged: Callable[[], str]) -> None:
    owner = await owner_browser(api)
    _, page = await owner.post("/team/invitations", email="ann@example.com", role="viewer")
    found = re.search(r"vci_\w+", page)
    assert found is not None
    await owner.get(f"/invitations/{found[0]}")
    await owner.post(f"/invitations/{found[0]}")
    assert found[0] not in logged()
    entries: Any = (await api.ask("GET", "/api/audit"))[1]
    assert "vci_" not in str(entries) and "vcl_" not in str(entries)
