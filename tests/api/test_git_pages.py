"""The dashboard's pages of git hosts, and making a GitHub App from a manifest."""

from __future__ import annotations

import html
import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.host_server import HostServer
from tests.payloads import SHAS, ZERO, GitHubRepository

from vclone_core.actions.gitapps import find_app_access
from vclone_core.actions.projects import update_project
from vclone_core.models import Source
from vclone_core.settings import Settings

from .browser import CookieBrowser
from .conftest import Api
from .shops import GIT_URL, Shop, connected, following
from .test_people_pages import owner_browser, signed_in

A, B, *_ = SHAS


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return following(settings)


def texts_in_code(page: str) -> list[str]:
    return html.unescape(" ".join(re.findall(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL))).split()


async def test_connecting_shows_the_secret_once(api: Api, host: HostServer) -> None:
    browser = await owner_browser(api)
    project = await api.project()
    path = f"/projects/{project.name}/git"
    assert "Connect a repository" in (await browser.get(path))[1]
    form = {"host": "github", "git_url": GIT_URL, "api_url": host.url, "token": "host-token-0123456789"}
    status, page = await browser.post(path, **{**form, "git_url": "nonsense"})
    assert status == 400
    assert "Git url" in page
    status, page = await browser.post(path, **form)
    assert status == 200
    url, secret = texts_in_code(page)
    assert secret.startswith("vcw_")
    _, again = await browser.get(path)
    assert secret not in again
    assert form["token"] not in page + again
    shop = Shop(api, project, GitHubRepository("acme/shop", secret), url.partition("9000")[2], host)
    await api.app.extensions["vclone_live"].desk.stop()
    assert (await shop.deliver(shop.repository.push("main", ZERO, A))).outcome == "deployed"
    assert "deployed" in (await browser.get(path))[1]
    assert await browser.post(f"{path}/delete", x="") == (303, path)
    assert (await shop.send(shop.repository.push("main", A, B)))[0] == 401


async def test_a_fork_is_approved_and_a_delivery_repeated_by_a_button(api: Api, host: HostServer) -> None:
    shop = await connected(api, host)
    browser, path = await owner_browser(api), f"/projects/{shop.project.name}/git"
    fork = shop.repository.pull(9, "main", A, fork="eve/shop", clone_url=GIT_URL.replace("acme", "eve"))
    waiting = await shop.deliver(fork)
    page = (await browser.get(path))[1]
    assert f'name="sha" value="{A}"' in page
    assert "A &lt;b&gt;better&lt;/b&gt; shop" in page
    assert await browser.post(f"{path}/deliveries/{waiting.number}/repeat", x="") == (303, path)
    await shop.settle()
    assert (await browser.post(f"{path}/pulls/9/approve", sha=B))[0] == 409
    status, place = await browser.post(f"{path}/pulls/9/approve", sha=A)
    assert status == 303
    (made,) = await shop.deployments()
    assert place == f"/deployments/{made.id}"
    for wrong in (f"{path}/pulls/x/approve", f"{path}/deliveries/0/repeat"):
        assert (await browser.post(wrong, sha=A))[0] == 404


async def test_what_a_host_refuses_stands_on_the_page(api: Api, host: HostServer) -> None:
    shop = await connected(api, host)
    host.tokens.clear()
    await shop.deliver(shop.repository.push("main", ZERO, A))
    await shop.tell()
    browser, path = await owner_browser(api), f"/projects/{shop.project.name}/git"
    assert "401: Bad credentials" in (await browser.get(path))[1]
    assert await browser.post(f"{path}/reports/repeat", x="") == (303, path)


def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()


