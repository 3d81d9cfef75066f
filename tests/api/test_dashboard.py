"""The dashboard's pages: who sees what, what forms need, and that nothing a stranger wrote becomes markup."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from vclone_dashboard.pages import PAGES, PROJECTS_SHOWN

from vclone_api.app import create_app
from vclone_core.actions import accounts, deployments, owners
from vclone_core.models import Actor, Source
from vclone_core.stores import buildlogs
from vclone_core.stores.buildlogs import NewLine

from .conftest import Api, add_caller


class Browser:
    """One signed-in (or not) browser. `session` is its cookie."""

    def __init__(self, api: Api, session: str | None = None) -> None:
        self._api = api
        self.session = session

    async def get(self, path: str) -> tuple[int, str]:
        response = await self._open("GET", path)
        return response.status_code, await response.get_data(as_text=True)

    async def post(self, path: str, *, token: str | None = "own", **headers: str) -> Any:
        form = {"form_token": await self.form_token() if token == "own" else token} if token is not None else {}
        return await self._open("POST", path, form=form or {"x": ""}, headers=headers)

    async def form_token(self) -> str:
        if self.session is None:
            return ""
        found = re.search(r'name="form_token" value="([0-9a-f]{64})"', (await self.get("/"))[1])
        assert found is not None
        return found[1]

    async def _open(self, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any) -> Any:
        headers = {key.replace("_", "-"): value for key, value in (headers or {}).items()}
        if self.session is not None:
            headers["Cookie"] = f"vclone_session={self.session}"
        return await self._api.app.test_client().open(path, method=method, headers=headers, **more)


async def session_of(api: Api, user_id: str) -> str:
    return await accounts.redeem_sign_in_link(api.platform, await owners.sign_in_link(api.platform.db, user_id))


async def browser_of(api: Api, caller: str) -> Browser:
    actor = await accounts.actor_from_token(api.platform, api.callers[caller])
    return Browser(api, await session_of(api, actor.user_id))


# What each page answers to: nobody, the owner of another team, a viewer of this team, its owner. Forms are whole.
MATRIX: dict[str, tuple[int, int, int, int]] = {
    "GET /": (200, 200, 200, 200),
    "GET /sign-in": (200, 303, 303, 303),
    "POST /sign-in": (401, 401, 401, 401),
    "GET /sign-in/with/<provider>": (404, 404, 404, 404),
    "GET /sign-in/with/<provider>/callback": (404, 404, 404, 404),
    "GET /sign-up": (403, 403, 403, 403),
    "POST /sign-up": (403, 403, 403, 403),
    "GET /invitations/<token>": (404, 404, 404, 404),
    "POST /invitations/<token>": (401, 404, 404, 404),
    "GET /account": (401, 200, 200, 200),
    "POST /account": (401, 400, 400, 400),
    "POST /account/password": (401, 400, 400, 400),
    "POST /account/sessions/<session>/end": (401, 404, 404, 404),
    "POST /account/providers/<provider>/disconnect": (401, 409, 409, 409),
    "GET /device": (401, 200, 200, 200),
    "POST /device": (401, 404, 404, 404),
    "GET /team": (401, 200, 200, 200),
    "POST /team": (401, 400, 403, 400),
    "POST /team/delete": (401, 400, 403, 400),
    "POST /team/invitations": (401, 400, 403, 400),
    "POST /team/invitations/<invitation>/revoke": (401, 404, 403, 404),
    "GET /team/members/<user>": (401, 404, 404, 404),
    "POST /team/members/<user>": (401, 404, 403, 404),
    "POST /team/members/<user>/remove": (401, 404, 404, 404),
    "GET /teams": (401, 200, 200, 200),
    "POST /teams": (401, 400, 400, 400),
    "POST /teams/<slug>/choose": (401, 404, 404, 404),
    "GET /tokens": (401, 200, 200, 200),
    "POST /tokens": (401, 400, 400, 400),
    "POST /tokens/<token>/revoke": (401, 404, 404, 404),
    "GET /audit": (401, 200, 403, 200),
    "GET /sign-in/<token>": (200, 200, 200, 200),
    "POST /sign-in/<token>": (401, 401, 401, 401),
    "POST /sign-out": (401, 303, 303, 303),
    "GET /projects/<project>": (401, 404, 200, 200),
    "POST /projects/<project>/rollback": (401, 404, 403, 409),
    "GET /projects/<project>/env": (401, 404, 200, 200),
    "POST /projects/<project>/env": (401, 404, 403, 400),
    "POST /projects/<project>/env/<variable>/delete": (401, 404, 403, 404),
    "GET /projects/<project>/git": (401, 404, 200, 200),
    "POST /projects/<project>/git": (401, 404, 403, 400),
    "POST /projects/<project>/git/delete": (401, 404, 403, 404),
    "POST /projects/<project>/git/deliveries/<delivery>/repeat": (401, 404, 403, 404),
    "POST /projects/<project>/git/reports/repeat": (401, 404, 403, 303),
    "POST /projects/<project>/git/pulls/<number>/approve": (401, 404, 403, 404),
    "GET /git-apps": (401, 200, 403, 200),
    "POST /git-apps": (401, 200, 403, 200),
    "GET /git-apps/callback": (401, 400, 403, 400),
    "POST /git-apps/<app>/delete": (401, 404, 403, 404),
    "GET /projects/<project>/domains": (401, 404, 200, 200),
    "POST /projects/<project>/domains": (401, 404, 403, 400),
    "POST /projects/<project>/domains/<domain>/verify": (401, 404, 403, 404),
    "POST /projects/<project>/domains/<domain>/redirect": (401, 404, 403, 404),
    "POST /projects/<project>/domains/<domain>/delete": (401, 404, 403, 404),
    "GET /projects/<project>/protection": (401, 404, 200, 200),
    "POST /projects/<project>/protection": (401, 404, 403, 400),
    "POST /projects/<project>/protection/password": (401, 404, 403, 400),
    "POST /projects/<project>/protection/password/remove": (401, 404, 403, 303),
    "POST /projects/<project>/protection/revoke": (401, 404, 403, 303),
    "POST /projects/<project>/protection/bypass": (401, 404, 403, 200),
    "POST /projects/<project>/protection/bypass/remove": (401, 404, 403, 303),
    "POST /projects/<project>/protection/links": (401, 404, 403, 400),
    "POST /projects/<project>/protection/links/<link>/revoke": (401, 404, 403, 404),
    "GET /enter": (400, 400, 400, 400),
    "POST /enter": (400, 400, 400, 400),
    "GET /webhooks": (401, 200, 403, 200),
    "POST /webhooks": (401, 400, 403, 400),
    "GET /webhooks/<webhook>": (401, 404, 403, 404),
    "POST /webhooks/<webhook>/enable": (401, 404, 403, 404),
    "POST /webhooks/<webhook>/disable": (401, 404, 403, 404),
    "POST /webhooks/<webhook>/ping": (401, 404, 403, 404),
    "POST /webhooks/<webhook>/delete": (401, 404, 403, 404),
    "POST /webhooks/<webhook>/deliveries/<delivery>/redeliver": (401, 404, 403, 404),
    "GET /deployments/<deployment>": (401, 404, 200, 200),
    "POST /deployments/<deployment>/cancel": (401, 404, 403, 409),
    "POST /deployments/<deployment>/redeploy": (401, 404, 403, 303),
    "POST /deployments/<deployment>/promote": (401, 404, 403, 303),
}


def test_the_matrix_has_every_page() -> None:
    assert set(MATRIX) == {f"{page.method} {page.path}" for page in PAGES}


async def test_who_sees_which_page(api: Api) -> None:
    project = await api.project()
    deployment = await api.live(project)
    # A session is of one's own team; this viewer has none, and is given the owner's team as the only one.
    browsers = [Browser(api)] + [await browser_of(api, caller) for caller in ("stranger", "viewer", "owner")]
    pages = sorted(PAGES, key=lambda page: page.path == "/sign-out")  # it ends the sessions: last
    for page in pages:
        path = page.path.replace("<project>", project.name).replace("<deployment>", deployment.id)
        path = path.replace("<token>", "vcl_none")
        path = re.sub(r"<\w+>", "none", path)
        statuses = []
        for browser in browsers:
            if page.method == "GET":
                status, text = await browser.get(path)
                assert "<html" in text
            else:
                status = (await browser.post(path)).status_code
            statuses.append(status)
        assert tuple(statuses) == MATRIX[f"{page.method} {page.path}"], f"{page.method} {page.path}"


async def test_looking_at_a_sign_in_link_does_not_spend_it(api: Api) -> None:
    link = await owners.sign_in_link(api.platform.db, api.owner.user_id)
    visitor = Browser(api)
    for _ in range(3):
        status, text = await visitor.get(f"/sign-in/{link}")
        assert status == 200 and '<form method="post">' in text
    response = await visitor.post(f"/sign-in/{link}")
    assert (response.status_code, response.headers["location"]) == (303, "/")
    cookie = response.headers["set-cookie"]
    assert re.match(r"vclone_session=vcs_\w+;", cookie)
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Path=/" in cookie and "Secure" not in cookie
    again = await visitor.post(f"/sign-in/{link}")
    assert again.status_code == 401
    assert "This link was used or is too old" in await again.get_data(as_text=True)


async def test_over_tls_the_cookie_is_bound_to_the_host(api: Api) -> None:
    secure = replace(
        api.platform, settings=api.platform.settings.model_copy(update={"api_url": "https://vclone.example"})
    )
    link = await owners.sign_in_link(api.platform.db, api.owner.user_id)
    response = await create_app(secure).test_client().post(f"/sign-in/{link}", form={"x": ""})
    cookie = response.headers["set-cookie"]
    assert cookie.startswith("__Host-vclone_session=")
    assert "Secure" in cookie and "Path=/" in cookie and "Domain" not in cookie
    assert response.headers["strict-transport-security"]


FORGED: list[tuple[str, dict[str, Any]]] = [
    ("no token", {"token": None}),
    ("a wrong token", {"token": "0" * 64}),
    ("a letter that is not ASCII", {"token": "é"}),
    ("from another site", {"Sec_Fetch_Site": "cross-site"}),
    ("from a sibling host", {"Sec_Fetch_Site": "same-site"}),
    ("from another origin", {"Origin": "http://shop.localhost:8080"}),
]


@pytest.mark.parametrize("sent", [row[1] for row in FORGED], ids=[row[0] for row in FORGED])
async def test_a_forged_form_changes_nothing(api: Api, sent: dict[str, Any]) -> None:
    project = await api.project()
    first, second = await api.live(project), await api.live(project)
    browser = await browser_of(api, "owner")
    response = await browser.post(f"/deployments/{first.id}/promote", **sent)
    assert response.status_code == 403
    aliases = await deployments.list_aliases(api.platform, api.owner, project)
    assert {alias.deployment_id for alias in aliases if alias.kind == "production"} == {second.id}


async def test_a_form_token_is_of_one_session(api: Api) -> None:
    project = await api.project()
    deployment = await api.live(project)
    stolen = await (await browser_of(api, "stranger")).form_token()
    response = await (await browser_of(api, "owner")).post(f"/deployments/{deployment.id}/redeploy", token=stolen)
    assert response.status_code == 403


async def test_signing_in_by_a_form_of_another_site_is_refused(api: Api) -> None:
    link = await owners.sign_in_link(api.platform.db, api.owner.user_id)
    assert (await Browser(api).post(f"/sign-in/{link}", Origin="http://evil.example")).status_code == 403
    assert (await Browser(api).post(f"/sign-in/{link}")).status_code == 303


async def test_signing_out_ends_the_session_itself(api: Api) -> None:
    browser = await browser_of(api, "owner")
    response = await browser.post("/sign-out", Sec_Fetch_Site="same-origin")
    assert response.status_code == 303
    assert "Max-Age=0" in response.headers["set-cookie"]
    assert "vclone dashboard" in (await browser.get("/"))[1]  # the copied cookie opens nothing


async def test_promote_and_roll_back_by_hand(api: Api) -> None:
    project = await api.project()
    first, second = await api.live(project), await api.live(project)
    browser = await browser_of(api, "owner")
    assert (await browser.post(f"/projects/{project.name}/rollback")).status_code == 303
    text = (await browser.get(f"/projects/{project.name}"))[1]
    assert "Paused since a rollback" in text and f'href="/deployments/{first.id}"' in text
    assert (await browser.post(f"/deployments/{second.id}/promote")).status_code == 303
    assert "Paused since a rollback" not in (await browser.get(f"/projects/{project.name}"))[1]


async def test_a_viewer_sees_no_buttons(api: Api) -> None:
    project = await api.project()
    first, _ = await api.live(project), await api.live(project)
    viewer = await browser_of(api, "viewer")
    for path in (f"/projects/{project.name}", f"/projects/{project.name}/env", f"/deployments/{first.id}"):
        text = (await viewer.get(path))[1]
        assert re.findall(r'<form method="post" action="([^"]*)"', text) == ["/sign-out"]


async def test_what_a_build_prints_stays_text(api: Api) -> None:
    evil = '<img src=x onerror="alert(1)">'
    project = await api.project()
    source = Source("git", url="https://git.example/x.git", ref=evil, message=evil)
    await deployments.request_deployment(api.platform, api.owner, project, source)
    claim = await api.claim()
    lines = [NewLine("build", "stdout", evil, datetime.now(UTC))]
    await buildlogs.append(api.platform.db, claim.fence, lines, cap_bytes=10**6)
    browser = await browser_of(api, "owner")
    for path in ("/", f"/projects/{project.name}", f"/deployments/{claim.deployment.id}"):
        text = (await browser.get(path))[1]
        assert "<img src=x" not in text and "&lt;img src=x" in text


async def test_pages_keep_to_their_content_policy(api: Api) -> None:
    project = await api.project()
    waiting = await api.queued(project)
    browser = await browser_of(api, "owner")
    static = set()
    paths = ("/", f"/projects/{project.name}", f"/deployments/{waiting.id}", "/nothing")
    for path in (
        *paths,
        f"/projects/{project.name}/env",
        "/account",
        "/team",
        "/teams",
        "/tokens",
        "/audit",
        "/device",
    ):
        text = (await browser.get(path))[1]
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text)
        assert not re.search(r"<script(?! src=)", text)
        static |= set(re.findall(r'(?:src|href)="(/static/[^"]+)"', text))
    assert {re.sub(r"\?.*", "", name) for name in static} == {
        "/static/vclone.css",
        "/static/mark.svg",
        "/static/live.js",
    }
    for name in static:
        response = await api.response("GET", name, None)
        assert response.status_code == 200
        assert "immutable" in response.headers["cache-control"]
    assert (await api.response("GET", "/static/../pages.py", None)).status_code == 404


async def test_no_sign_in_token_reaches_the_log(api: Api, logged: Callable[[], str]) -> None:
    link = await owners.sign_in_link(api.platform.db, api.owner.user_id)
    for method in ("GET", "POST", "PUT"):
        await api.response(method, f"/sign-in/{link}", None)
    assert "request.answered" in logged()
    assert link not in logged()


async def test_a_user_without_a_team_of_their_own_sees_the_one_they_are_in(api: Api) -> None:
    await api.project()
    token = await add_caller(api.platform, role="viewer", team_id=api.owner.team_id)
    actor: Actor = await accounts.actor_from_token(api.platform, token)
    browser = Browser(api, await session_of(api, actor.user_id))
    assert "Nothing is deployed yet" not in (await browser.get("/"))[1]


async def test_more_projects_than_a_page_holds_are_a_link_away(api: Api) -> None:
    made = [await api.project() for _ in range(PROJECTS_SHOWN + 2)]
    browser = await browser_of(api, "owner")
    _, first = await browser.get("/")
    link = re.search(r'href="(\?before=prj_\w+)">Older projects', first)
    assert link is not None and made[-1].name in first and made[0].name not in first
    _, second = await browser.get(f"/{link[1]}")
    assert made[0].name in second and made[1].name in second and made[-1].name not in second
    assert "Older projects" not in second
