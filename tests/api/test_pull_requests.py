"""Pull requests: previews that go when they are closed, and forks that wait for an approval."""

from __future__ import annotations

import pytest
from tests.payloads import SHAS, ZERO

from vclone_core.actions import deployments
from vclone_core.models import FileEntry, Manifest
from vclone_core.settings import Settings

from .shops import Shop, following

A, B, C, D, *_ = SHAS


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return following(settings)


async def test_a_pull_request_is_deployed_once_and_gone_when_it_is_closed(shop: Shop) -> None:
    push = await shop.deliver(shop.repository.push("next", ZERO, A))
    opened = await shop.deliver(shop.repository.pull(7, "next", A))
    assert (opened.outcome, opened.deployment_id) == ("noted", push.deployment_id)
    await shop.publish(str(push.deployment_id))
    assert len(await shop.hosts()) == 1
    await shop.deliver(shop.repository.push("next", A, B))
    closed = await shop.deliver(shop.repository.pull(7, "next", B, action="closed"))
    assert closed.outcome == "removed"
    assert await shop.hosts() == []
    assert [one.state.value for one in await shop.deployments()] == ["ready", "cancelled"]
    # Its own address serves it for as long as it is kept.
    assert len(await deployments.list_aliases(shop.api.platform, shop.api.owner, shop.project)) == 1
    reopened = await shop.deliver(shop.repository.pull(7, "next", B, action="reopened"))
    assert reopened.outcome == "deployed"


async def test_a_pull_request_that_is_opened_again_has_its_host_again(shop: Shop) -> None:
    push = await shop.deliver(shop.repository.push("next", ZERO, A))
    await shop.publish(str(push.deployment_id))
    await shop.deliver(shop.repository.pull(7, "next", A))
    before = await shop.hosts()
    await shop.deliver(shop.repository.pull(7, "next", A, action="closed"))
    assert await shop.hosts() == []
    await shop.deliver(shop.repository.pull(7, "next", A, action="reopened"))
    assert await shop.hosts() == before


async def test_the_pull_request_of_a_branch_from_before_the_connection_is_deployed(shop: Shop) -> None:
    opened = await shop.deliver(shop.repository.pull(7, "old", A))
    assert opened.outcome == "deployed"
    # Its push comes late, or a second time: it is deployed already.
    assert (await shop.deliver(shop.repository.push("old", ZERO, A))).outcome == "known"
    assert len(await shop.deployments()) == 1


async def test_a_late_word_of_a_pull_request_changes_nothing(shop: Shop) -> None:
    late = shop.repository.pull(7, "old", A, updated_s=1_780_000_000)
    await shop.deliver(shop.repository.pull(7, "old", B, action="closed", updated_s=1_780_000_100))
    assert (await shop.deliver(late)).outcome == "older"
    assert await shop.deployments() == []


async def test_a_host_that_two_pull_requests_share_stays_until_both_are_closed(shop: Shop) -> None:
    push = await shop.deliver(shop.repository.push("next", ZERO, A))
    await shop.publish(str(push.deployment_id))
    for number in (7, 8):
        await shop.deliver(shop.repository.pull(number, "next", A))
    assert (await shop.deliver(shop.repository.pull(7, "next", A, action="closed"))).outcome == "noted"
    assert len(await shop.hosts()) == 1
    assert (await shop.deliver(shop.repository.pull(8, "next", A, action="closed"))).outcome == "removed"
    assert await shop.hosts() == []


async def test_a_deleted_branch_takes_its_preview_along_and_production_stays(shop: Shop) -> None:
    main = await shop.deliver(shop.repository.push("main", ZERO, A))
    await shop.publish(str(main.deployment_id))
    branch = await shop.deliver(shop.repository.push("next", ZERO, B))
    await shop.publish(str(branch.deployment_id))
    assert len(await shop.hosts()) == 2
    assert (await shop.deliver(shop.repository.push("next", B, ZERO))).outcome == "removed"
    assert (await shop.deliver(shop.repository.push("main", A, ZERO))).outcome == "noted"
    assert [one.endswith("-git-main") for one in await shop.hosts()] == [True]
    status, site = await shop.api.ask("GET", f"/internal/v1/sites/{shop.project.name}.localhost", "edge")
    assert (status, site["deployment_id"]) == (200, main.deployment_id)


async def test_a_build_that_ends_behind_the_closing_brings_nothing_back(shop: Shop) -> None:
    push = await shop.deliver(shop.repository.push("next", ZERO, A))
    await shop.deliver(shop.repository.pull(7, "next", A))
    claim = await shop.api.claim()
    await shop.deliver(shop.repository.pull(7, "next", A, action="closed"))
    files = {"/index.html": FileEntry(sha256="0" * 64, size=5, type="text/html")}
    manifest = Manifest(str(push.deployment_id), shop.project.id, "static", files, routes=())
    from vclone_core.errors import Cancelled

    with pytest.raises(Cancelled):
        await deployments.publish(shop.api.platform, claim, manifest)
    assert await shop.hosts() == []