async def begin(browser: CookieBrowser, host: HostServer) -> tuple[str, dict[str, object]]:
    """Begin to make an App; return the state and the manifest that the page's form carries."""
    response = await browser.open(
        "POST",
        "/git-apps",
        form={
            "form_token": await browser.form_token(),
            "server": host.url,
            "api_url": host.url,
            "name": "Shop",
            "organisation": "acme",
        },
    )
    page = await response.get_data(as_text=True)
    assert response.status_code == 200, page
    action = html.unescape(re.findall(r'action="([^"]*settings/apps/new[^"]*)"', page)[0])
    assert action.startswith(f"{host.url}/organizations/acme/settings/apps/new?state=")
    assert f"form-action 'self' {host.url};" in response.headers["content-security-policy"]
    manifest = json.loads(html.unescape(re.findall(r'name="manifest" value="([^"]*)"', page)[0]))
    return parse_qs(urlsplit(action).query)["state"][0], manifest


async def test_an_app_is_made_from_a_manifest_and_speaks_for_its_repositories(api: Api, host: HostServer) -> None:
    browser = await owner_browser(api)
    state, manifest = await begin(browser, host)
    assert manifest["default_events"] == ["pull_request", "push"]
    assert str(manifest["redirect_url"]).endswith("/git-apps/callback")
    made = {"id": 4242, "slug": "shop", "html_url": f"{host.url}/apps/shop", "webhook_secret": "app-s-secret"}
    host.manifests["code1"] = {**made, "pem": private_key()}
    other = await signed_in(api)
    assert (await other.get(f"/git-apps/callback?code=code1&state={state}"))[0] == 400
    assert (await browser.get(f"/git-apps/callback?code=co/de&state={state}"))[0] == 400
    assert (await browser.open("GET", f"/git-apps/callback?code=code1&state={state}")).status_code == 303
    assert (await browser.get(f"/git-apps/callback?code=code1&state={state}"))[0] == 400
    page = (await browser.get("/git-apps"))[1]
    assert f"{host.url}/apps/shop/installations/new" in page
    assert "app-s-secret" not in page
    found = re.search(r"/git-apps/(gap_[0-9a-z]{20})/delete", page)
    assert found is not None

    await api.app.extensions["vclone_live"].desk.stop()
    url = f"{host.url}/acme/shop.git"
    projects = [await update_project(api.platform, api.owner, await api.project(), git_url=url) for _ in range(2)]
    shops = []
    for project in projects:
        body = {"host": "github", "api_url": host.url, "git_app_id": found[1]}
        status, answer = await api.ask("PUT", f"/api/projects/{project.name}/git", json=body)
        assert (status, answer["secret"]) == (200, None)
        repository = GitHubRepository("acme/shop", "app-s-secret", app_id="4242")
        shops.append(Shop(api, project, repository, "/api/webhooks/github", host))
    request = shops[0].repository.push("main", ZERO, A)
    assert (await shops[0].send(request))[1] | {"delivery": ""} == {"delivery": "", "projects": 2, "new": 2}
    assert (await shops[0].send(request.with_header("X-GitHub-Hook-Installation-Target-ID", "1")))[0] == 401
    forged = GitHubRepository("acme/shop", "guessed", app_id="4242").push("main", ZERO, B)
    assert (await shops[0].send(forged))[0] == 401
    await shops[0].settle()
    for shop in shops:
        assert [one.source.sha for one in await shop.deployments()] == [A]
    await shops[0].tell()
    assert host.of_sha(A) == ["pending", "pending"]
    source = Source("git", url=url, ref="main", sha=A)
    access = await find_app_access(api.platform, projects[0].id, source)
    assert access is not None
    assert (access.origin, access.token in host.tokens) == (host.url, True)
    for strange in (Source("git", url=f"{host.url}/acme/other.git"), Source("git", url=url, fork="eve/shop")):
        assert await find_app_access(api.platform, projects[0].id, strange) is None

    assert await browser.post(f"/git-apps/{found[1]}/delete", x="") == (303, "/git-apps")
    assert (await shops[0].send(shops[0].repository.push("main", A, B)))[0] == 401
    assert await api.platform.db.fetch("list_sealed_git_secrets", "", 10) == []
