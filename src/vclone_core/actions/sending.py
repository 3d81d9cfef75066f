"""Sends what webhooks are owed, wherever it was left: rows in PostgreSQL, held by a lease, each try with its number.

    event, committed -> row -> claim -> sign -> POST -> delivered, or later again -> given up -> switched off

Any number of processes send beside each other. One that dies in the middle leaves a lease that runs out: a delivery may
then arrive twice, with the same `vclone-delivery`, and is never lost. What whoever answers may cost us is bounded: 5 s
to connect, `ANSWER_S` in all, `ANSWER_BYTES` read, no redirect followed, public addresses only (`stores/outbound.py`).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import aiohttp
from yarl import URL

from vclone_core.actions import audit
from vclone_core.actions.audit import Note
from vclone_core.actions.keys import ring_of, webhook_identity
from vclone_core.actions.newids import new_id
from vclone_core.actions.platform import Platform
from vclone_core.errors import AddressRefused, Invalid, VcloneError
from vclone_core.log import get_log
from vclone_core.rules.addresses import parse_allowed
from vclone_core.rules.outgoing import DISABLED, FAILING_S, decide_rest, has_arrived, sign
from vclone_core.rules.sealing import unseal
from vclone_core.stores.outbound import Outbound
from vclone_core.stores.postgres import Transaction

log = get_log(__name__)

POLL_S: Final = 1.0
AT_ONCE: Final = 16
ANSWER_S: Final = 10.0
ANSWER_BYTES: Final = 4096
LEASE_S: Final = ANSWER_S + 20.0


class Sender:
    """One process's share of the sending. `start` it within a running loop, `stop` it before the platform closes."""

    def __init__(self, platform: Platform, *, poll_s: float = POLL_S) -> None:
        self._platform = platform
        self._poll_s = poll_s
        self._outbound = Outbound(parse_allowed(platform.settings.outbound_allow.split(",")))
        self._task: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self._outbound.start()
        self._task = asyncio.create_task(self._run(), name="webhooks")

    async def stop(self) -> None:
        """Stop; what is under way is given up, and sent again when its lease has run out."""
        tasks = [task for task in (self._task, *self._sending) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._outbound.close()

    async def _run(self) -> None:
        is_down = False
        while True:
            try:
                count = await self.send_due()
                is_down = False
            except VcloneError as error:
                count = 0
                if not is_down:
                    log.warning("webhooks.unreadable", why=error.sentence)
                is_down = True
            except Exception:  # a bug; the next one is sent all the same
                count = 0
                log.exception("webhooks.crashed")
            if not count:
                await asyncio.sleep(self._poll_s)

    async def send_due(self) -> int:
        """Begin to send what is due, as far as there is room, and return how much that was."""
        room = AT_ONCE - len(self._sending)
        if room <= 0:
            await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)
            return 1
        rows = await self._platform.db.fetch("claim_sends", room, LEASE_S)
        for row in rows:
            task = asyncio.create_task(self._deliver(row), name=f"webhook {row['id']}")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        return len(rows)

    async def _deliver(self, row: Mapping[str, Any]) -> None:
        try:
            await self._note(row, await self._try(row))
        except VcloneError as error:  # the lease runs out, and it is sent again
            log.warning("webhook.unnoted", webhook=row["webhook_id"], send=row["id"], why=error.sentence)
        except Exception:
            log.exception("webhook.crashed", webhook=row["webhook_id"], send=row["id"])

    async def _try(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Send it once; return what became of that."""
        started, at = time.monotonic(), datetime.now(UTC)
        status, problem = None, None
        try:
            secret = unseal(
                ring_of(self._platform.settings),
                bytes(row["secret"]).decode(),
                identity=webhook_identity(row["webhook_id"]),
            )
            body = json.dumps(row["body"], ensure_ascii=False, separators=(",", ":")).encode()
            fields = {
                "content-type": "application/json",
                "user-agent": f"vclone/{version('vclone')}",
                "vclone-event": row["kind"],
                "vclone-delivery": str(row["id"]),
                "vclone-signature": sign(secret, body, at=int(at.timestamp())),
            }
            headers = [(name.encode(), value.encode()) for name, value in fields.items()]
            async with asyncio.timeout(ANSWER_S):
                url = URL(row["url"])
                async with self._outbound.request("POST", url, headers=headers, data=body) as answer:
                    status = answer.status
                    await answer.content.read(ANSWER_BYTES)
            if not has_arrived(status):
                problem = "redirects are not followed" if 300 <= status < 400 else "the answer's status is no success"
        except AddressRefused as error:
            problem = error.sentence
        except Invalid as error:
            problem = f"the secret can't be read: {error.sentence}"
        except TimeoutError:
            problem = f"no answer within {ANSWER_S:.0f} seconds"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = f"no answer ({type(error).__name__})"
        ms = round((time.monotonic() - started) * 1000)
        moment = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"at": moment, "status": status, "problem": problem, "ms": ms}

    async def _note(self, row: Mapping[str, Any], tried: Mapping[str, Any]) -> None:
        webhook_id = row["webhook_id"]
        rest_s = decide_rest(row["attempt"])
        lasting = "failed" if rest_s is None else "waiting"
        state = "delivered" if tried["problem"] is None else lasting
        async with self._platform.db.transaction() as tx:
            if await tx.fetch_one("finish_send", row["id"], row["attempt"], [tried], state, rest_s or 0.0) is None:
                return  # another process sends it by now
            if state == "delivered":
                await tx.execute("note_arrival", webhook_id)
                return
            is_off = await _note_failure(tx, webhook_id)
        log.info("webhook.refused", webhook=webhook_id, send=row["id"], why=tried["problem"])
        if is_off:
            log.warning("webhook.disabled", webhook=webhook_id)


async def _note_failure(tx: Transaction, webhook_id: str) -> bool:
    """Note a failure; switch off what has failed for too long, and tell the team of it: was it?"""
    reason = f"nothing arrived for {FAILING_S / 86_400:.0f} days"
    await tx.execute("note_failure", webhook_id)
    gone = await tx.fetch_one("disable_failing", webhook_id, FAILING_S, reason)
    if gone is None:
        return False
    await tx.execute("drop_sends", webhook_id)
    facts = {"webhook_id": webhook_id, "url": gone["url"], "reason": reason}
    note = Note(gone["team_id"], None, "disable_webhook", webhook_id, {"reason": reason}, new_id("request"), address="")
    await audit.settle(tx, note)
    await tx.fetch_one("tell_team", gone["team_id"], gone["project_id"], DISABLED, facts)
    return True
