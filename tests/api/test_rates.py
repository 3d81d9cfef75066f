"""How often one may ask: exact under concurrency, told in header fields, for every route, and without Redis."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from vclone_dashboard.pages import PAGES

from vclone_api.app import create_app
from vclone_api.guard import EDGE
from vclone_api.rates import RATES, REFUSED, class_of
from vclone_api.routes import ROUTES
from vclone_core.actions.platform import open_platform
from vclone_core.settings import Settings

from .conftest import Api

FACTOR = 0.05
READS = round(RATES["reads"].count * FACTOR)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"api_rate_factor": FACTOR})


def test_every_route_and_page_is_of_a_class() -> None:
    for entry in (*ROUTES, *PAGES):
        assert (class_of(entry) is None) == (entry.needs == EDGE), entry.path
        assert class_of(entry) in (None, *RATES), entry.path
    by_class = Counter(class_of(route) for route in ROUTES)
    assert by_class["reads"] > 20 and by_class["writes"] > 20 and by_class["sign-in"] >= 4
    assert class_of(next(route for route in ROUTES if route.path == "/api/hooks/<token>")) == "webhooks"


async def test_of_many_at_once_exactly_the_quota_gets_through(api: Api) -> None:
    answers = await asyncio.gather(*(api.response("GET", "/api/me") for _ in range(READS + 20)))
    statuses = Counter(answer.status_code for answer in answers)
    # One more comes back every two seconds.
    assert READS <= statuses[200] <= READS + 2 and statuses[429] == READS + 20 - statuses[200]
    refused = next(answer for answer in answers if answer.status_code == 429)
    problem = await refused.get_json(force=True)
    assert refused.content_type == "application/problem+json" and problem["code"] == "too_many_requests"
    assert 1 <= int(refused.headers["retry-after"]) <= 2
    assert refused.headers["ratelimit-policy"] == f'"reads";q={READS};w=60'
    assert re.fullmatch(r'"reads";r=0;t=(59|60)', refused.headers["ratelimit"])
    # Another token's quota, and another class's, are their own.
    assert (await api.response("GET", "/api/me", "viewer")).status_code == 200
    assert (await api.response("POST", "/api/projects", json={"name": "free"})).status_code == 201


async def test_fields_count_down(api: Api) -> None:
    left = [(await api.response("GET", "/api/me")).headers["ratelimit"] for _ in range(3)]
    assert [re.sub(";t=.*", "", field) for field in left] == [f'"reads";r={READS - n}' for n in (1, 2, 3)]
    assert "ratelimit" not in (await api.response("GET", "/internal/v1/sites/x.localhost", "edge")).headers


async def test_credentials_that_open_nothing_are_counted_by_address(api: Api) -> None:
    assert (await api.response("GET", "/api/me")).status_code == 200
    count = max(1, round(REFUSED.count * FACTOR))
    statuses = []
    for number in range(count + 3):
        api.callers["guess"] = f"vct_{number}"
        statuses.append((await api.response("GET", "/api/me", "guess")).status_code)
    assert statuses == [401] * count + [429] * 3
    # Also a right one that was never seen waits then. What is known goes on, and so does looking at what is open.
    assert (await api.response("GET", "/api/me", "viewer")).status_code == 429
    assert (await api.response("GET", "/api/me")).status_code == 200
    assert (await api.response("GET", "/api/auth/ways", None)).status_code == 200


async def test_pages_are_counted_too(api: Api) -> None:
    count = round(RATES["open"].count * FACTOR)
    answers = [await api.response("GET", "/sign-in", None) for _ in range(count + 1)]
    assert [answer.status_code for answer in answers] == [200] * count + [429]
    assert answers[-1].content_type.startswith("text/html") and answers[-1].headers["retry-after"]


@pytest.fixture
async def without_redis(api: Api) -> AsyncIterator[Api]:
    nowhere = api.platform.settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    async with open_platform(nowhere) as platform:
        app = create_app(platform)
        async with app.test_app():
            yield Api(platform, app, api.owner, api.callers)


async def test_without_redis_a_process_counts_for_itself(without_redis: Api) -> None:
    answers = await asyncio.gather(*(without_redis.response("GET", "/api/me") for _ in range(READS + 20)))
    statuses = Counter(answer.status_code for answer in answers)
    assert READS <= statuses[200] <= READS + 2 and statuses[429] == READS + 20 - statuses[200]
