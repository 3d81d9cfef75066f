"""Projects and deployments through the door of the API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from vclone_api.openapi import template_path
from vclone_api.routes import ROUTES
from vclone_core.models import Failure
from vclone_core.rules.lifecycle import Event
from vclone_core.stores import buildlogs, queue
from vclone_core.stores.buildlogs import NewLine

from .conftest import Api, file_of

GIT = {"kind": "git", "url": "https://git.example/a.git", "ref": "main"}


async def test_a_project_from_making_to_deleting(api: Api) -> None:
    status, made = await api.ask("POST", "/api/projects", json={"name": "shop", "settings": {"framework": "vite"}})
    assert status == 201
    assert (made["name"], made["settings"]["framework"], made["settings"]["production_branch"]) == (
        "shop",
        "vite",
        "main",
    )
    assert made["production_url"] == "http://shop.localhost:8080"
    assert (await api.ask("GET", f"/api/projects/{made['id']}"))[1] == made
    assert (await api.ask("GET", "/api/projects"))[1] == {"items": [made], "next_cursor": None}

    change = {"settings": {"framework": None, "build_command": "make"}, "git_url": "https://git.example/a.git"}
    status, changed = await api.ask("PATCH", "/api/projects/shop", json=change)
    assert status == 200
    assert changed["settings"] == {**made["settings"], "framework": None, "build_command": "make"}
    assert changed["git_url"] == change["git_url"]

    status, problem = await api.ask("POST", "/api/projects", json={"name": "shop"})
    assert (status, problem["code"]) == (409, "name_taken")
    assert await api.ask("DELETE", "/api/projects/shop") == (204, "")
    assert (await api.ask("GET", "/api/projects/shop"))[0] == 404


async def test_projects_come_in_pages(api: Api) -> None:
    ids = [(await api.project()).id for _ in range(5)]
    seen, cursor = [], None
    while True:
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        _, page = await api.ask("GET", "/api/projects", query_string=query)
        seen += [item["id"] for item in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == sorted(ids, reverse=True)


async def test_a_git_deployment_makes_its_project_and_waits(api: Api) -> None:
    body = {"project": "shop", "source": GIT, "create_project": True}
    status, made = await api.ask("POST", "/api/deployments", json=body)
    assert status == 201
    assert (made["project"], made["state"], made["target"], made["sequence"]) == ("shop", "queued", "production", 1)
    assert made["queue_position"] == 1
    assert made["url"] == f"http://{made['id'][-10:]}-shop.localhost:8080"
    assert (made["production_url"], made["aliases"], made["failure"], made["step"]) == (None, [], None, None)
    assert made["source"] == {**GIT, "sha": None, "message": None, "author": None, "fork": None}
    status, _ = await api.ask("POST", "/api/deployments", json={"project": "nothing", "source": GIT})
    assert status == 404


async def test_an_upload_needs_its_blobs(api: Api) -> None:
    project = await api.project()
    files = [file_of("index.html", b"hello"), file_of("a/b.txt", b"b")]
    body = {"project": project.id, "source": {"kind": "upload"}, "files": files}
    status, problem = await api.ask("POST", "/api/deployments", json=body)
    assert (status, problem["code"]) == (409, "missing_blobs")
    await api.upload(project, b"hello", b"b")
    status, made = await api.ask("POST", "/api/deployments", json=body)
    assert (status, made["source"]["kind"]) == (201, "upload")
    status, problem = await api.ask("POST", "/api/deployments", json={**body, "files": []})
    assert (status, problem["code"]) == (422, "empty_source")


async def test_a_live_deployment_has_its_hosts_and_files(api: Api) -> None:
    project = await api.project()
    deployment = await api.live(project)
    _, shown = await api.ask("GET", f"/api/deployments/{deployment.id}")
    assert shown["state"] == "ready"
    assert shown["production_url"] == f"http://{project.name}.localhost:8080"
    assert f"{project.name}.localhost" in shown["aliases"] and shown["url"].partition("://")[2][:-5] in shown["aliases"]
    assert (await api.ask("GET", f"/api/deployments/{project.name}.localhost"))[1]["id"] == deployment.id
    _, files = await api.ask("GET", f"/api/deployments/{deployment.id}/files")
    assert files["items"] == [{"path": "/index.html", "sha256": "0" * 64, "size": 5, "type": "text/html"}]
    _, aliases = await api.ask("GET", "/api/aliases", query_string={"project": project.name})
    assert {item["kind"] for item in aliases["items"]} == {"production", "deployment", "branch"}


async def test_rollback_and_promote_move_production_and_say_who_saw_it(api: Api) -> None:
    project = await api.project()
    first, second = await api.live(project), await api.live(project)
    status, switch = await api.ask("POST", f"/api/projects/{project.name}/rollback", json={})
    assert (status, switch["deployment"]["id"], switch["receipts"]) == (200, first.id, [])
    assert (await api.ask("GET", f"/api/projects/{project.name}"))[1]["is_publishing_paused"] is True
    status, problem = await api.ask("POST", f"/api/projects/{project.name}/rollback", json={})
    assert (status, problem["code"]) == (409, "no_earlier_deployment")
    status, switch = await api.ask("POST", f"/api/deployments/{second.id}/promote")
    assert (status, switch["deployment"]["production_url"]) == (200, f"http://{project.name}.localhost:8080")
    status, switch = await api.ask("POST", f"/api/projects/{project.name}/rollback", json={"to": first.id})
    assert (status, switch["deployment"]["id"]) == (200, first.id)


async def test_deployments_come_in_pages_newest_first(api: Api) -> None:
    project, other = await api.project(), await api.project()
    made = [(await api.queued(project)).id for _ in range(3)]
    await api.queued(other)
    _, page = await api.ask("GET", "/api/deployments", query_string={"project": project.name, "limit": 2})
    assert [item["id"] for item in page["items"]] == [made[2], made[1]]
    query = {"project": project.name, "limit": 2, "cursor": page["next_cursor"]}
    _, rest = await api.ask("GET", "/api/deployments", query_string=query)
    assert ([item["id"] for item in rest["items"]], rest["next_cursor"]) == ([made[0]], None)
    _, everything = await api.ask("GET", "/api/deployments", query_string={"state": "queued"})
    assert len(everything["items"]) == 4


async def test_cancel_and_redeploy(api: Api) -> None:
    project = await api.project()
    deployment = await api.queued(project)
    status, cancelled = await api.ask("POST", f"/api/deployments/{deployment.id}/cancel")
    assert (status, cancelled["state"]) == (200, "cancelled")
    status, problem = await api.ask("POST", f"/api/deployments/{deployment.id}/cancel")
    assert (status, problem["code"]) == (409, "wrong_state")
    status, again = await api.ask("POST", f"/api/deployments/{deployment.id}/redeploy")
    assert (status, again["state"], again["source"]["ref"]) == (201, "queued", "main")


async def test_a_failure_and_its_log(api: Api) -> None:
    project = await api.project()
    await api.queued(project)
    claim = await api.claim()
    lines = [NewLine("build", "stderr", f"line {number}", datetime.now(UTC)) for number in range(1, 6)]
    await buildlogs.append(api.platform.db, claim.fence, lines, cap_bytes=10**6)
    failure = Failure("build_failed", "It broke.", "Mend it.", "build")
    await queue.finish(api.platform.db, claim, Event.FAIL, failure=failure)
    _, shown = await api.ask("GET", f"/api/deployments/{claim.deployment.id}")
    assert (shown["state"], shown["failure"]["code"], shown["failure"]["step"]) == ("failed", "build_failed", "build")
    _, log = await api.ask("GET", f"/api/deployments/{claim.deployment.id}/logs", query_string={"after": 2, "limit": 2})
    assert [(item["number"], item["text"], item["stream"]) for item in log["items"]] == [
        (3, "line 3", "stderr"),
        (4, "line 4", "stderr"),
    ]
    status, problem = await api.ask("GET", f"/api/deployments/{claim.deployment.id}/files")
    assert (status, problem["code"]) == (409, "wrong_state")


# Of JSON Schema 2020-12 and OpenAPI 3.1: a limit under any other name is none to those who read the document.
KEYWORDS = {
    "$ref", "additionalProperties", "anyOf", "const", "contentMediaType", "default", "description", "discriminator",
    "enum", "examples", "exclusiveMaximum", "exclusiveMinimum", "format", "items", "maxItems", "maxLength",
    "maxProperties", "maximum", "minItems", "minLength", "minimum", "oneOf", "pattern", "prefixItems", "properties",
    "propertyNames", "required", "title", "type", "uniqueItems",
}  # fmt: skip


def keywords_of(schema: Any) -> Iterator[str]:
    """Every keyword in a schema and in those within it."""
    if isinstance(schema, dict):
        yield from schema
        for keyword, value in schema.items():
            for within in value.values() if keyword == "properties" else value if isinstance(value, list) else (value,):
                if keyword not in {"default", "examples", "const", "discriminator"}:
                    yield from keywords_of(within)


async def test_the_document_names_every_route_and_every_body(api: Api) -> None:
    _, document = await api.ask("GET", "/api/openapi.json", None)
    assert document["openapi"] == "3.1.0"
    named = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert named == {(route.method, template_path(route.path)) for route in ROUTES}
    schemas = document["components"]["schemas"]
    for route in ROUTES:
        operation = document["paths"][template_path(route.path)][route.method.lower()]
        assert ("requestBody" in operation) == bool(route.body or route.takes)
        assert operation["summary"].endswith(".")
    text = str(document)
    for name in ("DeploymentShape", "NewDeployment", "ProjectShape", "Problem", "Switch"):
        assert name in schemas
    operations = [op for methods in document["paths"].values() for op in methods.values()]
    asked = [it["schema"] for op in operations for it in op.get("parameters", ()) if "schema" in it]
    assert {word for schema in (*schemas.values(), *asked) for word in keywords_of(schema)} <= KEYWORDS
    referenced = {part.split("'")[0] for part in text.split("#/components/schemas/")[1:]}
    assert referenced <= set(schemas)
    assert len({op["operationId"] for op in operations}) == len(ROUTES)
