"""Requests with an `Idempotency-Key`: carried out once, and answered the same for a day.

A key is held by one request while it runs. That it has begun to change something is noted in the transaction of its
first change, and its answer is kept, sealed, in the transaction of its audit entry. So a process that is killed in
between leaves a key that says so (`OutcomeUnknown`), and never one that runs twice. A request that changed nothing
leaves its key free.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vclone_core.actions.keys import ring_of
from vclone_core.actions.platform import Platform
from vclone_core.errors import Invalid, KeyInUse, KeyReused, OutcomeUnknown
from vclone_core.rules.sealing import NONCE_BYTES, seal, unseal
from vclone_core.stores.postgres import Queries

KEPT_S: Final = 24 * 3600.0
# A larger answer isn't kept; a repeat of its request is told that it was carried out.
ANSWER_LIMIT_BYTES: Final = 256 * 1024
# draft-ietf-httpapi-idempotency-key-header §2.1 has a string in quotes; most clients send it bare.
KEY_PATTERN: Final = r'^("[A-Za-z0-9._:-]{1,255}"|[A-Za-z0-9._:-]{1,255})$'


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it is given again. `body` is its text."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class Held:
    """A key that this request holds: it is the one to be carried out."""

    owner: str
    key_hash: bytes
    attempt: str

    @property
    def row(self) -> tuple[str, bytes, str]:
        return self.owner, self.key_hash, self.attempt


def parse_key(text: str) -> str:
    """Return the key in a header field; raise `Invalid` for one that can't be."""
    if not re.fullmatch(KEY_PATTERN, text):
        raise Invalid(what="an Idempotency-Key is 1 to 255 of A-Z, a-z, 0-9 and ._:-")
    return text.strip('"')


async def claim(platform: Platform, owner: str, key: str, *, request_hash: bytes, lease_s: float) -> Held | Answer:
    """Hold a key for at most `lease_s` seconds, or return the answer that its request got.

    Raises `KeyReused` when it came with another request, `KeyInUse` while that runs, and `OutcomeUnknown`.
    """
    held = Held(owner, hashlib.sha256(key.encode()).digest(), secrets.token_hex(8))
    for _ in range(2):
        if await platform.db.fetch_one(
            "claim_repeat", owner, held.key_hash, request_hash, held.attempt, lease_s, KEPT_S
        ):
            return held
        row = await platform.db.fetch_one("fetch_repeat", owner, held.key_hash)
        if row is not None:
            return _read(platform, held, row, request_hash)
    raise KeyInUse()  # it ran out between two looks, and another request took it


async def begin(tx: Queries, held: Held) -> None:
    """Note, in the transaction of the first change, that the request must not run again.

    Raises `KeyInUse`, so that nothing is committed, when the key was given to another request meanwhile: this one was
    given up, and comes late.
    """
    if not await tx.execute("begin_repeat", *held.row):
        raise KeyInUse()


async def store(platform: Platform, tx: Queries, held: Held, answer: Answer) -> None:
    """Keep the answer, sealed: it may hold a secret that is shown once."""
    text = json.dumps([answer.status, dict(answer.headers), answer.body])
    if len(text.encode()) > ANSWER_LIMIT_BYTES:
        text = "null"
    sealed = seal(ring_of(platform.settings), text, identity=_identity(held), nonce=os.urandom(NONCE_BYTES))
    await tx.execute("store_repeat", *held.row, sealed.encode())


async def give_up(db: Queries, held: Held) -> None:
    """Let go of a key without an answer: free again if nothing was changed, else `OutcomeUnknown` from now on."""
    await db.execute("end_repeat", *held.row)


def _read(platform: Platform, held: Held, row: Mapping[str, Any], request_hash: bytes) -> Answer:
    if bytes(row["request_hash"]) != request_hash:
        raise KeyReused()
    if row["answer"] is None:
        raise KeyInUse() if row["is_held"] else OutcomeUnknown()
    try:
        text = unseal(ring_of(platform.settings), bytes(row["answer"]).decode(), identity=_identity(held))
    except Invalid as error:  # the key it was sealed with is gone
        raise OutcomeUnknown() from error
    if (kept := json.loads(text)) is None:
        raise OutcomeUnknown()
    return Answer(*kept)


def _identity(held: Held) -> str:
    return f"idempotency_keys/{held.owner}/{held.key_hash.hex()}"
