"""Lists in pages: a cursor says where the next page begins, and opens only the list it was made for.

A cursor is a position (the sort key of the last item) and a code that binds it to the address, the filters, and the
acting team. So pages neither skip nor repeat an item while others are added, and nobody can make up a position.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from quart import Request

from vclone_core.errors import FieldProblem, InvalidFields
from vclone_core.settings import Settings

from .bodies import PagedQuery
from .guard import Call

CODE_BYTES: Final = 16
Item = TypeVar("Item")
Key = Callable[[Item], Any]


def position_of(call: Call) -> Any:
    """Return the sort key of the last item of the page before; None for the first page.

    Raises `InvalidFields` for a cursor that is none of this list's.
    """
    query: PagedQuery = call.query
    if query.cursor is None:
        return None
    encoded, _, code = query.cursor.partition(".")
    bound = _binding(call)
    # As texts: of one code there are several spellings in Base64.
    if not any(hmac.compare_digest(_code(key, encoded, bound), code) for key in _keys(call.platform.settings)):
        raise InvalidFields((FieldProblem("cursor", "is not a cursor of this list"),))
    return json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))


def cut_page(call: Call, rows: Sequence[Item], *, key: Key[Item]) -> tuple[Sequence[Item], str | None]:
    """Return a page and the cursor of the next one, of the `limit + 1` rows behind `position_of`."""
    page = rows[: call.query.limit]
    return page, _cursor(call, key(page[-1])) if len(rows) > len(page) else None


def slice_page(
    call: Call, items: Iterable[Item], *, key: Key[Item], newest_first: bool = False
) -> tuple[Sequence[Item], str | None]:
    """Return a page of a list that is read whole, in the order of `key`, and the cursor of the next."""
    after = position_of(call)
    ordered = sorted(items, key=key, reverse=newest_first)
    if after is not None:
        ordered = [
            item for item in ordered if (_plain(key(item)) < after) == newest_first and _plain(key(item)) != after
        ]
    return cut_page(call, ordered, key=key)


def link_next(request: Request, answer: object) -> str | None:
    """Return the `Link` field (RFC 8288) of an answer that has a page after it."""
    if not isinstance(answer, Mapping) or not answer.get("next_cursor"):
        return None
    query = [(name, text) for name, text in request.args.items(multi=True) if name != "cursor"]
    return f'<{request.path}?{urlencode([*query, ("cursor", answer["next_cursor"])])}>; rel="next"'


def _cursor(call: Call, position: Any) -> str:
    encoded = _encode(json.dumps(position, separators=(",", ":")).encode())
    return f"{encoded}.{_code(_keys(call.platform.settings)[0], encoded, _binding(call))}"


def _binding(call: Call) -> str:
    filters = call.query.model_dump(mode="json", exclude={"limit", "cursor"})
    team = "" if call.entry is None else call.entry.actor.team_id
    return json.dumps([call.request.path, team, filters], sort_keys=True)


def _keys(settings: Settings) -> list[bytes]:
    secrets = (settings.secret_key.get_secret_value(), settings.secret_key_previous.get_secret_value())
    return [secret.encode() for index, secret in enumerate(secrets) if secret or index == 0]


def _code(key: bytes, encoded: str, bound: str) -> str:
    return _encode(hmac.digest(key, f"cursor\0{encoded}\0{bound}".encode(), hashlib.sha256)[:CODE_BYTES])


def _plain(key: Any) -> Any:
    return list(key) if isinstance(key, tuple) else key  # as JSON gives it back


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
