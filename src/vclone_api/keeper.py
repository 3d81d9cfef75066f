"""What an API process does beside answering: it sends to webhooks, settles what killed processes left, and forgets."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Final

from vclone_core.actions import audit, telling
from vclone_core.actions.platform import Platform
from vclone_core.errors import VcloneError
from vclone_core.log import get_log

if TYPE_CHECKING:
    from vclone_core.actions.sending import Sender

log = get_log(__name__)

EVERY_S: Final = 300.0


class Keeper:
    """One process's share; any number of processes do it beside each other."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._sender: Sender | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. Needs a running event loop."""
        self._task = asyncio.create_task(self._run(), name="keeper")

    async def stop(self) -> None:
        """End; what is left undone is taken up by the next process."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._sender is not None:
            await self._sender.stop()

    async def _run(self) -> None:
        # Its client for HTTP takes long to load, and nobody waits for it.
        sending = await asyncio.to_thread(import_module, "vclone_core.actions.sending")
        self._sender = sending.Sender(self._platform)
        await self._sender.start()
        while True:
            try:
                await audit.settle_stale(self._platform.db)
                await telling.forget_old(self._platform)
            except VcloneError as error:
                log.warning("keeper.waits", why=error.sentence)
            except Exception:
                log.exception("keeper.crashed")
            await asyncio.sleep(EVERY_S)
