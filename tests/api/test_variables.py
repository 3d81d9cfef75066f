"""Environment variables over the API: what goes in, what comes out again, and what the audit log keeps of it."""

from __future__ import annotations

import json

from .conftest import Api

SECRET = "canary-2b7f0c-of-the-tests"


async def test_kept_listed_changed_and_deleted(api: Api) -> None:
    project = await api.project()
    path = f"/api/env/{project.name}"
    body = {
        "variables": [
            {"key": "A", "value": "1", "targets": ["production", "preview"]},
            {"key": "A", "value": "2", "targets": ["preview"], "branch": "next"},
            {"key": "S", "value": SECRET, "targets": ["development"], "is_sensitive": True, "is_run": False},
        ]
    }
    status, made = await api.ask("POST", path, json=body)
    assert status == 201
    assert [(one["key"], one["target"], one["branch"], one["value"]) for one in made["items"]] == [
        ("A", "preview", None, "1"), ("A", "preview", "next", "2"), ("A", "production", None, "1"),
        ("S", "development", None, None),
    ]  # fmt: skip
    assert (await api.ask("GET", path))[1] == made
    seen = (await api.ask("GET", path, "viewer"))[1]["items"]
    assert [one["value"] for one in seen] == [None] * 4
    values = (await api.ask("GET", f"{path}/values?target=preview&branch=next"))[1]
    assert values == {"values": {"A": "2"}, "withheld": []}
    assert (await api.ask("GET", f"{path}/values"))[1] == {"values": {}, "withheld": ["S"]}
    first, sensitive = made["items"][0]["id"], made["items"][3]["id"]
    status, changed = await api.ask("PATCH", f"{path}/{first}", json={"value": "3", "is_run": False})
    assert (status, changed["value"], changed["is_run"], changed["version"]) == (200, "3", False, 2)
    status, changed = await api.ask("PATCH", f"{path}/{sensitive}", json={"value": SECRET + "2"})
    assert (status, changed["value"]) == (200, None)
    assert await api.ask("DELETE", f"{path}/{first}") == (204, "")
    assert (await api.ask("DELETE", f"{path}/{first}"))[0] == 404
    assert len((await api.ask("GET", path))[1]["items"]) == 3


async def test_every_problem_is_told_at_once_without_a_value(api: Api) -> None:
    path = f"/api/env/{(await api.project()).name}"
    body = {"variables": [{"key": "PATH", "value": SECRET}, {"key": "B", "value": SECRET + "\0", "targets": ["live"]}]}
    status, problem = await api.ask("POST", path, json=body)
    assert (status, problem["code"]) == (400, "invalid_fields")
    assert [one["field"] for one in problem["problems"]] == [
        "variables.0.key",
        "variables.1.value",
        "variables.1.targets",
    ]
    assert SECRET not in json.dumps(problem)
    for wrong in ({"variables": []}, {"variables": [{"key": "A"}]}, {"variables": [{"key": "A", "value": 1}]}):
        assert (await api.ask("POST", path, json=wrong))[0] == 400
    assert (await api.ask("GET", f"{path}/values?target=live"))[0] == 400
    assert (await api.ask("GET", path))[1]["items"] == []


async def test_audit_log_has_names_and_no_values(api: Api) -> None:
    project = await api.project()
    path = f"/api/env/{project.name}"
    _, made = await api.ask("POST", path, json={"variables": [{"key": "A", "value": SECRET, "targets": ["preview"]}]})
    variable = made["items"][0]["id"]
    await api.ask("PATCH", f"{path}/{variable}", json={"value": SECRET + "2"})
    await api.ask("DELETE", f"{path}/{variable}")
    entries = (await api.ask("GET", "/api/audit?limit=3"))[1]["items"]
    assert [one["action"] for one in entries] == ["delete_variable", "change_variable", "create_variables"]
    assert [entries[0]["facts"]["key"], entries[1]["facts"]["changed"], entries[2]["facts"]["keys"]] == [
        "A", ["value"], ["A"],
    ]  # fmt: skip
    assert SECRET not in json.dumps(entries)
