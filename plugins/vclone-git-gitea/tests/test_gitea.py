"""Gitea's and Forgejo's payloads as events, who is believed, and what their API is asked."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from tests.host_calls import Calls
from tests.payloads import SHAS, ZERO

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
from vclone_git_gitea import make_host

A, B, *_ = SHAS
HOST = make_host()
SECRET = "the-webhook-s-secret"
SHOP = {"full_name": "acme/shop"}
PUSH = {
    "ref": "refs/heads/main",
    "before": A,
    "after": B,
    "head_commit": {"id": B, "message": "new", "author": {"name": "Bob"}},
    "repository": SHOP,
}
PULL = {
    "action": "synchronized",
    "number": 7,
    "pull_request": {
        "number": 7,
        "state": "open",
        "title": "Better",
        "user": {"login": "eve"},
        "head": {"ref": "main", "sha": A, "repo": {"full_name": "eve/shop", "clone_url": "https://g/eve/shop.git"}},
        "updated_at": "2026-01-01T00:00:00Z",
    },
    "repository": SHOP,
}


def sign(payload: Any, *, event: str = "push", of: str = "gitea", secret: str = SECRET) -> Any:
    body = json.dumps(payload).encode()
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    fields = {"event": event, "delivery": "f6266f16-1bf3-46a5-9ea4-602e06ead473", "signature": digest}
    return [("content-type", "application/json"), *((f"x-{of}-{name}", text) for name, text in fields.items())], body


def read(payload: Any, event: str = "push", of: str = "gitea") -> GitEvent:
    headers, body = sign(payload, event=event, of=of)
    (found,) = HOST.read_deliveries(headers, body, SECRET)
    return found.event


@pytest.mark.parametrize("of", ["gitea", "forgejo"])
def test_pushes(of: str) -> None:
    assert read(PUSH, of=of) == Push("acme/shop", "main", A, B, "new", "Bob")
    assert read({**PUSH, "before": ZERO}) == Push("acme/shop", "main", "", B, "new", "Bob")
    assert read({**PUSH, "after": ZERO}) == BranchDeleted("acme/shop", "main", A)
    assert isinstance(read({**PUSH, "ref": "refs/tags/v1"}), Ignored)


def test_deleted_branches() -> None:
    gone = {"ref": "next", "ref_type": "branch", "repository": SHOP}
    assert read(gone, "delete") == BranchDeleted("acme/shop", "next", "")
    assert isinstance(read({**gone, "ref_type": "tag"}, "delete"), Ignored)


@pytest.mark.parametrize("event", ["pull_request", "pull_request_sync"])
def test_pull_requests(event: str) -> None:
    assert read(PULL, event) == PullRequestChanged(
        "acme/shop", 7, True, "eve/shop", "https://g/eve/shop.git", "main", A, "Better", "eve", 1_767_225_600.0
    )
    assert isinstance(read({**PULL, "action": "label_updated"}, event), Ignored)
    with pytest.raises(errors.Invalid):
        read({**PULL, "pull_request": {}}, event)
    assert isinstance(read({"repository": SHOP}, "fork"), Ignored)


def test_forgeries() -> None:
    headers, body = sign(PUSH)
    wrong, _ = sign(PUSH, secret="guessed")
    doubled = [*headers, ("x-gitea-signature", headers[-1][1])]
    prefixed = [*headers[:-1], ("x-gitea-signature", "sha256=" + headers[-1][1])]
    for given, sent in ((wrong, body), (headers[:-1], body), (headers, body + b" "), (doubled, body), (prefixed, body)):
        with pytest.raises(errors.BadSignature):
            HOST.read_deliveries(given, sent, SECRET)


async def test_what_its_api_is_asked() -> None:
    calls = Calls("acme/shop", {("GET", "/repos/acme/shop/issues/7/comments"): (200, [{"id": 5, "body": "m old"}])})
    await HOST.set_status(calls, CommitStatus(A, StatusState.CANCELLED, "vclone/shop", "Cancelled", "https://x"))
    # Ours, whose id was lost.
    with_path = {**calls.answers, ("PATCH", "/repos/acme/shop/issues/comments/5"): (200, {"id": 5})}
    calls.answers = with_path
    assert await HOST.set_comment(calls, PullComment(7, "m text", "m"), None) == "5"
    assert calls.made() == [
        f"POST /repos/acme/shop/statuses/{A}",
        "GET /repos/acme/shop/issues/7/comments",
        "PATCH /repos/acme/shop/issues/comments/5",
    ]
    assert calls.asked[0].body["state"] == "error"
