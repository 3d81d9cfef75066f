"""What every use case is given: the settings, the stores and the plugins of one process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from vclone_core.actions.passwords import Passwords
from vclone_core.errors import BadSettings
from vclone_core.plugins import Plugins, load_plugins
from vclone_core.protocols import AuthProvider, AuthProviderConfig, GitHost, ObjectStore
from vclone_core.settings import Settings
from vclone_core.stores import redis
from vclone_core.stores.limits import Limiter
from vclone_core.stores.objects import open_object_store
from vclone_core.stores.postgres import Database
from vclone_core.stores.redis import Redis

# A process that ends gives the announcements that are under way this long.
FAREWELL_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Platform:
    """One process's hold on everything: made by `open_platform`, handed to every action."""

    settings: Settings
    db: Database
    redis: Redis
    objects: ObjectStore
    plugins: Plugins
    limiter: Limiter
    auth_providers: Mapping[str, AuthProvider] = field(default_factory=dict)
    git_hosts: Mapping[str, GitHost] = field(default_factory=dict)
    passwords: Passwords = field(default_factory=Passwords)
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    def announce(self, hook: str, **arguments: Any) -> None:
        """Tell the plugins of an event without waiting for them."""
        self.start(self.plugins.announce(hook, **arguments), name=f"announce {hook}")

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run something beside the caller; it is held until it ends, or the platform closes."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def finish(self) -> None:
        """Wait shortly for what was started beside, then end it."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=FAREWELL_S)
            for task in late:
                task.cancel()


@asynccontextmanager
async def open_platform(settings: Settings, *, plugins: Plugins | None = None) -> AsyncIterator[Platform]:
    """Open the stores that the settings name. Raises `BadSettings` or `Unavailable` when one can't be."""
    missing = [
        f"VCLONE_{name.upper()} is not set."
        for name in ("database_url", "redis_url")
        if not getattr(settings, name).get_secret_value()
    ]
    if missing:
        raise BadSettings(problems=" ".join(missing))
    plugins = plugins or load_plugins(allow=settings.plugins, drop_in=settings.plugins_dir)
    objects = open_object_store(settings, plugins)
    providers = open_auth_providers(settings, plugins)
    hosts = plugins.make_all("git_hosts")
    db = await Database.connect(settings.database_url.get_secret_value())
    bell = await redis.connect(settings.redis_url.get_secret_value())
    try:
        try:
            await objects.start()
            platform = Platform(settings, db, bell, objects, plugins, Limiter(bell), providers, hosts)
            yield platform
            await platform.finish()
        finally:
            await objects.close()
            for provider in providers.values():
                await provider.close()
    finally:
        plugins.close()
        await bell.close()
        await db.close()


def open_auth_providers(settings: Settings, plugins: Plugins) -> dict[str, AuthProvider]:
    """Make the ways to sign in that the settings name, in their order. Raises `BadSettings` for one that can't be."""
    text = settings.auth_providers.get_secret_value()
    try:
        asked = json.loads(text or "{}")
        configs = {
            name: AuthProviderConfig(
                client_id=options.pop("client_id"), client_secret=options.pop("client_secret"), options=options
            )
            for name, options in asked.items()
        }
    except (ValueError, KeyError, AttributeError, TypeError):
        raise BadSettings(
            problems='VCLONE_AUTH_PROVIDERS is not JSON of the form {"NAME": {"client_id": "…", "client_secret": "…"}}.'
        ) from None
    return {name: plugins.make("auth_providers", name, config) for name, config in configs.items()}
