"""What every git host keeps to: whom it believes, what a push comes to, one status, one comment."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.host_calls import Calls
from tests.payloads import SHAS, ZERO

from vclone_core import GitHost
from vclone_core.errors import BadSignature, Invalid
from vclone_core.models import BranchDeleted, CommitStatus, PullComment, Push, StatusState
from vclone_core.plugins import load_plugins

A, B, *_ = SHAS
SECRET = "the-webhook-s-secret"
REPOSITORY = {"full_name": "acme/shop"}
Headers = list[tuple[str, str]]


def signed(name: str, prefix: str = "") -> Callable[[bytes, str], Headers]:
    def sign(body: bytes, secret: str) -> Headers:
        return [(name, prefix + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest())]

    return sign


def like_github(before: str, after: str) -> dict[str, Any]:
    head = None if after == ZERO else {"id": after, "message": "m", "author": {"name": "Ada"}}
    return {"ref": "refs/heads/next", "before": before, "after": after, "head_commit": head, "repository": REPOSITORY}


def of_gitlab(before: str, after: str) -> dict[str, Any]:
    commits = [{"id": after, "message": "m", "author": {"name": "Ada"}}]
    project = {"path_with_namespace": "acme/shop"}
    push = {"object_kind": "push", "ref": "refs/heads/next", "before": before, "after": after}
    return {**push, "commits": commits, "project": project}


def of_bitbucket(before: str, after: str) -> dict[str, Any]:
    def tip(sha: str) -> dict[str, Any] | None:
        target = {"hash": sha, "message": "m", "author": {"user": {"display_name": "Ada"}}}
        return None if sha == ZERO else {"type": "branch", "name": "next", "target": target}

    return {"push": {"changes": [{"old": tip(before), "new": tip(after)}]}, "repository": REPOSITORY}


@dataclass(frozen=True)
class Known:
    """How one kind of host sends a push and proves who it is."""

    fields: Mapping[str, str]
    prove: Callable[[bytes, str], Headers]
    push: Callable[[str, str], dict[str, Any]]

    def request(self, before: str, after: str, *, secret: str = SECRET) -> tuple[Headers, bytes]:
        return self.sign(json.dumps(self.push(before, after)).encode(), secret)

    def sign(self, body: bytes, secret: str = SECRET) -> tuple[Headers, bytes]:
        return [("content-type", "application/json"), *self.fields.items(), *self.prove(body, secret)], body


KNOWN = {
    "github": Known(
        {"x-github-event": "push", "x-github-delivery": "d-1"}, signed("x-hub-signature-256", "sha256="), like_github
    ),
    "gitlab": Known(
        {"x-gitlab-event": "Push Hook", "x-gitlab-event-uuid": "d-1"},
        lambda body, secret: [("x-gitlab-token", secret)],
        of_gitlab,
    ),
    "gitea": Known({"x-gitea-event": "push", "x-gitea-delivery": "d-1"}, signed("x-gitea-signature"), like_github),
    "bitbucket": Known(
        {"x-event-key": "repo:push", "x-request-uuid": "d-1"}, signed("x-hub-signature", "sha256="), of_bitbucket
    ),
}


@pytest.fixture(scope="module")
def hosts() -> Mapping[str, GitHost]:
    return {name: factory() for name, factory in load_plugins().providers("git_hosts").items()}


def test_every_host_that_comes_along_is_tried(hosts: Mapping[str, GitHost]) -> None:
    assert set(hosts) == set(KNOWN)


@pytest.fixture(params=sorted(KNOWN))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def host(hosts: Mapping[str, GitHost], name: str) -> GitHost:
    return hosts[name]


def test_a_push_says_the_same_everywhere(host: GitHost, name: str) -> None:
    known = KNOWN[name]
    (found,) = host.read_deliveries(*known.request(A, B), SECRET)
    assert (found.id, found.event) == ("d-1", Push("acme/shop", "next", A, B, "m", "Ada"))
    (made,) = host.read_deliveries(*known.request(ZERO, B), SECRET)
    assert made.event == Push("acme/shop", "next", "", B, "m", "Ada")
    (gone,) = host.read_deliveries(*known.request(A, ZERO), SECRET)
    assert gone.event == BranchDeleted("acme/shop", "next", A)


def test_only_who_knows_the_secret_is_believed(host: GitHost, name: str) -> None:
    known = KNOWN[name]
    headers, body = known.request(A, B)
    wrong, _ = known.request(A, B, secret="guessed")
    for sent in (wrong, headers[:-1], [*headers, headers[-1]], [*headers[:-1], (headers[-1][0], "")], []):
        with pytest.raises(BadSignature):
            host.read_deliveries(sent, body, SECRET)
    with pytest.raises(BadSignature):
        host.read_deliveries(*known.request(A, B, secret=""), "")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", "{}".encode("utf-16"), b"[" * 50_000])
def test_what_is_proved_and_no_object_is_refused(host: GitHost, name: str, body: bytes) -> None:
    with pytest.raises(Invalid):
        host.read_deliveries(*KNOWN[name].sign(body), SECRET)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just("refs/heads/x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "ref", "before", "after", "deleted", "head_commit", "repository", "full_name", "pushed_at", "action", "number",
    "pull_request", "state", "head", "repo", "sha", "object_kind", "project", "object_attributes", "iid", "source",
    "last_commit", "commits", "push", "changes", "old", "new", "type", "name", "target", "pullrequest", "id",
    "branch", "commit", "updated_at",
)  # fmt: skip
PAYLOADS = st.recursive(ANY_JSON, lambda inner: st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6))
EVENTS = ("push", "pull_request", "repo:push", "pullrequest:created", "delete", "ping")


@pytest.mark.processes
@given(st.dictionaries(st.sampled_from(FIELDS), PAYLOADS), st.sampled_from(EVENTS))
def test_any_object_is_an_event_or_refused(hosts: Mapping[str, GitHost], payload: dict[str, Any], event: str) -> None:
    for name, host in hosts.items():
        headers, body = KNOWN[name].sign(json.dumps(payload).encode())
        headers = [(key, event if "event" in key and "uuid" not in key else value) for key, value in headers]
        with contextlib.suppress(Invalid):
            for found in host.read_deliveries(headers, body, SECRET):
                # As it is kept.
                assert "\0" not in json.dumps(asdict(found)).encode().decode()


@pytest.mark.parametrize("state", StatusState)
async def test_a_status_is_one_request_about_the_commit(host: GitHost, state: StatusState) -> None:
    calls = Calls("acme/shop")
    await host.set_status(calls, CommitStatus(A, state, "vclone/shop", "words", "https://x"))
    (asked,) = calls.asked
    assert asked.method == "POST"
    assert A in asked.path
    assert {"words", "https://x"} <= set(asked.body.values())


async def test_a_comment_is_made_once_and_then_edited(host: GitHost) -> None:
    calls = Calls("acme/shop")
    first = await host.set_comment(calls, PullComment(7, "mark one", "mark"), None)
    assert await host.set_comment(calls, PullComment(7, "mark two", "mark"), first) == first
    made = [one for one in calls.asked if one.method == "POST"]
    assert len(made) == 1
    assert "mark two" in json.dumps(calls.asked[-1].body)
    gone = Calls("acme/shop", {(calls.asked[-1].method, calls.asked[-1].path): (404, None)})
    assert await host.set_comment(gone, PullComment(7, "mark three", "mark"), first) != first


def test_the_api_of_a_server_of_one_s_own_is_on_that_server(host: GitHost) -> None:
    assert host.api_url("https://git.example:8443").startswith("https://git.example:8443/")
