"""Bitbucket's payloads as events, who is believed, and what its API is asked."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from tests.host_calls import Calls
from tests.payloads import SHAS

from vclone_core import errors
from vclone_core.models import (
    BranchDeleted,
    CommitStatus,
    GitEvent,
    Ignored,
    PullComment,
    PullRequestChanged,
    Push,
    StatusState,
)
from vclone_git_bitbucket import make_host

A, B, *_ = SHAS
HOST = make_host()
SECRET = "the-webhook-s-secret"
SHOP = {"full_name": "acme/shop"}
PULL = {
    "pullrequest": {
        "id": 7,
        "title": "Better",
        "state": "OPEN",
        "author": {"nickname": "eve"},
        "source": {"branch": {"name": "main"}, "commit": {"hash": A[:12]}, "repository": {"full_name": "eve/shop"}},
        "updated_on": "2026-01-01T00:00:00.000000+00:00",
    },
    "repository": SHOP,
}


def branch(name: str, sha: str, kind: str = "branch") -> dict[str, Any]:
    target = {"hash": sha, "message": "m", "author": {"raw": "Ada <a@b>", "user": {"display_name": "Ada"}}}
    return {"type": kind, "name": name, "target": target}


def sign(payload: Any, event: str = "repo:push", secret: str = SECRET) -> Any:
    body = json.dumps(payload).encode()
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return [
        ("content-type", "application/json"),
        ("x-event-key", event),
        ("x-request-uuid", "5c3b7e2e-0000-4000-8000-000000000001"),
        ("x-hub-signature", f"sha256={digest}"),
    ], body


def read(payload: Any, event: str = "repo:push") -> list[GitEvent]:
    headers, body = sign(payload, event)
    return [one.event for one in HOST.read_deliveries(headers, body, SECRET)]


def push(*changes: dict[str, Any]) -> dict[str, Any]:
    return {"push": {"changes": list(changes)}, "repository": SHOP}


def test_one_push_may_change_several_branches() -> None:
    changes = (
        {"old": branch("main", A), "new": branch("main", B)},
        {"old": None, "new": branch("next", A)},
        {"old": branch("gone", A), "new": None},
        {"old": None, "new": branch("v1", A, "tag")},
    )
    found = read(push(*changes))
    assert found[:3] == [
        Push("acme/shop", "main", A, B, "m", "Ada"),
        Push("acme/shop", "next", "", A, "m", "Ada"),
        BranchDeleted("acme/shop", "gone", A),
    ]
    assert isinstance(found[3], Ignored)
    headers, body = sign(push(*changes))
    ids = [one.id for one in HOST.read_deliveries(headers, body, SECRET)]
    assert len(set(ids)) == 4


@pytest.mark.parametrize("payload", [push(), {"push": None}, {"push": {"changes": [1]}}, {}])
def test_what_is_no_push_asks_for_nothing(payload: Any) -> None:
    assert all(isinstance(one, Ignored) for one in read(payload))


def test_pull_requests() -> None:
    assert read(PULL, "pullrequest:created") == [
        PullRequestChanged(
            "acme/shop", 7, True, "eve/shop", "https://bitbucket.org/eve/shop.git", "main", A[:12], "Better", "eve",
            1_767_225_600.0,
        )
    ]  # fmt: skip
    assert isinstance(read(PULL, "pullrequest:approved")[0], Ignored)
    with pytest.raises(errors.Invalid):
        read({"pullrequest": {}, "repository": SHOP}, "pullrequest:created")


def test_forgeries() -> None:
    headers, body = sign(push())
    wrong, _ = sign(push(), secret="guessed")
    bare = [*headers[:-1], ("x-hub-signature", headers[-1][1].removeprefix("sha256="))]
    for given, sent in ((wrong, body), (headers[:-1], body), (headers, body + b" "), (bare, body), ([], body)):
        with pytest.raises(errors.BadSignature):
            HOST.read_deliveries(given, sent, SECRET)


async def test_a_commit_is_completed() -> None:
    (change,) = read(PULL, "pullrequest:created")
    assert isinstance(change, PullRequestChanged)
    path = f"/repositories/eve/shop/commit/{A[:12]}"
    done = await HOST.complete(Calls("acme/shop", {("GET", path): (200, {"hash": A})}), change)
    assert done.head_sha == A
    for answer in ({"hash": B}, {}, None):
        with pytest.raises(errors.HostUnavailable):
            await HOST.complete(Calls("acme/shop", {("GET", path): (200, answer)}), change)


async def test_what_its_api_is_asked() -> None:
    comments = "/repositories/acme/shop/pullrequests/7/comments"
    calls = Calls("acme/shop", {("GET", comments): (200, {"values": []}), ("PUT", f"{comments}/9"): (404, None)})
    name = "vclone/" + "long-name-" * 5
    await HOST.set_status(calls, CommitStatus(A, StatusState.SUCCESS, name, "Ready", "https://x"))
    assert await HOST.set_comment(calls, PullComment(7, "m text", "m"), "9") != "9"
    assert calls.made() == [
        f"POST /repositories/acme/shop/commit/{A}/statuses/build",
        f"PUT {comments}/9",
        f"POST {comments}",
    ]
    assert (calls.asked[0].body["state"], len(calls.asked[0].body["key"])) == ("SUCCESSFUL", 40)
    assert calls.asked[2].body == {"content": {"raw": "m text"}}
