"""Environment variables over the API: what goes in, what comes out again, and what the audit log keeps of it."""

from __future__ import annotations

import json

from vclone_core.actions import accounts, owners

from .browser import CookieBrowser
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
    assert (await api.ask("GET", path))[1]["items"] == made["items"]
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


async def signed_in(api: Api, caller: str) -> CookieBrowser:
    actor = await accounts.actor_from_token(api.platform, api.callers[caller])
    browser = CookieBrowser(api.app)
    link = await owners.sign_in_link(api.platform.db, actor.user_id)
    browser.cookies["vclone_session"] = await accounts.redeem_sign_in_link(api.platform, link)
    return browser


async def test_page_adds_pastes_and_deletes(api: Api) -> None:
    project = await api.project()
    path = f"/projects/{project.name}/env"
    browser = await signed_in(api, "owner")
    every = {f"target:{target}": "on" for target in ("production", "preview", "development")}
    added = await browser.post(path, key="A", value="one\r\n<b>two", use="build", branch="", **every)
    assert added == (303, path)
    secret = await browser.post(
        path, key="S", value=SECRET, use="both", branch="next", is_sensitive="on", **{"target:preview": "on"}
    )
    assert secret == (303, path)
    pasted = await browser.post(path, text="# mine\r\nexport B='x y'\r\nC=2\r\n", use="both", branch="", **every)
    assert pasted == (303, path)
    status, text = await browser.get(path)
    assert status == 200
    assert "one\n&lt;b&gt;two" in text and "<b>two" not in text and "x y" in text and "builds only" in text
    assert SECRET not in text and "sensitive" in text and '<span class="git">next</span>' in text
    listed = (await api.ask("GET", f"/api/env/{project.name}"))[1]["items"]
    assert {one["value"] for one in listed if one["key"] == "A"} == {"one\n<b>two"}
    assert len(listed) == 10
    assert await browser.post(f"{path}/{listed[0]['id']}/delete") == (303, path)
    assert len((await api.ask("GET", f"/api/env/{project.name}"))[1]["items"]) == 9
    entries = (await api.ask("GET", "/api/audit?limit=4"))[1]["items"]
    assert [one["action"] for one in entries] == ["delete_variable", *["create_variables"] * 3]
    assert SECRET not in json.dumps(entries)


async def test_page_says_what_is_wrong_and_keeps_no_value(api: Api) -> None:
    path = f"/projects/{(await api.project()).name}/env"
    browser = await signed_in(api, "owner")
    status, text = await browser.post(
        path, key="PATH", value=SECRET, use="both", branch="next", **{"target:preview": ""}
    )
    assert status == 400
    assert "Name is reserved: it belongs to the machine" in text and 'value="PATH"' in text and 'value="next"' in text
    status, text = await browser.post(path, key="A", value=SECRET, use="run", branch="")
    assert status == 400 and "Targets must be one or more of" in text
    status, pasted = await browser.post(path, text=f"A={SECRET}\nB\n", use="both", branch="", **{"target:preview": ""})
    assert status == 400 and "Line 2 has no `KEY=value`" in pasted
    assert SECRET not in text + pasted
    status, text = await browser.post(path, text="1A=x\nB=y\n", use="both", branch="", **{"target:preview": ""})
    assert status == 400 and "1a: name must be letters" in text
    assert (await api.ask("GET", "/api/env/" + path.split("/")[2]))[1]["items"] == []


async def test_page_shows_viewers_names_alone(api: Api) -> None:
    project = await api.project()
    await api.ask("POST", f"/api/env/{project.name}", json={"variables": [{"key": "A", "value": SECRET}]})
    status, text = await (await signed_in(api, "viewer")).get(f"/projects/{project.name}/env")
    assert status == 200 and "<code>A</code>" in text
    assert SECRET not in text and "<textarea" not in text
