"""The client that speaks to git hosts: what it sends, what it makes of answers, and whom it refuses to speak to."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import pytest
from tests.host_server import TOKEN, HostServer, serve_host
from tests.ports import pick_port

from vclone_core.errors import HostRefused, HostUnavailable
from vclone_core.rules.addresses import parse_allowed
from vclone_core.stores.githosts import HostCaller
from vclone_core.stores.outbound import Outbound


@pytest.fixture
async def host() -> AsyncIterator[HostServer]:
    async with serve_host() as server:
        yield server


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    made = Outbound(parse_allowed(["127.0.0.0/8"]))
    await made.start()
    yield made
    await made.close()


def caller(outbound: Outbound, url: str, *, token: str = TOKEN, account: str = "") -> HostCaller:
    return HostCaller(outbound, "The host", url, "acme/shop", token, account)


async def test_a_token_goes_as_bearer_or_with_an_account(host: HostServer, outbound: Outbound) -> None:
    path = "/repos/acme/shop/statuses/" + "a" * 40
    for account in ("", "bot"):
        answer = await caller(outbound, host.url, account=account).ask("POST", path, {"state": "success"})
        assert (answer.status, isinstance(answer.body["id"], int)) == (201, True)
    with pytest.raises(HostRefused, match="401: Bad credentials"):
        await caller(outbound, host.url, token="other").ask("POST", path, {})


@pytest.mark.parametrize(
    ("status", "headers", "is_final", "rest_s"),
    [
        (500, {}, False, None),
        (503, {"retry-after": "7"}, False, 7.0),
        (429, {"retry-after": "30"}, False, 30.0),
        (403, {"retry-after": "60"}, False, 60.0),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}, False, 0.0),
        (403, {}, True, None),
        (404, {}, True, None),
        (422, {}, True, None),
        (302, {"location": "http://169.254.169.254/"}, True, None),
    ],
)
async def test_what_may_be_asked_again_and_when(
    host: HostServer, outbound: Outbound, status: int, headers: dict[str, str], is_final: bool, rest_s: float | None
) -> None:
    host.answers_with, host.answer_headers = status, headers
    with pytest.raises(HostRefused if is_final else HostUnavailable) as caught:
        await caller(outbound, host.url).ask("GET", "/x")
    assert caught.value.facts.get("retry_after_s") == rest_s
    assert len(host.asked) == 1
    answer = await caller(outbound, host.url).ask("GET", "/x", accept=(status,))
    assert answer.status == status


async def test_a_host_that_is_not_there_may_come_back(outbound: Outbound) -> None:
    with pytest.raises(HostUnavailable):
        await caller(outbound, f"http://127.0.0.1:{pick_port()}").ask("GET", "/x")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9", "http://169.254.169.254", "http://localhost:9", "http://[::1]:9"]
)
async def test_addresses_inside_are_not_spoken_to(url: str) -> None:
    strict = Outbound(parse_allowed([]))
    await strict.start()
    with pytest.raises(HostRefused, match="can't be spoken to"):
        await caller(strict, url).ask("GET", "/x")
    await strict.close()


async def test_a_token_that_the_host_repeats_is_not_kept(host: HostServer, outbound: Outbound) -> None:
    secret = "repeated-token-0123456789"
    host.answers_with = 422

    async def repeat(client: HostCaller) -> str:
        try:
            await client.ask("GET", "/x")
        except HostRefused as error:
            return error.sentence
        raise AssertionError

    host.says = f"bad token {secret}"
    assert secret not in await repeat(caller(outbound, host.url, token=secret))
    assert base64.b64encode(b"bot:" + secret.encode()).decode() not in await repeat(
        caller(outbound, host.url, token=secret, account="bot")
    )
