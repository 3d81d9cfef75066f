"""What edges are told without asking: every alias move as it is committed, and where their acknowledgements go."""

from __future__ import annotations

import re
from typing import Final

from quart import Response

from vclone_core.errors import BadId
from vclone_core.rules.sites import encode_move
from vclone_core.stores.events import Versions, acknowledge, note_edge, read_versions

from ..guard import Call
from ..sse import Events, encode_event, last_event_id, stream_events

HEARTBEAT_S: Final = 5.0
_EDGE_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


async def follow_moves(call: Call) -> Response:
    """Alias moves, from the version an edge has seen."""
    edge_id: str = call.query.edge
    resumed = last_event_id(call.request)
    after = call.query.after if resumed is None else resumed
    versions = await read_versions(call.platform.db)

    async def mark() -> None:
        await note_edge(call.platform.redis, edge_id)

    await mark()
    return stream_events(
        call.request,
        tell_moves(call, versions, after),
        stopping=call.live.stopping,
        heartbeat_s=HEARTBEAT_S,
        on_heartbeat=mark,
    )


async def tell_moves(call: Call, versions: Versions, after: int | None) -> Events:
    """Yield `hello`, then every move since. An edge that can't be told all must check what it holds: not complete."""
    is_complete = after is not None and versions.is_complete_after(after)
    yield encode_event("hello", {"version": versions.newest, "complete": is_complete})
    start = after if after is not None and is_complete else versions.newest
    async for move in call.live.moves.follow(start):
        yield encode_event("move", encode_move(move), number=move.version)


async def store_acknowledgement(call: Call, edge_id: str) -> None:
    """Note that an edge has taken in every move up to a version."""
    if not _EDGE_ID.fullmatch(edge_id):
        raise BadId(kind="edge")
    await acknowledge(call.platform.redis, edge_id, call.body.version)
