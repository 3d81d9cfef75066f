"""What clients send: each way it can be wrong is told, all at once, and nothing is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Api, file_of

GIT = {"kind": "git", "url": "https://git.example/a.git"}


async def test_every_problem_of_every_field_comes_at_once(api: Api) -> None:
    body = {
        "name": "No Good",
        "git_url": 7,
        "colour": "red",
        "settings": {"root_directory": None, "build_command": "", "production_branch": "", "size": 1},
    }
    status, problem = await api.ask("POST", "/api/projects", json=body)
    assert (status, problem["code"]) == (400, "invalid_fields")
    fields = {item["field"] for item in problem["problems"]}
    assert fields == {
        "name",
        "git_url",
        "colour",
        "settings.root_directory",
        "settings.build_command",
        "settings.production_branch",
        "settings.size",
    }
    assert "No Good" not in json.dumps(problem)


BAD: list[tuple[str, Any, str]] = [
    ("reserved name", {"name": "www"}, "name"),
    ("name too long", {"name": "a" * 54}, "name"),
    ("a number as a name", {"name": 5}, "name"),
    ("NUL", {"name": "ok", "git_url": "https://x/\0"}, "git_url"),
    ("escape codes", {"name": "ok", "settings": {"build_command": "echo \x1b[31m"}}, "settings.build_command"),
    ("a list", [], "body"),
    ("null", None, "body"),
    ("a text", "x", "body"),
]


@pytest.mark.parametrize(("body", "field"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
async def test_a_project_that_can_not_be(api: Api, body: Any, field: str) -> None:
    status, problem = await api.ask("POST", "/api/projects", json=body)
    assert status == 400
    assert [item["field"] for item in problem["problems"]] == [field]
    assert (await api.ask("GET", "/api/projects"))[1]["items"] == []


@pytest.mark.parametrize("number", [30, 30.0])
async def test_a_whole_number_is_an_integer_however_it_is_written(api: Api, number: float) -> None:
    project = await api.project()
    path = f"/api/projects/{project.name}/retention"
    status, saved = await api.ask("PATCH", path, json={"preview_days": number})
    assert (status, saved["preview_days"]) == (200, 30)


@pytest.mark.parametrize("number", [30.5, "30", True, 0.0, 1e308])
async def test_what_is_no_whole_number_is_refused(api: Api, number: Any) -> None:
    project = await api.project()
    path = f"/api/projects/{project.name}/retention"
    status, problem = await api.ask("PATCH", path, json={"preview_days": number})
    assert (status, [item["field"] for item in problem["problems"]]) == (400, ["preview_days"])


def upload(**file: Any) -> dict[str, Any]:
    return {"source": {"kind": "upload"}, "files": [{**file_of("a", b""), **file}]}


BAD_DEPLOYMENTS: list[tuple[str, dict[str, Any], str]] = [
    ("no source", {}, "source"),
    ("unknown kind", {"source": {"kind": "svn"}}, "source"),
    ("git without url", {"source": {"kind": "git"}}, "source.url"),
    ("short sha", {"source": {**GIT, "sha": "abc"}}, "source.sha"),
    ("git fields on an upload", {"source": {"kind": "upload", "url": "x"}}, "source.url"),
    ("unknown target", {"source": GIT, "target": "staging"}, "target"),
    ("text for a number", upload(size="1"), "files.0.size"),
    ("negative size", upload(size=-1), "files.0.size"),
    ("upper-case hash", upload(sha256="A" * 64), "files.0.sha256"),
    ("leaves the folder", upload(path="../a"), "files.0.path"),
    ("absolute", upload(path="/a"), "files.0.path"),
    ("unknown setting", {"source": GIT, "settings": {"speed": "fast"}}, "settings.speed"),
]


@pytest.mark.parametrize(
    ("body", "field"), [row[1:] for row in BAD_DEPLOYMENTS], ids=[row[0] for row in BAD_DEPLOYMENTS]
)
async def test_a_deployment_that_can_not_be(api: Api, body: dict[str, Any], field: str) -> None:
    project = await api.project()
    status, problem = await api.ask("POST", "/api/deployments", json={"project": project.name, **body})
    assert status == 400
    assert [item["field"] for item in problem["problems"]] == [field]
    assert (await api.ask("GET", "/api/deployments"))[1]["items"] == []


BAD_QUERIES = [
    ("/api/deployments?limit=0", "limit"),
    ("/api/deployments?limit=101", "limit"),
    ("/api/deployments?limit=ten", "limit"),
    ("/api/deployments?state=done", "state"),
    ("/api/deployments?statee=ready", "statee"),
    ("/api/aliases", "project"),
]


@pytest.mark.parametrize(("path", "field"), BAD_QUERIES)
async def test_a_query_that_can_not_be(api: Api, path: str, field: str) -> None:
    status, problem = await api.ask("GET", path)
    assert status == 400
    assert [item["field"] for item in problem["problems"]] == [field]


@pytest.mark.parametrize("data", [b"{", b"nonsense", b"\xff\xfe", b'{"name": "\\ud800"}', b"{} {}"])
async def test_what_is_not_json(api: Api, data: bytes) -> None:
    status, problem = await api.ask("POST", "/api/projects", data=data, headers={"content-type": "application/json"})
    assert (status, problem["code"]) == (400, "invalid")


async def test_deeply_nested_json_is_refused_and_not_a_crash(api: Api) -> None:
    data = b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    status, problem = await api.ask("POST", "/api/projects", data=data, headers={"content-type": "application/json"})
    assert (status, problem["code"]) == (400, "invalid")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_a_body_that_does_not_call_itself_json(api: Api, media_type: str) -> None:
    status, problem = await api.ask("POST", "/api/projects", data=b'{"name":"a"}', headers={"content-type": media_type})
    assert (status, problem["code"]) == ((415, "wrong_media_type") if media_type else (413, "too_large"))


async def test_an_empty_body_is_an_empty_object(api: Api) -> None:
    project = await api.project()
    first = await api.live(project)
    await api.live(project)
    status, answer = await api.ask("POST", f"/api/projects/{project.name}/rollback")
    assert (status, answer["deployment"]["id"]) == (200, first.id)


async def test_two_mebibytes_of_json_are_too_many(api: Api) -> None:
    data = b'{"name": "' + b"a" * 2 * 1024**2 + b'"}'
    status, problem = await api.ask("POST", "/api/projects", data=data, headers={"content-type": "application/json"})
    assert (status, problem["code"]) == (413, "too_large")


async def test_two_mebibytes_of_hashes_are_not(api: Api) -> None:
    project = await api.project()
    hashes = [f"{number:064x}" for number in range(25_000)]
    status, answer = await api.ask("POST", f"/api/projects/{project.id}/blobs/missing", json={"sha256": hashes})
    assert (status, answer["missing"]) == (200, hashes)
    body = {"sha256": [*hashes, "0" * 64]}
    assert (await api.ask("POST", f"/api/projects/{project.id}/blobs/missing", json=body))[0] == 400


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_a_method_that_is_not_there(api: Api, method: str) -> None:
    status, problem = await api.ask(method, "/api/projects")
    assert (status, problem["code"]) == (405, "wrong_method")


@pytest.mark.parametrize(
    "path",
    ["/api/nothing", "/api/deployments/%00", "/api/projects/" + "a" * 300, "/api/projects/%0a", "/internal/v1/x"],
)
async def test_an_address_that_names_nothing(api: Api, path: str) -> None:
    status, problem = await api.ask("GET", path)
    assert (status, problem["code"]) == (404, "not_found")


async def test_an_address_too_long(api: Api) -> None:
    assert (await api.ask("GET", "/api/projects?x=" + "a" * 9000))[0] == 400


async def test_every_answer_carries_its_id_and_keeps_to_itself(api: Api) -> None:
    for path in ("/api/me", "/api/nothing", "/", "/api/health"):
        response = await api.response("GET", path)
        assert response.headers["x-vclone-id"].startswith("req_")
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert response.headers["cache-control"] == "no-store"
    assert (await api.ask("GET", "/api/nothing"))[1]["request_id"].startswith("req_")


async def test_a_crash_shows_an_id_and_nothing_else(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    async def crash() -> str:
        raise RuntimeError("password=hunter2")

    api.app.add_url_rule("/api/crash", "crash", crash)
    status, problem = await api.ask("GET", "/api/crash")
    assert (status, problem["code"]) == (500, "internal")
    assert "hunter2" not in json.dumps(problem)
    assert problem["request_id"] in problem["hint"]


@pytest.mark.parametrize("days", [0, -1, 367, 2.225073858507203e-309])
async def test_a_life_of_a_token_that_no_clock_counts_is_refused(api: Api, days: float) -> None:
    body = {"name": "t", "scopes": ["read"], "expires_days": days}
    status, problem = await api.ask("POST", "/api/tokens", json=body)
    assert (status, [item["field"] for item in problem["problems"]]) == (400, ["expires_days"])