FORK = {"fork": "eve/shop", "clone_url": "http://github.localhost:8000/eve/shop.git"}


async def test_a_fork_waits_for_an_approval_and_is_told_no_secret(shop: Shop) -> None:
    api, name = shop.api, shop.project.name
    # A branch called as the production branch, in a repository of a stranger.
    waiting = await shop.deliver(shop.repository.pull(9, "main", A, **FORK))
    assert (waiting.outcome, await shop.deployments()) == ("waits", [])
    _, listed = await api.ask("GET", f"/api/projects/{name}/git/pull-requests")
    assert [(one["number"], one["waits_for_approval"], one["head_sha"]) for one in listed["items"]] == [(9, True, A)]
    path = f"/api/projects/{name}/git/pull-requests/9/approve"
    assert (await api.ask("POST", path, "viewer", json={"sha": A}))[0] == 403
    assert (await api.ask("POST", path, "stranger", json={"sha": A}))[0] == 404
    assert (await api.ask("POST", path, json={"sha": B}))[0] == 409
    status, made = await api.ask("POST", path, json={"sha": A})
    assert (status, made["target"], made["source"]["fork"]) == (201, "preview", "eve/shop")
    assert (made["source"]["url"], made["source"]["sha"]) == (FORK["clone_url"], A)
    assert (await api.ask("POST", path, json={"sha": A}))[1]["id"] == made["id"]
    claim = await api.claim()
    from vclone_core.actions.gittokens import find_access, save_token
    from vclone_core.actions.variables import read_build_variables, save_variables
    from vclone_core.rules.variables import NewVariable

    await save_variables(api.platform, api.owner, shop.project, [NewVariable("SECRET", "s3cret", ("preview",))])
    await save_token(api.platform, api.owner, "github.localhost:8000", "a-token-of-the-team")
    assert await read_build_variables(api.platform, claim) == {}
    assert await find_access(api.platform, shop.project.team_id, claim.deployment.source) is None


async def test_a_fork_takes_neither_production_nor_a_branch_s_host(shop: Shop) -> None:
    main = await shop.deliver(shop.repository.push("main", ZERO, B))
    await shop.publish(str(main.deployment_id))
    before = await shop.hosts()
    await shop.deliver(shop.repository.pull(9, "main", A, **FORK))
    path = f"/api/projects/{shop.project.name}/git/pull-requests/9/approve"
    made = (await shop.api.ask("POST", path, json={"sha": A}))[1]
    await shop.publish(made["id"])
    _, site = await shop.api.ask("GET", f"/internal/v1/sites/{before[0]}.localhost", "edge")
    assert site["deployment_id"] == main.deployment_id
    _, site = await shop.api.ask("GET", f"/internal/v1/sites/{shop.project.name}.localhost", "edge")
    assert site["deployment_id"] == main.deployment_id
    assert len(await shop.hosts()) == 2
    assert (await shop.deliver(shop.repository.pull(9, "main", A, action="closed", **FORK))).outcome == "removed"
    assert await shop.hosts() == before


async def test_an_approval_counts_for_one_commit(shop: Shop) -> None:
    await shop.deliver(shop.repository.pull(9, "main", A, **FORK))
    path = f"/api/projects/{shop.project.name}/git/pull-requests/9/approve"
    assert (await shop.api.ask("POST", path, json={"sha": A}))[0] == 201
    again = await shop.deliver(shop.repository.pull(9, "main", A, action="edited", **FORK))
    assert again.outcome == "noted"
    changed = await shop.deliver(shop.repository.pull(9, "main", B, action="synchronize", **FORK))
    assert changed.outcome == "waits"
    assert [one.source.sha for one in await shop.deployments()] == [A]
    assert (await shop.api.ask("POST", path, json={"sha": A}))[0] == 409
    assert (await shop.api.ask("POST", path, json={"sha": B}))[0] == 201
    own = await shop.deliver(shop.repository.pull(10, "x", C))
    assert own.outcome == "deployed"
    assert (await shop.api.ask("POST", path.replace("/9/", "/10/"), json={"sha": C}))[0] == 409


@pytest.mark.parametrize("url", ["http://evil.localhost:8000/eve/shop.git", "file:///etc", None])
async def test_a_fork_elsewhere_is_not_cloned(shop: Shop, url: str | None) -> None:
    handled = await shop.deliver(shop.repository.pull(9, "main", A, fork="eve/shop", clone_url=url))
    assert handled.outcome == "ignored"
    path = f"/api/projects/{shop.project.name}/git/pull-requests/9/approve"
    assert (await shop.api.ask("POST", path, json={"sha": A}))[0] in (400, 409)
    assert await shop.deployments() == []
