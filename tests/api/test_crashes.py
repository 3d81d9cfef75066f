"""Mistakes of ours: whoever asks is given an id and nothing else, and the id finds the line with the traceback."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vclone_core.actions import owners

from .browser import CookieBrowser
from .conftest import Api


@pytest.fixture
async def browser(api: Api) -> CookieBrowser:
    browser = CookieBrowser(api.app)
    await browser.post(f"/sign-in/{await owners.sign_in_link(api.platform.db, api.owner.user_id)}", x="")
    return browser


@pytest.fixture
async def broken(api: Api, browser: CookieBrowser) -> Api:
    """A platform whose database lacks a table, which no code expects."""
    async with api.platform.db._pool.acquire() as connection:
        await connection.execute("alter table deployments rename to mislaid")
    return api


async def test_a_program_is_given_the_id_of_the_log_line(broken: Api, logged: Callable[[], str]) -> None:
    response = await broken.response("GET", "/api/deployments")
    problem = await response.get_json(force=True)
    assert (response.status_code, problem["code"]) == (500, "internal")
    assert response.content_type == "application/problem+json"
    assert problem["request_id"] == response.headers["x-vclone-id"] and problem["request_id"] in problem["hint"]
    text = await response.get_data(as_text=True)
    for word in ("Traceback", "asyncpg", "mislaid", "relation", ".py"):
        assert word not in text
    lines = [line for line in logged().splitlines() if problem["request_id"] in line]
    assert any("request.crashed" in line for line in lines)
    assert "UndefinedTableError" in logged()


async def test_a_person_is_given_it_on_a_page(broken: Api, browser: CookieBrowser, logged: Callable[[], str]) -> None:
    response = await browser.open("GET", "/")
    text = await response.get_data(as_text=True)
    assert response.status_code == 500 and response.content_type.startswith("text/html")
    request_id = response.headers["x-vclone-id"]
    assert request_id in text and request_id in logged()
    for word in ("Traceback", "asyncpg", "mislaid", "relation"):
        assert word not in text


async def test_a_change_that_crashes_leaves_its_key_free(broken: Api) -> None:
    """Nothing was committed, so the same request may be sent again."""
    project = await broken.project()
    body = {"project": project.name, "source": {"kind": "git", "url": "https://git.example/x.git"}}
    key = {"Idempotency-Key": "k"}
    assert (await broken.ask("POST", "/api/deployments", json=body, headers=key))[0] == 500
    async with broken.platform.db._pool.acquire() as connection:
        await connection.execute("alter table mislaid rename to deployments")
    assert (await broken.ask("POST", "/api/deployments", json=body, headers=key))[0] == 201
