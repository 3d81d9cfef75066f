"""The rules of the one guard; who may call what is in test_matrix.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import SecretStr
from vclone_dashboard.pages import PAGES

from vclone_api.app import create_app
from vclone_api.guard import Route, check_routes
from vclone_api.routes import ROUTES
from vclone_core.actions import accounts, owners

from .conftest import Api, file_of


async def test_the_edge_token_opens_the_internal_routes_and_nothing_else(api: Api) -> None:
    project = await api.project()
    deployment = await api.live(project)
    status, site = await api.ask("GET", f"/internal/v1/sites/{project.name}.localhost", "edge")
    assert (status, site["deployment_id"]) == (200, deployment.id)
    assert (await api.ask("POST", "/internal/v1/edges/edge-1/acks", "edge", json={"version": 1}))[0] == 204
    assert (await api.ask("GET", "/api/projects", "edge"))[0] == 401


async def test_without_an_edge_token_nobody_is_an_edge(api: Api) -> None:
    unset = api.platform.settings.model_copy(update={"edge_token": SecretStr("")})
    bare = create_app(replace(api.platform, settings=unset))
    for header in ("Bearer ", "Bearer", "bearer  "):
        response = await bare.test_client().get("/internal/v1/sites/x", headers={"Authorization": header})
        assert response.status_code == 401


async def test_a_route_in_no_table_is_refused_at_the_start(api: Api) -> None:
    app = create_app(api.platform)

    async def backdoor() -> str:
        return ""

    app.add_url_rule("/api/backdoor", "backdoor", backdoor)
    with pytest.raises(RuntimeError, match="/api/backdoor stands in no table"):
        check_routes(app, (*ROUTES, *PAGES), open_endpoints={"dashboard.static"})


async def test_a_need_that_does_not_exist_is_refused_at_the_start(api: Api) -> None:
    route = Route("GET", "/api/x", ROUTES[0].view, "se a project")
    with pytest.raises(RuntimeError, match="is no permission"):
        check_routes(api.app, (route,))


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer nonsense", "Basic b3duZXI6eA==", "Bearer vct_" + "0" * 46, "Bearer " + "a" * 10_000],
)
async def test_a_token_that_is_none_is_refused(api: Api, header: str) -> None:
    response = await api.response("GET", "/api/me", None, headers={"Authorization": header})
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_session_may_read_from_anywhere_and_write_only_from_here(api: Api) -> None:
    session = await sign_in(api)
    cookie = {"Cookie": f"vclone_session={session}"}
    assert (await api.ask("GET", "/api/me", None, headers=cookie))[0] == 200
    says: list[tuple[dict[str, str], int]] = [
        ({}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 201),
        ({"Origin": "http://localhost"}, 409),  # let in; the name was taken by the line before
    ]
    for headers, expected in says:
        status, _ = await api.ask(
            "POST", "/api/projects", None, json={"name": "mine"}, headers={**cookie, **headers, "Host": "localhost"}
        )
        assert status == expected, headers


async def sign_in(api: Api) -> str:
    link = await owners.sign_in_link(api.platform.db, api.owner.user_id)
    return await accounts.redeem_sign_in_link(api.platform, link)


async def test_missing_blobs_of_another_team_stay_unknown(api: Api) -> None:
    project = await api.project()
    await api.upload(project, b"secret")
    body = {"sha256": [file_of("x", b"secret")["sha256"]]}
    assert (await api.ask("POST", f"/api/projects/{project.id}/blobs/missing", json=body))[1] == {"missing": []}
    assert (await api.ask("POST", f"/api/projects/{project.id}/blobs/missing", "stranger", json=body))[0] == 404


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [route.view.__name__ for route in ROUTES]
    assert sorted(names) == sorted(set(names))
