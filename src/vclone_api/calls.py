"""One call, from the door to its answer; API and pages share each part.

count -> caller -> permission -> origin -> path -> body, query -> view -> audit entry -> answer
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

from quart import Request, Response, g

from vclone_core.actions import audit, repeats
from vclone_core.actions.audit import Change, Note
from vclone_core.actions.platform import Platform
from vclone_core.actions.repeats import Answer, Held
from vclone_core.errors import Unauthorised, VcloneError
from vclone_core.log import get_log
from vclone_core.renderings import render_problem
from vclone_core.stores.postgres import Queries, Witness

from .auth import Caller, address_of, find_caller
from .bodies import NoQuery, parse_json, read_json, read_query
from .guard import EDGE, OPEN, Call, Guarded, Live, Route, admit, check_origin, check_path
from .paging import link_next
from .patience import within

log = get_log(__name__)

CALLER_TIME_LIMIT_S: Final = 2.0
NOTE_TIME_LIMIT_S: Final = 10.0
# How long a key is held by a request that may take as long as its client's line.
LONG_LEASE_S: Final = 3600.0
T = TypeVar("T")


async def enter(
    platform: Platform,
    live: Live,
    entry: Guarded,
    request: Request,
    path: Mapping[str, str],
    *,
    looks_always: bool = False,
) -> Caller:
    """Count the call and return who is calling, let in; raises what the guard has against it.

    `looks_always`: also where anybody may come, since a page greets whoever it knows.
    """
    address = address_of(request, platform.settings)
    g.quota = await live.rates.count_call(entry, request, address=address)
    if g.quota is not None:
        g.quota.check()
    try:
        if looks_always or entry.needs not in (OPEN, EDGE):
            check_path(path)
            finding = find_caller(platform, request, team=None if looks_always else path.get("team"))
            g.caller = await within(CALLER_TIME_LIMIT_S, finding)
        caller: Caller = g.caller
        admit(entry.needs, caller, request, platform.settings)
    except Unauthorised:
        await live.rates.note_entry(request, address=address, is_let_in=False)
        raise
    if caller.actor is not None:
        await live.rates.note_entry(request, address=address, is_let_in=True)
    check_path(path)
    return caller


async def answer_call(
    platform: Platform,
    live: Live,
    route: Route,
    request: Request,
    path: Mapping[str, str],
) -> Response:
    """Return the answer to a call of the API."""
    caller = await enter(platform, live, route, request, path)
    check_origin(caller, request)
    data = await read_json(request, limit_bytes=route.limit_bytes) if route.body else b""
    body = parse_json(route.body, data) if route.body else None
    query = read_query(request, route.query or NoQuery, besides=("team",) if route.takes_team else ())
    change = Change()
    call = Call(platform, live, request, caller.entry, body, query, address_of(request, platform.settings), change)

    def work() -> Coroutine[Any, Any, Any]:
        return route.view(call, **path)

    if not route.changes:
        return respond(route, request, await within(route.time_limit_s, work()))
    deed = Deed(platform, caller, change, action=route.action, path=path, address=call.address)
    key = request.headers.get("Idempotency-Key") if route.takes_key else None
    if key is None:
        return respond(route, request, await deed.carry_out(work, time_limit_s=route.time_limit_s))
    assert caller.entry is not None
    said = f"{request.method} {request.path}?{request.query_string.decode('latin-1')}\n".encode() + data
    held = await repeats.claim(
        platform,
        f"{caller.entry.kind}/{caller.entry.id}/{caller.entry.actor.team_id}",
        repeats.parse_key(key),
        request_hash=hashlib.sha256(said).digest(),
        lease_s=(route.time_limit_s or LONG_LEASE_S) + 2 * NOTE_TIME_LIMIT_S,
    )
    if isinstance(held, Answer):
        return Response(held.body, status=held.status, headers={**held.headers, "idempotency-replayed": "true"})
    deed.held = held
    result = await deed.carry_out(
        work, time_limit_s=route.time_limit_s, to_answer=lambda result: to_answer(route, request, result)
    )
    return respond(route, request, result)


class Deed:
    """One change that somebody asked for: carried out, and told to the audit log whatever becomes of it.

    `held` is the key it is carried out under, where it came with one.
    """

    def __init__(
        self,
        platform: Platform,
        caller: Caller,
        change: Change,
        *,
        action: str,
        path: Mapping[str, str],
        address: str,
    ) -> None:
        self._platform = platform
        self._caller = caller
        self._change = change
        self._action = action
        self._path = path
        self._address = address
        self._request_id: str = g.request_id
        self.held: Held | None = None

    async def carry_out(
        self,
        work: Callable[[], Coroutine[Any, Any, T]],
        *,
        time_limit_s: float | None,
        to_answer: Callable[[T], Answer] | None = None,
        has_failed: Callable[[T], bool] = lambda _: False,
    ) -> T:
        """Return what `work` returns. What it changes before it fails is told of, too.

        A change whose entry can't be written is answered with that failure; the entry is written later.
        """
        witness = Witness(self._begin)
        try:
            with witness.watching():
                result = await within(time_limit_s, work())
        except Exception as error:
            await self._fail(witness, error)
            raise
        witness.close()
        if has_failed(result) and not witness.has_seen:
            return result
        answer = None if to_answer is None or self.held is None else to_answer(result)
        await within(NOTE_TIME_LIMIT_S, self._settle(self._note(result), answer))
        return result

    async def _begin(self, tx: Queries) -> None:
        await audit.begin(tx, self._note(None))
        if self.held is not None:
            await repeats.begin(tx, self.held)

    async def _settle(self, note: Note, answer: Answer | None) -> None:
        async with self._platform.db.transaction() as tx:
            await audit.settle(tx, note)
            if self.held is not None and answer is not None:
                await repeats.store(self._platform, tx, self.held, answer)

    async def _fail(self, witness: Witness, error: Exception) -> None:
        """Tell of what a failed request changed; the failure itself is what its client is told."""
        try:
            if witness.has_seen and isinstance(error, VcloneError) and error.status < 500:
                witness.close()
                note = self._note(None, failed=error.code)
                await within(NOTE_TIME_LIMIT_S, self._settle(note, refusal(error, self._request_id)))
            elif self.held is not None:
                await within(NOTE_TIME_LIMIT_S, repeats.give_up(self._platform.db, self.held))
        except VcloneError as second:
            log.warning("change.untold", action=self._action, why=second.sentence)

    def _note(self, result: object, *, failed: str | None = None) -> Note:
        actor, change, entry = self._caller.actor, self._change, self._caller.entry
        made = result.get("id") if isinstance(result, Mapping) else None
        named = "/".join(text for name, text in self._path.items() if name != "team")
        via = {} if entry is None else {"via": entry.kind, "via_id": entry.id}
        return Note(
            team_id=change.team_id or (actor.team_id if actor else None),
            actor_id=change.actor_id or (actor.user_id if actor else None),
            action=self._action,
            subject=change.subject or named or str(made or ""),
            facts={**via, **change.facts, **({} if failed is None else {"failed": failed})},
            request_id=self._request_id,
            address=self._address,
        )


def to_answer(route: Route, request: Request, result: Any) -> Answer:
    """Return what a view returned as an answer: its JSON, and where to find what was made."""
    headers: dict[str, str] = {}
    if result is None:
        return Answer(204, headers, "")
    if route.status == 201 and route.made_at is not None and isinstance(result, Mapping) and "id" in result:
        made_at = request.path.rstrip("/") if route.made_at == route.path else route.made_at
        headers["location"] = f"{made_at}/{result['id']}"
    if following := link_next(request, result):
        headers["link"] = following
    headers["content-type"] = "application/json"
    return Answer(route.status, headers, json.dumps(result, ensure_ascii=False, separators=(",", ":")))


def refusal(error: VcloneError, request_id: str) -> Answer:
    """Return an error as an answer."""
    text = json.dumps(render_problem(error, request_id), ensure_ascii=False)
    return Answer(error.status, {"content-type": "application/problem+json"}, text)


def respond(route: Route, request: Request, result: Any) -> Response:
    """Return the response to a call from what its view returned."""
    if isinstance(result, Response):
        return result
    answer = to_answer(route, request, result)
    return Response(answer.body, status=answer.status, headers=dict(answer.headers))
