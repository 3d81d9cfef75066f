"""Webhooks of git hosts: who is believed, what is kept, and what a push comes to."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Callable

import pytest
from tests.host_server import TOKEN, HostServer
from tests.payloads import SHAS, ZERO, Request

from vclone_core.actions import deliveries
from vclone_core.actions.gitreports import HostDesk
from vclone_core.models import State
from vclone_core.settings import Settings
from vclone_core.stores import records

from .conftest import Api
from .shops import GIT_URL, Shop, connected, following

A, B, C, D, *_ = SHAS


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return following(settings)


# What a stranger may try with a genuine push in hand -> what it is answered.
def resigned(request: Request, secret: str, name: str = "X-Hub-Signature-256", kind: str = "sha256") -> Request:
    digest = hmac.new(secret.encode(), request.body, getattr(hashlib, kind)).hexdigest()
    return request.with_header(name, f"{kind}={digest}")


def signature(request: Request) -> str:
    return request.header("x-hub-signature-256")


def changed(request: Request, change: Callable[[bytes], bytes]) -> Request:
    return Request(request.headers, change(request.body))


def doubled(request: Request, name: str, value: str) -> Request:
    return Request((*request.headers, (name, value)), request.body)


def of_type(request: Request, secret: str, encoding: str, charset: str) -> Request:
    """The same text in another encoding, rightly signed."""
    other = Request(request.headers, request.body.decode().replace("Change it", "Ändere es").encode(encoding))
    return resigned(other, secret).with_header("Content-Type", f"application/json; charset={charset}")


FORGERIES: dict[str, tuple[Callable[[Request, str], Request], int]] = {
    "wrong secret": (lambda r, s: resigned(r, "guessed"), 401),
    "empty secret": (lambda r, s: resigned(r, ""), 401),
    "no signature": (lambda r, s: r.without("x-hub-signature-256", "x-hub-signature"), 401),
    "sha1 only": (lambda r, s: r.without("x-hub-signature-256"), 401),
    "sha1 in the place of sha256": (
        lambda r, s: r.with_header("X-Hub-Signature-256", r.header("x-hub-signature")),
        401,
    ),
    "sha1 called sha256": (
        lambda r, s: r.with_header("X-Hub-Signature-256", r.header("x-hub-signature").replace("sha1", "sha256")),
        401,
    ),
    "truncated": (lambda r, s: r.with_header("X-Hub-Signature-256", signature(r)[:-1]), 401),
    "truncated to its scheme": (lambda r, s: r.with_header("X-Hub-Signature-256", "sha256="), 401),
    "longer": (lambda r, s: r.with_header("X-Hub-Signature-256", signature(r) + "0"), 401),
    "upper case": (lambda r, s: r.with_header("X-Hub-Signature-256", "sha256=" + signature(r)[7:].upper()), 401),
    "without its scheme": (lambda r, s: r.with_header("X-Hub-Signature-256", signature(r)[7:]), 401),
    "not ASCII": (lambda r, s: r.with_header("X-Hub-Signature-256", "sha256=" + "é" * 64), 401),
    "one digit": (lambda r, s: r.with_header("X-Hub-Signature-256", signature(r)[:-1] + "z"), 401),
    "two signatures, one right": (lambda r, s: doubled(r, "X-Hub-Signature-256", "sha256=" + "0" * 64), 401),
    "two signatures, both right": (lambda r, s: doubled(r, "X-Hub-Signature-256", signature(r)), 401),
    "two events": (lambda r, s: doubled(r, "X-GitHub-Event", "ping"), 401),
    "two ids": (lambda r, s: doubled(r, "X-GitHub-Delivery", "other"), 401),
    "a byte more": (lambda r, s: changed(r, lambda body: body + b" "), 401),
    "a byte less": (lambda r, s: changed(r, lambda body: body[:-1]), 401),
    "another branch": (lambda r, s: changed(r, lambda body: body.replace(b"heads/main", b"heads/evil")), 401),
    "no body": (lambda r, s: changed(r, lambda _: b""), 401),
    "signed nothing": (lambda r, s: resigned(changed(r, lambda _: b""), s), 400),
    "signed list": (lambda r, s: resigned(changed(r, lambda _: b"[]"), s), 400),
    "signed depths": (lambda r, s: resigned(changed(r, lambda _: b"[" * 100_000), s), 400),
    "signed UTF-16": (lambda r, s: of_type(r, s, "utf-16", "utf-16"), 400),
    "signed Latin-1": (lambda r, s: of_type(r, s, "latin-1", "iso-8859-1"), 400),
    "no id": (lambda r, s: r.without("x-github-delivery"), 400),
    "a long id": (lambda r, s: r.with_header("X-GitHub-Delivery", "x" * 101), 400),
    "huge": (lambda r, s: resigned(changed(r, lambda body: body + b" " * (25 * 1024**2)), s), 413),
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_what_is_not_genuine_is_refused_and_kept_nowhere(shop: Shop, name: str) -> None:
    forge, expected = FORGERIES[name]
    genuine = shop.repository.push("main", ZERO, A)
    status, problem = await shop.send(forge(genuine, shop.repository.secret))
    assert (status, problem["code"]) == (
        expected,
        {401: "bad_signature", 400: "invalid", 413: "too_large"}[expected],
    )
    assert shop.repository.secret not in str(problem)
    assert await shop.deliveries() == []
    # It was the forgery that was refused, not the webhook.
    assert (await shop.send(genuine))[0] == 202


async def test_utf8_is_read_whatever_the_type_says(shop: Shop) -> None:
    request = of_type(shop.repository.push("main", ZERO, A), shop.repository.secret, "utf-8", "iso-8859-1")
    assert (await shop.deliver(request)).outcome == "deployed"
    (made,) = await shop.deployments()
    assert made.source.message == "Ändere es"


async def test_a_form_is_read_too(shop: Shop) -> None:
    from urllib.parse import urlencode

    request = shop.repository.push("main", ZERO, A)
    form = changed(request, lambda body: urlencode({"payload": body.decode()}).encode())
    signed = resigned(form, shop.repository.secret).with_header("Content-Type", "application/x-www-form-urlencoded")
    assert (await shop.deliver(signed)).outcome == "deployed"


async def test_the_signature_of_another_project_opens_nothing_here(api: Api, shop: Shop, host: HostServer) -> None:
    other = await connected(api, host, name="acme/other")
    request = shop.repository.push("main", ZERO, A)
    assert (await shop.send(resigned(request, other.repository.secret)))[0] == 401
    assert (await shop.send(request, other.path))[0] == 401
    # Rightly signed for the one, about the other's repository.
    handled = await other.deliver(resigned(request, other.repository.secret))
    assert (handled.outcome, await other.deployments(), await shop.deployments()) == ("ignored", [], [])
    assert "acme/shop" in handled.detail


async def test_an_address_that_is_none_looks_like_a_wrong_secret(shop: Shop) -> None:
    request = shop.repository.push("main", ZERO, A)
    wrong = await shop.send(resigned(request, "guessed"))
    for path in ("/api/webhooks/github?connection=gcn_00000000000000000000", "/api/webhooks/github"):
        status, problem = await shop.send(request, path)
        assert (status, problem["code"], problem["title"]) == (401, wrong[1]["code"], wrong[1]["title"])
    assert (await shop.send(request, "/api/webhooks/sourceforge"))[0] == 404
    assert (await shop.api.ask("DELETE", f"/api/projects/{shop.project.name}/git"))[0] == 204
    assert (await shop.send(request))[0] == 401


async def test_the_same_delivery_fifty_times_at_once_is_one_deployment(shop: Shop) -> None:
    request = shop.repository.push("main", ZERO, A)
    answers = await asyncio.gather(*(shop.send(request) for _ in range(50)))
    assert {status for status, _ in answers} == {202}
    assert sum(answer["new"] for _, answer in answers) == 1
    await shop.settle()
    assert len(await shop.deliveries()) == len(await shop.deployments()) == 1


async def test_a_captured_delivery_under_another_id_is_the_same(shop: Shop) -> None:
    request = shop.repository.push("main", ZERO, A)
    await shop.deliver(request)
    await shop.deliver(shop.repository.push("main", A, B))
    status, answer = await shop.send(request.with_header("X-GitHub-Delivery", "made-up"))
    assert (status, answer["new"]) == (202, 0)
    assert [one.source.sha for one in await shop.deployments()] == [A, B]


async def test_an_old_capture_is_refused_when_nobody_knows_its_id_any_more(shop: Shop) -> None:
    week_s = 7 * 86_400
    status, problem = await shop.send(shop.repository.push("main", ZERO, A, pushed_s=int(time.time()) - week_s - 60))
    assert (status, "seven days" in problem["title"]) == (400, True)
    assert (await shop.send(shop.repository.push("main", ZERO, A, pushed_s=int(time.time()) - week_s + 600)))[0] == 202


async def test_the_largest_body_that_a_host_sends_is_taken(shop: Shop) -> None:
    large = changed(shop.repository.push("main", ZERO, A), lambda body: body + b" " * (25 * 1024**2 - len(body)))
    assert (await shop.deliver(resigned(large, shop.repository.secret))).outcome == "deployed"


async def test_an_id_that_another_project_has_used_is_still_good(api: Api, shop: Shop, host: HostServer) -> None:
    other = await connected(api, host, name="acme/other")
    await other.deliver(other.repository.push("main", ZERO, A, delivery="taken"))
    handled = await shop.deliver(shop.repository.push("main", ZERO, A, delivery="taken"))
    assert handled.outcome == "deployed"


async def test_a_push_deploys_what_was_pushed(shop: Shop) -> None:
    assert (await shop.deliver(shop.repository.ping())).outcome == "noted"
    main = await shop.deliver(shop.repository.push("main", ZERO, A, message="First"))
    branch = await shop.deliver(shop.repository.push("feat/x", ZERO, B))
    skipped = await shop.deliver(shop.repository.push("feat/y", ZERO, C, message="Typo [skip ci]"))
    made = {one.id: one for one in await shop.deployments()}
    first = made[str(main.deployment_id)]
    assert (first.source.url, first.source.ref, first.source.sha) == (GIT_URL, "main", A)
    assert (first.source.message, first.source.author) == ("First", "Ada")
    assert (first.trigger.value, first.target.value, first.state.value) == ("push", "production", "queued")
    assert made[str(branch.deployment_id)].target.value == "preview"
    assert made[str(skipped.deployment_id)].state is State.SKIPPED
    await shop.publish(first.id)
    await shop.publish(str(branch.deployment_id))
    hosts = await shop.hosts()
    assert [one.partition("-git-")[2] for one in hosts] == [
        "feat-x-" + hashlib.sha256(b"feat/x").hexdigest()[:6],
        "main",
    ]


async def test_a_newer_push_calls_the_older_one_off(shop: Shop) -> None:
    await shop.deliver(shop.repository.push("main", ZERO, A))
    await shop.deliver(shop.repository.push("main", A, B))
    assert [(one.source.sha, one.state.value) for one in await shop.deployments()] == [(A, "cancelled"), (B, "queued")]


async def test_an_older_push_never_overtakes(shop: Shop) -> None:
    newer = await shop.deliver(shop.repository.push("main", B, C))
    older = await shop.deliver(shop.repository.push("main", A, B))
    assert (newer.outcome, older.outcome) == ("deployed", "older")
    # A forced step back is no older push.
    back = await shop.deliver(shop.repository.push("main", C, B))
    assert back.outcome == "deployed"
    assert [one.source.sha for one in await shop.deployments()] == [C, B]
    # Nor does an old one that is handled again.
    path = f"/api/projects/{shop.project.name}/git/deliveries/{newer.number}/repeat"
    assert (await shop.api.ask("POST", path))[0] == 202
    await shop.settle()
    again = next(one for one in await shop.deliveries() if one.number == newer.number)
    assert (again.outcome, len(await shop.deployments())) == ("older", 2)


async def test_texts_that_no_database_keeps_are_kept_all_the_same(shop: Shop) -> None:
    push = json.loads(shop.repository.push("main", ZERO, A, message="a\0b\ud800c").body)
    handled = await shop.deliver(shop.repository.request("push", push))
    assert handled.outcome == "deployed"
    (made,) = await shop.deployments()
    assert made.source.message == "a\ufffdb?c"
    odd = await shop.deliver(shop.repository.request("push", {**push, "ref": "refs/heads/a\0b"}))
    assert odd.outcome == "failed"


async def test_what_asks_for_nothing_says_why(shop: Shop) -> None:
    tag = json.loads(shop.repository.push("main", ZERO, A).body) | {"ref": "refs/tags/v1"}
    requests = [
        shop.repository.request("push", tag),
        shop.repository.request("star", {"action": "created", "repository": shop.repository.repository()}),
        shop.repository.request("pull_request", json.loads(shop.repository.pull(1, "x", A, action="labeled").body)),
    ]
    for request in requests:
        handled = await shop.deliver(request)
        assert handled.outcome == "ignored", handled
        assert handled.detail
    bad = await shop.deliver(shop.repository.push("--upload-pack=touch x", ZERO, A))
    assert (bad.state, bad.outcome, await shop.deployments()) == ("failed", "failed", [])
    assert "no name of a branch" in bad.detail


async def test_secrets_are_shown_once_and_lie_sealed(shop: Shop, logged: Callable[[], str]) -> None:
    await shop.deliver(shop.repository.push("main", ZERO, A))
    secret, path = shop.repository.secret, f"/api/projects/{shop.project.name}/git"
    for where in (path, f"{path}/deliveries", f"{path}/reports", "/api/audit"):
        _, shown = await shop.api.ask("GET", where)
        assert secret not in str(shown)
        assert TOKEN not in str(shown)
    rows = await shop.api.platform.db.fetch("list_sealed_git_secrets", "", 10)
    assert len(rows) == 2
    assert not any(text.encode() in bytes(row["value"]) for row in rows for text in (secret, TOKEN))
    assert secret not in logged()
    assert TOKEN not in logged()


async def test_connecting_again_keeps_the_secret_of_the_same_repository(shop: Shop, host: HostServer) -> None:
    path = f"/api/projects/{shop.project.name}/git"
    body = {"host": "github", "api_url": host.url}
    assert (await shop.api.ask("PUT", path, json=body))[1]["secret"] is None
    assert (await shop.send(shop.repository.push("main", ZERO, A)))[0] == 202
    _, anew = await shop.api.ask("PUT", path, json={**body, "new_secret": True})
    assert anew["secret"] not in (None, shop.repository.secret)
    assert (await shop.send(shop.repository.push("main", A, B)))[0] == 401
    _, moved = await shop.api.ask("PUT", path, json={**body, "git_url": GIT_URL.replace("shop", "store")})
    assert moved["repository"] == "acme/store"
    assert moved["secret"] is not None
    assert moved["id"] != anew["id"]


async def test_a_server_below_a_path_names_its_repositories_without_it(api: Api, shop: Shop, host: HostServer) -> None:
    path = f"/api/projects/{shop.project.name}/git"
    body = {"host": "gitea", "api_url": host.url, "git_url": "http://g.localhost/git/acme/shop.git"}
    for wrong in ("acme/store", "me/shop", "shop", "../acme/shop"):
        status, problem = await api.ask("PUT", path, json={**body, "repository": wrong})
        assert (status, [one["field"] for one in problem["problems"]]) == (400, ["repository"])
    _, made = await api.ask("PUT", path, json={**body, "repository": "acme/shop"})
    assert made["repository"] == "acme/shop"
    assert (await api.ask("PUT", path, json=body))[1]["repository"] == "git/acme/shop"


async def test_a_project_whose_address_was_changed_says_so(shop: Shop) -> None:
    change = {"git_url": GIT_URL.replace("shop", "other")}
    assert (await shop.api.ask("PATCH", f"/api/projects/{shop.project.name}", json=change))[0] == 200
    handled = await shop.deliver(shop.repository.push("main", ZERO, A))
    assert (handled.outcome, await shop.deployments()) == ("ignored", [])
    assert "connect it again" in handled.detail


async def test_a_connection_that_can_t_be_is_refused_field_by_field(api: Api) -> None:
    project = await api.project()
    path = f"/api/projects/{project.name}/git"
    body = {"host": "sourceforge", "git_url": "https://user:pw@x.example/a/b", "api_url": "ftp://x", "account": "a b"}
    status, problem = await api.ask("PUT", path, json=body)
    assert (status, [one["field"] for one in problem["problems"]]) == (400, ["host", "git_url", "api_url", "account"])
    assert (await api.ask("PUT", path, json={"host": "github"}))[0] == 400
    assert (await api.ask("GET", path))[0] == 404
    assert (await api.ask("DELETE", path))[0] == 404


async def test_deliveries_are_handled_after_a_restart(shop: Shop) -> None:
    """Nothing but PostgreSQL knows of them: whoever looks next does what they ask for."""
    live = shop.api.app.extensions["vclone_live"]
    assert (await shop.send(shop.repository.push("main", ZERO, A)))[0] == 202
    await asyncio.sleep(0)
    assert [one.state for one in await shop.deliveries()] == ["waiting"]
    live.desk.start()
    async with asyncio.timeout(20):
        while not await shop.deployments():
            await asyncio.sleep(0.02)


async def test_a_failing_platform_is_waited_for_and_keeps_the_order(shop: Shop) -> None:
    first = shop.repository.push("main", ZERO, A)
    await shop.send(first)
    await shop.send(shop.repository.push("main", A, B))
    claimed = await shop.api.platform.db.fetch_one("claim_delivery", 60.0)
    assert claimed is not None
    # The first is in somebody's hands: the second waits for it.
    assert await deliveries.handle_next(HostDesk(shop.api.platform)) is False
    assert await shop.api.platform.db.fetch_one("postpone_delivery", claimed["number"], 1, 0.0, "was away") is not None
    assert await deliveries.handle_next(HostDesk(shop.api.platform)) is True
    # Who had it before writes nothing any more.
    late = ("done", "ignored", "", None)
    assert await shop.api.platform.db.fetch_one("finish_delivery", claimed["number"], 1, *late) is None
    assert await deliveries.handle_next(HostDesk(shop.api.platform)) is True
    assert await deliveries.handle_next(HostDesk(shop.api.platform)) is False
    found = [await records.fetch_deployment_by_id(shop.api.platform.db, one.id) for one in await shop.deployments()]
    assert [one and one.source.sha for one in found] == [A, B]
