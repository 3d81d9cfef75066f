"""Finds plugins, checks each on its own, and calls their hooks so that one bad plugin harms nobody.

Built-ins come through the same entry points as a stranger's plugin. Loading is a call, never an import.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pluggy

from vclone_core import hookspecs
from vclone_core.errors import BadSettings
from vclone_core.log import get_log

GROUP: Final = "vclone"
FRAMEWORKS_GROUP: Final = "vclone.frameworks"
EVENT_TIMEOUT_S: Final = 10.0
# What makes every process of the platform slow to start, and is the plugin's own doing.
SLOW_IMPORT_S: Final = 2.0
# What a plugin does wrong. One that calls `sys.exit` ends itself and nobody else; Ctrl-C still ends the process.
_FAILURES: Final = (Exception, SystemExit)

log = get_log(__name__)


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One plugin that was found. `refused` says why it is not in use; None: it is."""

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...]
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class FrameworkText:
    """The text of one framework definition, with the file and the distribution it came from."""

    file: str
    distribution: str
    text: str


@dataclass(slots=True)
class Plugins:
    """The loaded plugins of one process."""

    manager: pluggy.PluginManager
    infos: tuple[PluginInfo, ...]
    framework_texts: tuple[FrameworkText, ...] = ()
    _providers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def providers(self, kind: str) -> Mapping[str, Any]:
        """Return every factory that plugins registered for `kind` (`object_stores`, `build_runners` …), by name.

        A plugin whose registration raises is logged and left out. Of a name offered twice, the plugin that was loaded
        last keeps it, as everywhere in pluggy: a drop-in replaces an installed one.
        """
        if kind not in self._providers:
            found: dict[str, Any] = {}
            for plugin, offer in self._call_each(f"register_{kind}"):
                for name, factory in dict(offer or {}).items():
                    if name in found:
                        log.warning("provider.ignored", kind=kind, name=name, plugin=plugin, why="the name is taken")
                    else:
                        found[name] = factory
            self._providers[kind] = found
        return self._providers[kind]

    def provider(self, kind: str, name: str) -> Any:
        """Return the factory `name` of `kind`; raise `BadSettings` that lists the ones there are."""
        offers = self.providers(kind)
        if name not in offers:
            there = ", ".join(sorted(offers)) or "none"
            raise BadSettings(problems=f"No plugin offers {kind} {name!r}; installed: {there}.")
        return offers[name]

    def ask(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        """Ask a question of every plugin: (plugin, answer) pairs without the Nones. A plugin that raises is logged."""
        return [(plugin, answer) for plugin, answer in self._call_each(hook, **arguments) if answer is not None]

    async def announce(self, hook: str, **arguments: Any) -> None:
        """Tell every plugin of an event: each on its own, ended after `EVENT_TIMEOUT_S`, failures logged by name."""
        for plugin, function, arguments_taken in self._implementations(hook, arguments):
            # A task of its own, so that one that cancels itself, or won't be cancelled, is nobody else's trouble.
            task = asyncio.create_task(_hear(function, arguments_taken), name=f"{plugin} {hook}")
            try:
                await asyncio.wait({task}, timeout=EVENT_TIMEOUT_S)
            finally:
                task.cancel()
            if not task.done():
                log.error("plugin.failed", plugin=plugin, hook=hook, why=f"it took longer than {EVENT_TIMEOUT_S} s")
            elif task.cancelled():
                log.error("plugin.failed", plugin=plugin, hook=hook, why="it cancelled itself")
            elif (error := task.result()) is not None:
                log.error("plugin.failed", plugin=plugin, hook=hook, exc_info=error)

    def _call_each(self, hook: str, **arguments: Any) -> Iterable[tuple[str, Any]]:
        for plugin, function, arguments_taken in self._implementations(hook, arguments):
            try:
                answer = function(**arguments_taken)
            except _FAILURES:
                log.exception("plugin.failed", plugin=plugin, hook=hook)
                continue
            yield plugin, answer

    def _implementations(self, hook: str, arguments: Mapping[str, Any]) -> Iterable[tuple[str, Any, dict[str, Any]]]:
        # pluggy stops a call at the first exception and can't await; walking the implementations isolates each.
        for implementation in reversed(getattr(self.manager.hook, hook).get_hookimpls()):
            taken = {name: arguments[name] for name in implementation.argnames}
            yield implementation.plugin_name, implementation.function, taken


async def _hear(function: Callable[..., Awaitable[None]], arguments: Mapping[str, Any]) -> BaseException | None:
    """Run an implementation of an event; return what it raised."""
    try:
        await function(**arguments)
    except _FAILURES as error:
        return error
    return None


def load_plugins(*, allow: str | None = None, drop_in: Path | None = None) -> Plugins:
    """Load every installed plugin that `allow` (comma-separated names, None: all) lets in, and those in `drop_in`.

    A plugin that can't be imported or fits no hook is refused with its reason, and the others go on.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    allowed = None if allow is None else {name.strip() for name in allow.split(",") if name.strip()}
    infos = [_load_entry_point(manager, entry, allowed) for entry in sorted(entry_points(group=GROUP))]
    texts = list(_read_framework_packages())
    if drop_in is not None and drop_in.is_dir():
        infos += [_load_file(manager, path, allowed) for path in sorted(drop_in.glob("*.py"))]
        texts += [
            FrameworkText(path.name, f"folder {drop_in}", path.read_text(encoding="utf-8"))
            for path in sorted(drop_in.glob("*.toml"))
        ]
    plugins = Plugins(manager, tuple(infos))
    for plugin, offered in plugins.ask("frameworks"):
        texts += [FrameworkText(f"{plugin}[{index}]", plugin, text) for index, text in enumerate(offered)]
    plugins.framework_texts = tuple(texts)
    return plugins


def load_module(module: ModuleType, name: str = "") -> Plugins:
    """Load one module as a plugin, and nothing else: for tests of plugins. Raises what is wrong with its hooks."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    called = name or module.__name__
    return Plugins(manager, (PluginInfo(called, "", "", _register(manager, module, called)),))


def _load_entry_point(manager: pluggy.PluginManager, entry: EntryPoint, allowed: set[str] | None) -> PluginInfo:
    distribution = entry.dist.name if entry.dist else "?"
    version = entry.dist.version if entry.dist else "?"
    if allowed is not None and entry.name not in allowed:
        return PluginInfo(entry.name, distribution, version, (), "not listed in VCLONE_PLUGINS")
    try:
        with _timed(entry.name):
            module = entry.load()
        return PluginInfo(entry.name, distribution, version, _register(manager, module, entry.name))
    except _FAILURES as error:
        return _refuse(entry.name, distribution, version, error)


def _load_file(manager: pluggy.PluginManager, path: Path, allowed: set[str] | None) -> PluginInfo:
    where = f"file {path}"
    if allowed is not None and path.stem not in allowed:
        return PluginInfo(path.stem, where, "", (), "not listed in VCLONE_PLUGINS")
    try:
        spec = importlib.util.spec_from_file_location(f"vclone_drop_in_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        with _timed(path.stem):
            spec.loader.exec_module(module)
        return PluginInfo(path.stem, where, "", _register(manager, module, path.stem))
    except _FAILURES as error:
        return _refuse(path.stem, where, "", error)


@contextmanager
def _timed(name: str) -> Iterator[None]:
    """Say in the log whose import takes long."""
    started = time.monotonic()
    yield
    if (took_s := time.monotonic() - started) > SLOW_IMPORT_S:
        log.warning("plugin.slow", plugin=name, seconds=round(took_s, 1))


def _refuse(name: str, distribution: str, version: str, error: BaseException) -> PluginInfo:
    log.error("plugin.refused", plugin=name, distribution=distribution, why=str(error))
    return PluginInfo(name, distribution, version, (), f"{type(error).__name__}: {error}")


def _register(manager: pluggy.PluginManager, module: ModuleType, name: str) -> tuple[str, ...]:
    """Register a module whose every hook exists and has the right colour (async for events); undo it otherwise."""
    manager.register(module, name)
    try:
        callers = manager.get_hookcallers(module) or []
        for caller in callers:
            if caller.spec is None:
                raise TypeError(f"there is no hook {caller.name}")
            wants_async = inspect.iscoroutinefunction(caller.spec.function)
            for implementation in caller.get_hookimpls():
                if (
                    implementation.plugin is module
                    and inspect.iscoroutinefunction(implementation.function) != wants_async
                ):
                    raise TypeError(f"{caller.name} must be {'an async' if wants_async else 'a plain'} function")
        return tuple(sorted(caller.name for caller in callers))
    except Exception:
        manager.unregister(module)
        raise


def _read_framework_packages() -> Iterable[FrameworkText]:
    for entry in sorted(entry_points(group=FRAMEWORKS_GROUP)):
        distribution = entry.dist.name if entry.dist else "?"
        try:
            folder = files(entry.value)
        except Exception as error:
            log.error("frameworks.refused", package=entry.value, distribution=distribution, why=str(error))
            continue
        for path in sorted(folder.iterdir(), key=lambda item: item.name):
            if path.name.endswith(".toml"):
                yield FrameworkText(path.name, distribution, path.read_text(encoding="utf-8"))
