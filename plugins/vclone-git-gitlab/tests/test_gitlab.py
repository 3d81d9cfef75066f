"""GitLab's payloads as events, who is believed, and what its API is asked."""

from __future__ import annotations

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
from vclone_git_gitlab import make_host

A, B, *_ = SHAS
HOST = make_host()
SECRET = "the-webhook-s-secret"
PROJECT = {"path_with_namespace": "acme/web/shop"}
PUSH = {
    "object_kind": "push",
    "ref": "refs/heads/main",
    "before": A,
    "after": B,
    "user_name": "Ada",
    "project": PROJECT,
    "commits": [{"id": A, "message": "old"}, {"id": B, "message": "new", "author": {"name": "Bob"}}],
}
REQUEST = {
    "object_kind": "merge_request",
    "user": {"username": "eve"},
    "project": PROJECT,
    "object_attributes": {
        "iid": 7,
        "action": "open",
        "state": "opened",
        "title": "Better",
        "source_branch": "main",
        "source": {"path_with_namespace": "eve/shop", "git_http_url": "https://gitlab.example/eve/shop.git"},
        "last_commit": {"id": A},
        "updated_at": "2026-01-01 00:00:00 UTC",
    },
}
HEADERS = (
    ("content-type", "application/json"),
    ("x-gitlab-event", "Push Hook"),
    ("x-gitlab-token", SECRET),
    ("x-gitlab-event-uuid", "13792a34-cac6-4fda-95a8-c58e00a3954e"),
)


def read(payload: dict[str, Any]) -> GitEvent:
    (found,) = HOST.read_deliveries(HEADERS, json.dumps(payload).encode(), SECRET)
    return found.event


def request(**change: Any) -> dict[str, Any]:
    attributes: Any = REQUEST["object_attributes"]
    return {**REQUEST, "object_attributes": {**attributes, **change}}


def test_pushes() -> None:
    assert read(PUSH) == Push("acme/web/shop", "main", A, B, "new", "Bob")
    assert read({**PUSH, "commits": [], "before": ZERO}) == Push("acme/web/shop", "main", "", B, "", "Ada")
    assert read({**PUSH, "after": ZERO}) == BranchDeleted("acme/web/shop", "main", A)
    assert isinstance(read({**PUSH, "ref": "refs/tags/v1"}), Ignored)
    assert isinstance(read({**PUSH, "object_kind": "tag_push"}), Ignored)


def test_merge_requests() -> None:
    assert read(REQUEST) == PullRequestChanged(
        "acme/web/shop", 7, True, "eve/shop", "https://gitlab.example/eve/shop.git", "main", A, "Better", "eve",
        1_767_225_600.0,
    )  # fmt: skip
    for state, is_open in (("merged", False), ("closed", False), ("locked", True)):
        found = read(request(state=state, action="update"))
        assert isinstance(found, PullRequestChanged)
        assert found.is_open is is_open
    assert isinstance(read(request(action="approved")), Ignored)
    with pytest.raises(errors.Invalid):
        read(request(iid=None))


@pytest.mark.parametrize(
    "headers",
    [
        [one for one in HEADERS if one[0] != "x-gitlab-token"],
        [*(one for one in HEADERS if one[0] != "x-gitlab-token"), ("x-gitlab-token", SECRET[:-1])],
        [*(one for one in HEADERS if one[0] != "x-gitlab-token"), ("x-gitlab-token", "")],
        [*HEADERS, ("x-gitlab-token", SECRET)],
    ],
)
def test_who_does_not_know_the_secret_is_refused(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(errors.BadSignature):
        HOST.read_deliveries(headers, b"not even JSON", SECRET)


def test_a_delivery_has_an_id() -> None:
    with pytest.raises(errors.Invalid):
        HOST.read_deliveries([one for one in HEADERS if "uuid" not in one[0]], json.dumps(PUSH).encode(), SECRET)
    again = (*HEADERS, ("idempotency-key", "first"))
    assert HOST.read_deliveries(again, json.dumps(PUSH).encode(), SECRET)[0].id == "first"


async def test_what_its_api_is_asked() -> None:
    calls = Calls("acme/web/shop", {("GET", "/projects/acme%2Fweb%2Fshop/merge_requests/7/notes"): (200, [])})
    await HOST.set_status(calls, CommitStatus(A, StatusState.FAILURE, "vclone/shop", "Failed", "https://x"))
    note = await HOST.set_comment(calls, PullComment(7, "m text", "m"), None)
    assert await HOST.set_comment(calls, PullComment(7, "m other", "m"), note) == note
    assert calls.made() == [
        f"POST /projects/acme%2Fweb%2Fshop/statuses/{A}",
        "GET /projects/acme%2Fweb%2Fshop/merge_requests/7/notes",
        "POST /projects/acme%2Fweb%2Fshop/merge_requests/7/notes",
        f"PUT /projects/acme%2Fweb%2Fshop/merge_requests/7/notes/{note}",
    ]
    assert calls.asked[0].body == {
        "state": "failed", "name": "vclone/shop", "description": "Failed", "target_url": "https://x"
    }  # fmt: skip


async def test_a_status_that_is_that_already_is_no_failure() -> None:
    path = f"/projects/acme%2Fshop/statuses/{A}"
    status = CommitStatus(A, StatusState.PENDING, "vclone/shop", "", "")
    said = {"message": "Cannot transition status via :run from :running"}
    await HOST.set_status(Calls("acme/shop", {("POST", path): (400, said)}), status)
    with pytest.raises(errors.HostRefused):
        await HOST.set_status(Calls("acme/shop", {("POST", path): (400, {"message": "state is wrong"})}), status)
