"""GitHub's payloads as events; what forges one is tried through the API, in tests/api/test_webhooks.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.payloads import SHAS, ZERO, GitHubRepository, Request

from vclone_core import errors
from vclone_core.models import BranchDeleted, GitEvent, Ignored, Ping, PullRequestChanged, Push
from vclone_git_github.payloads import read_deliveries

A, B, *_ = SHAS
SHOP = GitHubRepository()


def read(request: Request) -> GitEvent:
    (found,) = read_deliveries(request.headers, request.body, SHOP.secret)
    return found.event


def with_change(request: Request, name: str, **change: Any) -> Request:
    payload = {**json.loads(request.body), **change}
    return SHOP.request(name, payload)


def test_pushes() -> None:
    assert read(SHOP.ping()) == Ping("acme/shop")
    assert read(SHOP.push("feat/x", A, B, message="m")) == Push("acme/shop", "feat/x", A, B, "m", "Ada")
    assert read(SHOP.push("new", ZERO, A)) == Push("acme/shop", "new", "", A, "Change it", "Ada")
    assert read(SHOP.push("old", A, ZERO)) == BranchDeleted("acme/shop", "old", A)
    assert isinstance(read(with_change(SHOP.push("x", A, B), "push", ref="refs/tags/v1")), Ignored)
    assert isinstance(read(with_change(SHOP.push("x", A, B), "push", ref=None)), Ignored)


def test_pull_requests() -> None:
    found = read(SHOP.pull(7, "next", A, updated_s=1_700_000_000))
    assert found == PullRequestChanged(
        "acme/shop", 7, True, "acme/shop", "https://github.example/x.git", "next", A, "A <b>better</b> shop", "ada",
        1_700_000_000.0,
    )  # fmt: skip
    fork = read(SHOP.pull(8, "main", A, fork="eve/shop"))
    assert isinstance(fork, PullRequestChanged)
    assert (fork.head_repository, fork.author) == ("eve/shop", "eve")
    closed = read(SHOP.pull(7, "next", A, action="closed"))
    assert isinstance(closed, PullRequestChanged)
    assert not closed.is_open
    gone = read(SHOP.pull(9, "x", A, clone_url=None))
    assert isinstance(gone, PullRequestChanged)
    assert (gone.head_repository, gone.head_url) == ("", None)
    assert isinstance(read(SHOP.pull(7, "next", A, action="labeled")), Ignored)


@pytest.mark.parametrize("pull", [None, [], {"number": "7"}, {}])
def test_a_pull_request_without_a_number_is_refused(pull: Any) -> None:
    with pytest.raises(errors.Invalid):
        read(with_change(SHOP.pull(7, "x", A), "pull_request", pull_request=pull))


def test_other_events_are_ignored_with_a_reason() -> None:
    found = read(SHOP.request("check_run", {"repository": {"full_name": "acme/shop"}}))
    assert found == Ignored("check_run asks for nothing here", "acme/shop")
