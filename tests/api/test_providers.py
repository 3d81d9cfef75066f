"""Signing in with GitHub, against a stand-in for its OAuth: what must work, and every way to abuse it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

import pytest
from pydantic import SecretStr
from quart import Quart
from tests.oauth_server import CLIENT_ID, CLIENT_SECRET, OAuthServer, Person, serve_oauth

from vclone_api.app import create_app
from vclone_core.actions import invitations, owners, signing_in
from vclone_core.actions.platform import Platform, open_platform
from vclone_core.errors import BadSettings
from vclone_core.models import Actor
from vclone_core.settings import Settings

from .browser import CookieBrowser

CALLBACK = "/sign-in/with/github/callback"


def verified(email: str, **more: bool) -> dict[str, Any]:
    return {"email": email, "primary": True, "verified": True, **more}


ANN = Person(1, "ann", [{"email": "old@example.com", "primary": False, "verified": True}, verified("ann@example.com")])


@dataclass
class Door:
    app: Quart
    platform: Platform
    github: OAuthServer
    owner: Actor

    def with_policy(self, sign_up: str) -> Door:
        settings = self.platform.settings.model_copy(update={"sign_up": sign_up})
        platform = replace(self.platform, settings=settings)
        return replace(self, platform=platform, app=create_app(platform))

    def browser(self) -> CookieBrowser:
        return CookieBrowser(self.app)

    async def begin(self, browser: CookieBrowser, query: str = "") -> str:
        response = await browser.open("GET", f"/sign-in/with/github{query}")
        assert response.status_code == 303
        url: str = response.headers["location"]
        return url

    async def sign_in(self, browser: CookieBrowser, person: Person, query: str = "") -> tuple[int, str]:
        code, state = self.github.consent(await self.begin(browser, query), person)
        return await browser.get(f"{CALLBACK}?code={code}&state={state}")

    async def who(self, browser: CookieBrowser) -> dict[str, Any] | None:
        response = await browser.open("GET", "/api/auth/me")
        return (await response.get_json())["user"] if response.status_code == 200 else None

    async def count_users(self) -> int:
        async with self.platform.db._pool.acquire() as connection:
            return int(await connection.fetchval("select count(*) from users"))


@pytest.fixture
async def door(settings: Settings) -> AsyncIterator[Door]:
    async with serve_oauth() as github:
        provider = {"github": {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "url": github.url}}
        chosen = settings.model_copy(update={"auth_providers": SecretStr(json.dumps(provider)), "sign_up": "open"})
        async with open_platform(chosen) as platform:
            owner = await owners.ensure_owner(platform.db)
            app = create_app(platform)
            async with app.test_app():
                yield Door(app, platform, github, Actor(owner.user.id, owner.team.id, "owner"))


async def test_the_button_is_on_the_page_and_signs_up_and_in(door: Door) -> None:
    browser = door.browser()
    assert 'href="/sign-in/with/github"' in (await browser.get("/sign-in"))[1]
    assert (await door.sign_in(browser, ANN))[0] == 303
    first = await door.who(browser)
    assert first is not None and first["email"] == "ann@example.com" and first["name"] == "ann"
    attempt = next(line for line in browser.set_cookies if line.startswith("vclone_attempt=vcb_"))
    assert "HttpOnly" in attempt and "SameSite=Lax" in attempt and "Path=/" in attempt
    assert "vclone_attempt" not in browser.cookies
    again = door.browser()
    await door.sign_in(again, Person(1, "renamed", [verified("elsewhere@example.com")]))
    assert await door.who(again) == first  # by GitHub's id, whatever its addresses are by now
    form = next(form for what, form in door.github.asked if what == "token")
    assert form["redirect_uri"] == f"{door.platform.settings.api_url}{CALLBACK}"


async def test_whoever_was_on_the_way_somewhere_gets_there(door: Door) -> None:
    browser, wanted = door.browser(), "/enter?host=shop-git-dev.localhost&path=%2Fa%20b"
    page = (await browser.get(f"/sign-in?{urlencode({'next': wanted})}"))[1]
    (link,) = re.findall(r'href="(/sign-in/with/github[^"]*)"', page)
    answer = await door.sign_in(browser, ANN, html.unescape(link).removeprefix("/sign-in/with/github"))
    assert answer[0] == 303 and browser.location == wanted
    for elsewhere in ("//evil.example", "https://evil.example/", "/\\evil.example", "/" + "a" * 4000):
        other = door.browser()
        assert (await door.sign_in(other, ANN, f"?{urlencode({'next': elsewhere})}"))[0] == 303
        assert other.location == "/"
    for path in ("Ly9ldmlsLmV4YW1wbGU=", "no-base64!", "w7-_", ""):  # //evil.example; nonsense; no UTF-8
        other = door.browser()
        code, state = door.github.consent(await door.begin(other), ANN)
        other.cookies["vclone_attempt"] += path
        assert (await other.get(f"{CALLBACK}?code={code}&state={state}"))[0] == 303
        assert other.location == "/"


async def test_a_state_is_of_one_browser(door: Door) -> None:
    victim, attacker = door.browser(), door.browser()
    code, state = door.github.consent(await door.begin(attacker), Person(666, "mallory", [verified("m@example.com")]))
    await door.begin(victim)
    assert (await victim.get(f"{CALLBACK}?code={code}&state={state}"))[0] == 400
    assert (await door.browser().get(f"{CALLBACK}?code={code}&state={state}"))[0] == 400
    assert await door.who(victim) is None
    assert (await attacker.get(f"{CALLBACK}?code={code}&state={state}"))[0] == 303  # its own still works


@pytest.mark.parametrize("query", ["", "code=x", "code=x&state=", "code=x&state=vco_x", "error=access_denied&state=x"])
async def test_a_callback_that_nobody_began_is_refused(door: Door, query: str) -> None:
    browser = door.browser()
    await door.begin(browser)
    assert (await browser.get(f"{CALLBACK}?{query}"))[0] == 400
    assert not door.github.asked


async def test_a_state_and_a_code_are_good_once(door: Door) -> None:
    browser = door.browser()
    code, state = door.github.consent(await door.begin(browser), ANN)
    kept = dict(browser.cookies)
    assert (await browser.get(f"{CALLBACK}?code={code}&state={state}"))[0] == 303
    browser.cookies = kept
    assert (await browser.get(f"{CALLBACK}?code={code}&state={state}"))[0] == 400
    _, fresh = door.github.consent(await door.begin(browser), ANN)
    assert (await browser.get(f"{CALLBACK}?code={code}&state={fresh}"))[0] == 401  # GitHub refuses the used code


async def test_an_attempt_is_too_old_after_its_time(door: Door) -> None:
    browser = door.browser()
    code, state = door.github.consent(await door.begin(browser), ANN)
    async with door.platform.db._pool.acquire() as connection:
        await connection.execute("update provider_attempts set expires_at = now()")
    assert (await browser.get(f"{CALLBACK}?code={code}&state={state}"))[0] == 400


async def test_an_address_alone_links_no_account(door: Door) -> None:
    await signing_in.sign_up(
        door.platform, email="ann@example.com", password="a password of ann", name="Ann", invitation=None, address=""
    )
    users = await door.count_users()
    browser = door.browser()
    status, text = await door.sign_in(browser, ANN)
    assert status == 409 and "connect GitHub on your account" in text
    assert await door.who(browser) is None and await door.count_users() == users


async def test_an_unverified_address_makes_no_account(door: Door) -> None:
    browser = door.browser()
    claimed = Person(2, "eve", [{"email": "owner@localhost", "primary": True, "verified": False}])
    assert (await door.sign_in(browser, claimed))[0] == 403
    assert await door.who(browser) is None


async def test_an_account_is_connected_by_who_is_signed_in(door: Door) -> None:
    browser = door.browser()
    await signing_in.sign_up(
        door.platform, email="bob@example.com", password="a password of bob", name="", invitation=None, address=""
    )
    assert (await browser.get("/sign-in/with/github?connect=1"))[0] == 403  # by nobody
    await browser.post("/sign-in", email="bob@example.com", password="a password of bob")
    assert (await door.sign_in(browser, ANN, "?connect=1"))[0] == 303
    other = door.browser()
    await door.sign_in(other, ANN)
    found = await door.who(other)
    assert found is not None and found["email"] == "bob@example.com"
    thief = door.browser()
    await signing_in.sign_up(
        door.platform, email="eve@example.com", password="a password of eve", name="", invitation=None, address=""
    )
    await thief.post("/sign-in", email="eve@example.com", password="a password of eve")
    assert (await door.sign_in(thief, ANN, "?connect=1"))[0] == 409  # it is bob's already
    assert (await browser.post("/account/providers/github/disconnect"))[0] == 303
    assert "Connect" in (await browser.get("/account"))[1]


async def test_by_invitation_the_address_must_be_verified_there(door: Door) -> None:
    door = door.with_policy("invite")
    uninvited = door.browser()
    assert (await door.sign_in(uninvited, ANN))[0] == 403
    made = await invitations.invite(door.platform, door.owner, email="ann@example.com", role="viewer")
    eve = door.browser()
    other = Person(3, "eve", [verified("eve@example.com")])
    assert (await door.sign_in(eve, other, f"?invitation={made.token}"))[0] == 403
    ann = door.browser()
    assert (await door.sign_in(ann, ANN, f"?invitation={made.token}"))[0] == 303
    assert "viewer" in (await ann.get("/teams"))[1]
    late = door.browser()
    assert (await door.sign_in(late, Person(4, "x", [verified("ann@example.com")]), f"?invitation={made.token}"))[
        0
    ] == 404


async def test_a_provider_that_fails_is_said_to_be_away(door: Door) -> None:
    door.github.is_broken = True
    browser = door.browser()
    status, text = await door.sign_in(browser, ANN)
    assert status == 503 and "GitHub" in text and "Traceback" not in text


async def test_a_provider_nobody_offers_is_refused_at_the_start(settings: Settings) -> None:
    for text in ('{"gitfoo": {"client_id": "a", "client_secret": "b"}}', '{"github": {"client_id": "a"}}', "[]", "{"):
        with pytest.raises(BadSettings):
            async with open_platform(settings.model_copy(update={"auth_providers": SecretStr(text)})):
                pass
