"""Whether the platform is well, and who is asking."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from functools import cache
from importlib.metadata import version
from typing import Any, Final

from quart import Response

from vclone_core.actions.accounts import find_user
from vclone_core.errors import Unavailable, VcloneError

from ..guard import Call
from ..patience import within
from .shapes import Health, Me, Part, Readiness, shape_me

PART_TIME_LIMIT_S: Final = 1.5
PROBE_KEY: Final = "ready/probe"


async def show_health(call: Call) -> Health:
    """That this process answers. Asks nothing of any other part."""
    return {"status": "ok", "version": version("vclone")}


async def show_readiness(call: Call) -> Response:
    """Which parts answer: 503 when one that is needed does not."""
    platform = call.platform
    database, redis, objects = await asyncio.gather(
        probe(lambda: platform.db.fetch_one("fetch_versions"), is_required=True),
        probe(lambda: ping(platform.redis), is_required=False),
        probe(lambda: platform.objects.head(PROBE_KEY), is_required=True),
    )
    parts = {"database": database, "redis": redis, "object_store": objects}
    answer: Readiness = {"status": judge(parts), "parts": parts}
    return Response(
        json.dumps(answer),
        status=503 if answer["status"] == "unavailable" else 200,
        content_type="application/json",
    )


def judge(parts: dict[str, Part]) -> str:
    """Return `ready`, `degraded` (works, but slower) or `unavailable`."""
    down = [part for part in parts.values() if not part["is_up"]]
    if not down:
        return "ready"
    return "unavailable" if any(part["is_required"] for part in down) else "degraded"


async def probe(ask: Callable[[], Coroutine[Any, Any, Any]], *, is_required: bool) -> Part:
    """Return whether a part answers within `PART_TIME_LIMIT_S`, and after how long."""
    started = time.perf_counter()
    problem = None
    try:
        await within(PART_TIME_LIMIT_S, ask())
    except VcloneError as error:
        problem = error.sentence
    ms = round((time.perf_counter() - started) * 1000, 1)
    return {"is_up": problem is None, "is_required": is_required, "ms": ms, "problem": problem}


async def ping(redis: Any) -> None:
    if not await redis.call(lambda client: client.ping(), otherwise=False):
        raise Unavailable(what="Redis")


async def show_me(call: Call) -> Me:
    """Who is asking, within which team, in which role."""
    return shape_me(call.actor, *await find_user(call.platform, call.actor))


async def show_document(_call: Call) -> Response:
    """This document (OpenAPI 3.1)."""
    # Half a second of work: done when somebody asks first, and beside the loop.
    return Response(await asyncio.to_thread(_document), content_type="application/json")


async def show_reference(_call: Call) -> Response:
    """This document as a page for people."""
    page = Response(await asyncio.to_thread(_page), content_type="text/html; charset=utf-8")
    page.headers["content-security-policy"] = "default-src 'none'; style-src 'self'; frame-ancestors 'none'"
    return page


@cache
def _document() -> str:
    return json.dumps(describe_routes(), ensure_ascii=False)


@cache
def _page() -> str:
    from ..reference import render_reference

    return render_reference(describe_routes())


def describe_routes() -> dict[str, Any]:
    """Return the document of all routes."""
    # A tenth of a second of imports for what few starts are asked for; and the table names the views here.
    from ..openapi import build_document
    from ..routes import ROUTES

    return build_document(ROUTES)
