"""GitHub's payloads as octokit publishes them, examples and schemas, from the npm registry: all of them are read."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.needs import lacks
from tests.payloads import GitHubRepository

from vclone_core.models import BranchDeleted, GitEvent, Ignored, Ping, PullRequestChanged, Push
from vclone_git_github.payloads import ACTIONS, read_deliveries

pytestmark = [pytest.mark.registry, pytest.mark.timeout(300)]

PACKAGES = ("@octokit/webhooks-examples@7", "@octokit/webhooks-schemas@7")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("npm") is None:
        lacks("npm is not installed")
    folder = tmp_path_factory.mktemp("octokit")
    command = ["npm", "pack", "--silent", "--pack-destination", str(folder), *PACKAGES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
    if done.returncode != 0:
        lacks(f"the npm registry can't be read: {done.stderr[-300:]}")
    for archive in folder.glob("*.tgz"):
        target = folder / archive.name.removesuffix(".tgz")
        target.mkdir()
        subprocess.run(["tar", "-xzf", str(archive), "-C", str(target)], check=True)
    return folder


@pytest.fixture(scope="module")
def examples(published: Path) -> list[tuple[str, dict[str, Any]]]:
    """Every example of every server, as (event, payload)."""
    files = list(published.glob("*examples*/package/*/index.json"))
    assert files
    listed = [one for path in files for one in json.loads(path.read_text(encoding="utf-8"))]
    return [(one["name"], payload) for one in listed for payload in one["examples"]]


def read(name: str, payload: dict[str, Any]) -> GitEvent:
    repository = GitHubRepository()
    request = repository.request(name, payload)
    (found,) = read_deliveries(request.headers, request.body, repository.secret)
    assert found.name == name
    return found.event


def test_every_example_is_read(examples: list[tuple[str, dict[str, Any]]]) -> None:
    assert len(examples) > 200
    for name, payload in examples:
        event = read(name, payload)
        if name == "ping":
            assert isinstance(event, Ping)
        elif name not in ("push", "pull_request"):
            assert isinstance(event, Ignored)
        assert event.repository == ((payload.get("repository") or {}).get("full_name") or "")


def test_pushes_say_what_the_payload_says(examples: list[tuple[str, dict[str, Any]]]) -> None:
    pushes = [payload for name, payload in examples if name == "push"]
    found = [(payload, read("push", payload)) for payload in pushes]
    assert any(isinstance(event, Ignored) for _, event in found)  # tags
    branches = [(payload, event) for payload, event in found if not isinstance(event, Ignored)]
    assert branches
    for payload, event in branches:
        assert isinstance(event, Push | BranchDeleted)
        assert f"refs/heads/{event.ref}" == payload["ref"]
        assert event.before == payload["before"].strip("0") or event.before == payload["before"]
        if isinstance(event, Push):
            assert (event.sha, event.message) == (payload["after"], payload["head_commit"]["message"])
        assert isinstance(payload["repository"]["pushed_at"], int)  # two deliveries never have the same body


def test_pull_requests_say_what_the_payload_says(examples: list[tuple[str, dict[str, Any]]]) -> None:
    seen = set()
    for name, payload in examples:
        if name != "pull_request":
            continue
        event, pull = read(name, payload), payload["pull_request"]
        if payload["action"] not in ACTIONS:
            assert isinstance(event, Ignored)
            continue
        seen.add(payload["action"])
        assert isinstance(event, PullRequestChanged)
        assert (event.number, event.is_open) == (pull["number"], pull["state"] == "open")
        assert (event.head_ref, event.head_sha) == (pull["head"]["ref"], pull["head"]["sha"])
        assert event.head_repository == pull["head"]["repo"]["full_name"]
        assert event.head_url == pull["head"]["repo"]["clone_url"]
        assert event.changed_at_s is not None
    assert {"opened", "reopened", "synchronize", "closed"} <= seen


def test_what_is_read_is_what_the_schemas_promise(published: Path) -> None:
    (path,) = published.glob("*schemas*/package/schema.json")
    known = json.loads(path.read_text(encoding="utf-8"))["definitions"]
    promised = {
        "push$event": {"ref", "before", "after", "deleted", "head_commit", "repository"},
        "pull_request$opened": {"action", "number", "pull_request", "repository"},
        "pull_request$synchronize": {"action", "number", "pull_request", "repository"},
        "pull_request$closed": {"action", "number", "pull_request", "repository"},
        "pull-request": {"number", "state", "title", "user", "head", "updated_at"},
        "repository": {"full_name", "clone_url", "pushed_at"},
        "commit": {"message", "author"},
    }
    for name, fields in promised.items():
        assert fields <= set(known[name]["required"]), name
