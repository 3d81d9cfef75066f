"""Deploy hooks: made and removed by the team, called by whoever knows the URL."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from vclone_core.actions.projects import update_project
from vclone_core.models import Project, State
from vclone_core.rules.tokens import build_token
from vclone_core.stores import records

from .conftest import Api

URL = "https://git.example/a.git"


async def git_project(api: Api) -> Project:
    return await update_project(api.platform, api.owner, await api.project(), git_url=URL)


async def make_hook(api: Api, project: Project, **body: str) -> tuple[str, str]:
    status, hook = await api.ask("POST", f"/api/projects/{project.id}/hooks", json={"name": "cms", **body})
    assert status == 201
    return hook["id"], urlsplit(hook["url"]).path


async def test_a_hook_deploys_its_branch_for_whoever_calls_it(api: Api) -> None:
    project = await git_project(api)
    hook_id, path = await make_hook(api, project, branch="next")
    status, called = await api.ask("POST", path, None, data=b'{"event": "published"}')
    assert (status, called["project"], called["state"]) == (201, project.name, "queued")
    made = await records.fetch_deployment_by_id(api.platform.db, called["id"])
    assert made is not None
    assert (made.source.url, made.source.ref, made.trigger.value, made.target.value) == (URL, "next", "hook", "preview")
    _, listed = await api.ask("GET", f"/api/projects/{project.id}/hooks")
    assert [(one["id"], one["branch"]) for one in listed["items"]] == [(hook_id, "next")]
    assert listed["items"][0]["last_used_at"] is not None
    assert path.rpartition("/")[2] not in str(listed)


async def test_a_call_takes_the_place_of_the_one_before(api: Api) -> None:
    _, path = await make_hook(api, await git_project(api))
    ids = [(await api.ask("POST", path, None))[1]["id"] for _ in range(3)]
    states = [(await records.fetch_deployment_by_id(api.platform.db, one)) for one in ids]
    assert [one and one.state for one in states] == [State.CANCELLED, State.CANCELLED, State.QUEUED]
    assert states[0] is not None
    assert states[0].reason == f"superseded by {ids[1]}"


async def test_whatever_is_no_hook_gets_the_same_answer(api: Api) -> None:
    project = await git_project(api)
    hook_id, removed = await make_hook(api, project)
    assert await api.ask("DELETE", f"/api/projects/{project.id}/hooks/{hook_id}") == (204, "")
    gone = await git_project(api)
    _, deleted = await make_hook(api, gone)
    await api.ask("DELETE", f"/api/projects/{gone.id}")
    answers = []
    for path in (
        removed,
        deleted,
        "/api/hooks/x",
        f"/api/hooks/{build_token('hook', random=5)}",
        f"/api/hooks/{hook_id}",
    ):
        status, problem = await api.ask("POST", path, None)
        problem.pop("request_id")
        answers.append((status, problem))
    assert answers[0][0] == 404
    assert all(answer == answers[0] for answer in answers)
    assert (await api.ask("GET", removed, None))[0] == 405


async def test_a_flood_of_calls_is_stopped(api: Api) -> None:
    _, path = await make_hook(api, await git_project(api))
    statuses = [(await api.ask("POST", path, None))[0] for _ in range(12)]
    assert statuses == [201] * 10 + [429] * 2
    status, problem = await api.ask("POST", path, None)
    assert (status, problem["code"]) == (429, "too_many_requests")
    assert "second(s)" in problem["title"]


async def test_a_hook_needs_a_repository_and_a_branch_that_can_be_one(api: Api) -> None:
    bare = await api.project()
    assert (await api.ask("POST", f"/api/projects/{bare.id}/hooks", json={"name": "x"}))[0] == 409
    project = await git_project(api)
    for branch in ("--upload-pack=x", "a..b", "a b"):
        body = {"name": "x", "branch": branch}
        status, problem = await api.ask("POST", f"/api/projects/{project.id}/hooks", json=body)
        assert (status, problem["problems"][0]["field"]) == (400, "branch")


async def test_the_secret_stands_in_no_log_and_no_table(api: Api, logged: Callable[[], str]) -> None:
    _, path = await make_hook(api, await git_project(api))
    await api.ask("POST", path, None)
    token = path.rpartition("/")[2]
    assert "/api/hooks/…" in logged()
    assert token not in logged()
    rows = await api.platform.db.fetch("list_hooks", (await api.ask("GET", "/api/projects"))[1]["items"][0]["id"])
    assert rows
    assert token not in str([dict(row) for row in rows])


async def test_settings_of_flow_control_are_checked(api: Api) -> None:
    project = await api.project()
    path = f"/api/projects/{project.id}"
    settings = {"ignore_command": "exit 1", "watch_paths": ["apps/a", "!**/*.md"], "skip_unaffected": False}
    status, changed = await api.ask("PATCH", path, json={"settings": settings})
    assert status == 200
    assert {name: changed["settings"][name] for name in settings} == settings
    assert (await api.ask("GET", path))[1] == changed
    for wrong in (
        {"watch_paths": ["/a"]},
        {"watch_paths": None},
        {"skip_unaffected": "no"},
        {"watch_paths": ["a"] * 65},
    ):
        status, problem = await api.ask("PATCH", path, json={"settings": wrong})
        assert (status, problem["code"]) == (400, "invalid_fields")
