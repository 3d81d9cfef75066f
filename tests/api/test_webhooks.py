"""Webhooks that go out, to a real server: signed, in order, tried again, never to where they must not go."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from vclone_core.actions import audit, deployments, owners, telling, webhooks
from vclone_core.models import Send
from vclone_core.rules.outgoing import EVENTS, FAILING_S, PING, RESTS_S
from vclone_core.settings import Settings

from .browser import CookieBrowser
from .conftest import Api
from .receiver import Received, Receiver, receive

POLL_S = 0.05
Hook = dict[str, Any]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"outbound_allow": "127.0.0.0/8"})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receive() as receiver:
        yield receiver


async def make(api: Api, url: str, *events: str, **more: Any) -> Hook:
    body = {"url": url, "events": list(events or EVENTS), **more}
    status, hook = await api.ask("POST", f"/api/teams/{api.owner.team_id}/webhooks", json=body)
    assert status == 201, hook
    return dict(hook)


def check(received: Received, secret: str) -> dict[str, Any]:
    """Verify a delivery as docs/howto/webhooks.md tells receivers to, and return its body."""
    parts = dict(part.split("=", 1) for part in received.headers["vclone-signature"].split(","))
    expected = hmac.new(secret.encode(), parts["t"].encode() + b"." + received.body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(parts["v1"], expected)
    assert abs(time.time() - int(parts["t"])) < 300
    body: dict[str, Any] = json.loads(received.body)
    assert received.headers["vclone-event"] == body["type"]
    return body


async def sends(api: Api, hook: Hook) -> list[Send]:
    return await webhooks.list_sends(api.platform, api.owner, hook["id"], limit=100)


async def settled(api: Api, hook: Hook, *, tries: int, number: int = 0) -> Send:
    """Return a delivery once it has been tried so often."""
    async with asyncio.timeout(20):
        while True:
            found = await sends(api, hook)
            if len(found) > number and len(found[number].tries) >= tries:
                return found[number]
            await asyncio.sleep(POLL_S)


async def make_due(api: Api) -> None:
    async with api.platform.db._pool.acquire() as connection:
        await connection.execute("update webhook_sends set not_before = now() where state = 'waiting'")


@pytest.mark.processes
async def test_a_deployments_way_is_told_in_order_and_signed(api: Api, receiver: Receiver) -> None:
    hook = await make(api, receiver.url)
    project = await api.project()
    first, second = await api.live(project), await api.live(project)
    await deployments.promote(api.platform, api.owner, first.id)
    bodies = [check(one, hook["secret"]) for one in await receiver.wait(7)]
    ways = ["deployment.created", "deployment.building", "deployment.ready"]
    assert [body["type"] for body in bodies] == [*ways, *ways, "deployment.promoted"]
    assert [body["id"] for body in bodies] == sorted(body["id"] for body in bodies)
    assert bodies[0]["data"]["deployment_id"] == first.id and bodies[0]["data"]["project"] == project.name
    assert bodies[-1]["data"] == {
        "deployment_id": first.id,
        "project_id": project.id,
        "project": project.name,
        "target": "production",
        "previous_deployment_id": second.id,
        "reason": "promote",
    }
    assert len({one.headers["vclone-delivery"] for one in receiver.got}) == 7


async def test_the_secret_is_shown_once_and_lies_sealed(api: Api) -> None:
    hook = await make(api, "https://hooks.example/x")
    path = f"/api/teams/{api.owner.team_id}/webhooks"
    for shown in ((await api.ask("GET", path))[1], (await api.ask("GET", f"{path}/{hook['id']}"))[1]):
        assert hook["secret"] not in json.dumps(shown) and "secret" not in json.dumps(shown)
    async with api.platform.db._pool.acquire() as connection:
        sealed = bytes(await connection.fetchval("select secret from webhooks"))
    assert sealed.startswith(b"v1.") and hook["secret"].encode() not in sealed


async def test_a_webhook_is_told_of_what_it_asked_for(api: Api, receiver: Receiver) -> None:
    project, other = await api.project(), await api.project()
    await make(api, f"{receiver.url}/ready", "deployment.ready", project=project.name)
    await api.live(other)
    deployment = await api.live(project)
    (got,) = await receiver.wait(1)
    assert json.loads(got.body)["data"]["deployment_id"] == deployment.id
    assert (await telling.list_events(api.platform, api.owner, limit=100))[0].kind == "deployment.ready"


async def test_a_failed_delivery_is_tried_again_until_it_arrives(api: Api, receiver: Receiver) -> None:
    receiver.status, receiver.body = 500, b"x" * 10**6
    hook = await make(api, receiver.url, "deployment.created")
    await api.queued(await api.project())
    first = await settled(api, hook, tries=1)
    assert first.state == "waiting" and first.tries[0]["status"] == 500
    wait_s = (first.not_before - first.created_at).total_seconds()
    assert RESTS_S[0] <= wait_s < RESTS_S[0] + 10
    shown = (await api.ask("GET", f"/api/teams/{api.owner.team_id}/webhooks/{hook['id']}"))[1]
    assert shown["failing_since"] is not None
    receiver.status = 200
    await make_due(api)
    last = await settled(api, hook, tries=2)
    assert last.state == "delivered" and [one["status"] for one in last.tries] == [500, 200]
    assert len({one.headers["vclone-delivery"] for one in receiver.got}) == 1
    async with asyncio.timeout(10):
        while (await webhooks.find_webhook(api.platform, api.owner, hook["id"])).failing_since is not None:
            await asyncio.sleep(POLL_S)


@pytest.mark.processes
async def test_it_is_given_up_after_the_last_try(api: Api, receiver: Receiver) -> None:
    receiver.status = 404
    hook = await make(api, receiver.url, "deployment.created")
    await api.queued(await api.project())
    for tries in range(1, len(RESTS_S) + 2):
        last = await settled(api, hook, tries=tries)
        assert last.state == ("waiting" if tries <= len(RESTS_S) else "failed")
        await make_due(api)
    assert last.finished_at is not None


async def test_one_that_only_fails_is_switched_off_and_the_team_is_told(api: Api, receiver: Receiver) -> None:
    receiver.status = 500
    hook = await make(api, receiver.url, "deployment.created")
    async with api.platform.db._pool.acquire() as connection:
        await connection.execute(
            "update webhooks set failing_since = now() - make_interval(secs => $1)", FAILING_S + 60
        )
    await api.queued(await api.project())
    async with asyncio.timeout(20):
        while (off := await webhooks.find_webhook(api.platform, api.owner, hook["id"])).disabled_at is None:
            await asyncio.sleep(POLL_S)
    assert off.disabled_reason == "nothing arrived for 5 days"
    newest = (await telling.list_events(api.platform, api.owner, limit=1))[0]
    assert newest.kind == "webhook.disabled" and newest.facts["webhook_id"] == hook["id"]
    noted = [entry async for entry in audit.read_all(api.platform, api.owner) if entry.action == "disable_webhook"]
    assert [entry.subject for entry in noted] == [hook["id"]]
    assert [one.state for one in await sends(api, hook)] == ["failed"]
    path = f"/api/teams/{api.owner.team_id}/webhooks/{hook['id']}"
    assert (await api.ask("POST", f"{path}/ping"))[1]["code"] == "webhook_off"
    status, on = await api.ask("PATCH", path, json={"is_enabled": True})
    assert (status, on["is_enabled"], on["failing_since"]) == (200, True, None)


async def test_ping_and_redeliver(api: Api, receiver: Receiver) -> None:
    hook = await make(api, receiver.url)
    path = f"/api/teams/{api.owner.team_id}/webhooks/{hook['id']}"
    status, ping = await api.ask("POST", f"{path}/ping")
    assert (status, ping["type"], ping["state"]) == (201, PING, "waiting")
    await receiver.wait(1)
    await settled(api, hook, tries=1)
    status, again = await api.ask("POST", f"{path}/deliveries/{ping['id']}/redeliver")
    assert status == 201 and again["id"] != ping["id"] and again["body"] == ping["body"]
    first, second = await receiver.wait(2)
    assert check(first, hook["secret"]) == check(second, hook["secret"])
    await settled(api, hook, tries=1)
    listed = (await api.ask("GET", f"{path}/deliveries"))[1]["items"]
    assert [(one["id"], one["state"], one["tries"][0]["status"]) for one in listed] == [
        (again["id"], "delivered", 204),
        (ping["id"], "delivered", 204),
    ]
    for wrong in ("0", "x", "9" * 30):
        assert (await api.ask("POST", f"{path}/deliveries/{wrong}/redeliver"))[0] == 404


async def test_what_a_killed_process_was_sending_is_sent_by_another(api: Api, receiver: Receiver) -> None:
    """A claim without an end, as a process leaves it that is killed: held until the lease is over, then taken over."""
    hook = await make(api, receiver.url)
    async with api.platform.db._pool.acquire() as connection:
        await connection.execute(
            "insert into webhook_sends (webhook_id, kind, body, attempt, lease_until)"
            " values ($1, 'ping', '{}', 1, now() + interval '1 hour')",
            hook["id"],
        )
        assert await api.platform.db.fetch("claim_sends", 16, 30.0) == []
        await connection.execute("update webhook_sends set lease_until = now() - interval '1 second'")
    await receiver.wait(1)
    done = await settled(api, hook, tries=1)
    assert (done.state, done.attempt) == ("delivered", 2)
    # The one that was given up wakes late: its word counts no more.
    assert await api.platform.db.fetch_one("finish_send", done.id, 1, [{}], "failed", 0.0) is None


async def test_a_redirect_is_not_followed(api: Api, receiver: Receiver) -> None:
    async with receive() as canary:
        receiver.status, receiver.headers = 302, {"Location": canary.url}
        hook = await make(api, receiver.url, "deployment.created")
        await api.queued(await api.project())
        tried = await settled(api, hook, tries=1)
        assert (tried.tries[0]["status"], tried.tries[0]["problem"]) == (302, "redirects are not followed")
        assert canary.got == []


BAD_URLS = (
    "ftp://hooks.example/x", "hooks.example", "https://user:pw@hooks.example/", "https://", "http://[::1",
    "https://a b/",
    "javascript:alert(1)", "https://hooks.example:0/", "https://hooks.example:99999/", "https://hooks.exämple/",
)  # fmt: skip


@pytest.mark.parametrize("url", BAD_URLS)
async def test_bad_addresses_are_refused(api: Api, url: str) -> None:
    body = {"url": url, "events": ["deployment.ready", "nonsense"]}
    status, problem = await api.ask("POST", f"/api/teams/{api.owner.team_id}/webhooks", json=body)
    assert (status, problem["code"]) == (400, "invalid_fields")


@pytest.mark.processes
async def test_a_hook_that_hangs_holds_up_no_other(api: Api, receiver: Receiver) -> None:
    async with receive() as slow:
        slow.hangs = True
        stuck = await make(api, slow.url, "deployment.created")
        await make(api, receiver.url, "deployment.created")
        project = await api.project()
        for _ in range(3):
            await api.queued(project)
        assert len(await receiver.wait(3)) == 3
        assert len(slow.got) == 1  # one at a time, in order
        tried = await settled(api, stuck, tries=1, number=2)
        assert "no answer within" in tried.tries[0]["problem"]


async def test_the_pages_make_one_show_its_secret_and_its_deliveries(api: Api, receiver: Receiver) -> None:
    browser = CookieBrowser(api.app)
    await browser.post(f"/sign-in/{await owners.sign_in_link(api.platform.db, api.owner.user_id)}", x="")
    status, page = await browser.post("/webhooks", **{"url": receiver.url, "event:deployment.ready": "on"})
    secret = re.search(r"vcw_[0-9A-Za-z]{46}", page)
    assert status == 200 and secret is not None
    assert "vcw_" not in (await browser.get("/webhooks"))[1]
    (hook,) = await webhooks.list_webhooks(api.platform, api.owner)
    assert (await browser.post(f"/webhooks/{hook.id}/ping"))[0] == 303
    check((await receiver.wait(1))[0], secret[0])
    await settled(api, {"id": hook.id}, tries=1)
    assert "delivered" in (await browser.get(f"/webhooks/{hook.id}"))[1]
    assert (await browser.post(f"/webhooks/{hook.id}/disable"))[0] == 303
    assert "switched off" in (await browser.get(f"/webhooks/{hook.id}"))[1]
    assert (await browser.post(f"/webhooks/{hook.id}/delete"))[0] == 303
    status, page = await browser.post("/webhooks", url="ftp://x")
    assert status == 400 and "http:// or https://" in page
    entries = [entry.action async for entry in audit.read_all(api.platform, api.owner)]
    assert entries[-4:] == ["create_webhook", "ping_webhook", "disable_webhook", "delete_webhook"]


@pytest.mark.processes
class TestInside:
    """Without the operator's leave, nothing inside is reached, however it is spelled."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"outbound_allow": ""})

    async def test_no_connection_is_made(self, api: Api, receiver: Receiver) -> None:
        port = receiver.url.partition("127.0.0.1:")[2].partition("/")[0]
        hosts = ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "[::1]", "127.1", "0.0.0.0")
        for host in hosts:
            hook = await make(api, f"http://{host}:{port}/", "deployment.created")
            await webhooks.send_ping(api.platform, api.owner, hook["id"])
            tried = await settled(api, hook, tries=1)
            assert tried.tries[0]["status"] is None and tried.tries[0]["problem"], host
        assert receiver.got == []
