"""Finds plugins, checks each on its own, and calls their hooks so that one bad plugin harms nobody.

Built-ins come through the same entry points as a stranger's plugin. Loading is a call, never an import. What a plugin
wrote runs within a limit (`isolation.py`); one that doesn't return is set aside: the process goes on without it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pluggy

from vclone_core import hookspecs
from vclone_core.errors import BadSettings, VcloneError
from vclone_core.isolation import EventLane, TookTooLong, call_beside, call_within
from vclone_core.log import get_log

GROUP: Final = "vclone"
FRAMEWORKS_GROUP: Final = "vclone.frameworks"
EVENT_TIMEOUT_S: Final = 10.0
# An import may wait for a cold disk and a busy machine; whoever needs longer would keep the platform from starting.
LOAD_S: Final = 15.0
# For an answer, a registration, and what a factory makes; better bytes for 5 MiB may take longer than other answers.
ASK_S: Final = 10.0
ASK_LONGER_S: Final[Mapping[str, float]] = {"optimise_asset": 60.0}
# How long a loop that is only busy may need until its next turn.
TURN_S: Final = 1.0
# What makes every process of the platform slow to start, and is the plugin's own doing.
SLOW_IMPORT_S: Final = 2.0
# What a plugin does wrong. One that calls `sys.exit` ends itself and nobody else; Ctrl-C still ends the process.
_FAILURES: Final = (Exception, SystemExit)
# What didn't return from its import, by name and distribution: the process, and those forked from it, don't wait again.
_never_loaded: dict[tuple[str, str], str] = {}

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


@dataclass(frozen=True, slots=True)
class Offer:
    """What a plugin registered under a name."""

    plugin: str
    factory: Any


@dataclass(slots=True)
class Plugins:
    """The loaded plugins of one process."""

    manager: pluggy.PluginManager
    infos: tuple[PluginInfo, ...]
    framework_texts: tuple[FrameworkText, ...] = ()
    _offers: dict[str, dict[str, Offer]] = field(default_factory=dict)
    _lanes: dict[str, EventLane] = field(default_factory=dict)
    _aside: set[str] = field(default_factory=set)

    def providers(self, kind: str) -> Mapping[str, Any]:
        """Return every factory that plugins registered for `kind` (`object_stores`, `build_runners` …), by name.

        A plugin whose registration raises is logged and left out; one whose registration doesn't return is set aside.
        Of a name offered twice, the plugin that was loaded last keeps it, as everywhere in pluggy: a drop-in replaces
        an installed one.
        """
        return {name: offer.factory for name, offer in self._list_offers(kind).items()}

    def provider(self, kind: str, name: str) -> Any:
        """Return the factory `name` of `kind`; raise `BadSettings` that lists the ones there are."""
        return self._find_offer(kind, name).factory

    def make(self, kind: str, name: str, *configuration: Any) -> Any:
        """Return what the factory `name` of `kind` makes of its configuration.

        Raises `BadSettings` where no plugin offers it, and where the factory fails or takes longer than `ASK_S`: it
        names the plugin. The `VcloneError` of a factory is raised as it is.
        """
        return self._make(kind, name, self._find_offer(kind, name), *configuration)

    def make_all(self, kind: str) -> dict[str, Any]:
        """Return what every factory of `kind` makes, by name; those that fail are logged and left out."""
        made = {}
        for name, offer in self._list_offers(kind).items():
            try:
                made[name] = self._make(kind, name, offer)
            except VcloneError as error:
                log.error("plugin.failed", plugin=offer.plugin, kind=kind, name=name, why=error.sentence)
        return made

    def ask(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        """Ask a question of every plugin: (plugin, answer) pairs without the Nones.

        A plugin that raises is logged. One that doesn't answer within `ASK_S` is set aside. Waits, so not for an event
        loop: that has `ask_beside`.
        """
        return list(self._call_each(hook, **arguments))

    async def ask_beside(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        """Ask as `ask` does, beside the loop."""
        return await call_beside(self.ask, hook, **arguments)

    async def announce(self, hook: str, **arguments: Any) -> None:
        """Tell every plugin of an event: each on its own, ended after `EVENT_TIMEOUT_S`, failures logged by name.

        A plugin hears its events in a loop of its own. One that blocks it is set aside.
        """
        for plugin, function, arguments_taken in self._implementations(hook, arguments):
            lane = self._lanes.get(plugin) or self._lanes.setdefault(plugin, EventLane(plugin))
            heard = asyncio.wrap_future(lane.begin(_hear(function, arguments_taken)))
            try:
                await asyncio.wait({heard}, timeout=EVENT_TIMEOUT_S)
                is_late = not heard.done()
            finally:
                heard.cancel()
            if is_late and not await lane.answers(TURN_S):
                lane.abandon()
                self._set_aside(plugin, hook, f"it blocked for {EVENT_TIMEOUT_S} s")
            elif is_late:
                log.error("plugin.failed", plugin=plugin, hook=hook, why=f"it took longer than {EVENT_TIMEOUT_S} s")
            elif heard.cancelled():
                log.error("plugin.failed", plugin=plugin, hook=hook, why="it cancelled itself")
            elif (error := heard.result()) is not None:
                log.error("plugin.failed", plugin=plugin, hook=hook, exc_info=error)

    def close(self) -> None:
        """End the threads in which plugins hear events."""
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()

    def _list_offers(self, kind: str) -> Mapping[str, Offer]:
        if kind not in self._offers:
            found: dict[str, Offer] = {}
            for plugin, offer in self._call_each(f"register_{kind}", dict):
                for name, factory in offer.items():
                    if name in found:
                        log.warning("provider.ignored", kind=kind, name=name, plugin=plugin, why="the name is taken")
                    else:
                        found[name] = Offer(plugin, factory)
            self._offers[kind] = found
        return self._offers[kind]

    def _find_offer(self, kind: str, name: str) -> Offer:
        offers = self._list_offers(kind)
        if name not in offers:
            there = ", ".join(sorted(offers)) or "none"
            raise BadSettings(problems=f"No plugin offers {kind} {name!r}; installed: {there}.")
        return offers[name]

    def _make(self, kind: str, name: str, offer: Offer, *configuration: Any) -> Any:
        try:
            return call_within(ASK_S, offer.factory, *configuration)
        except VcloneError:
            raise
        except TookTooLong:
            why = f"it took longer than {ASK_S} s"
        except _FAILURES as error:
            why = f"{type(error).__name__}: {error}"
        raise BadSettings(problems=f"The plugin {offer.plugin} can't make its {kind} {name!r}: {why}.")

    def _call_each(
        self, hook: str, shape: Callable[[Any], Any] | None = None, /, **arguments: Any
    ) -> Iterable[tuple[str, Any]]:
        """Yield (plugin, answer) without the Nones; `shape` is what an answer has to be, applied where it may fail."""
        limit_s = ASK_LONGER_S.get(hook, ASK_S)
        for plugin, function, arguments_taken in self._implementations(hook, arguments):
            try:
                answer = call_within(limit_s, _answer, function, arguments_taken, shape)
            except TookTooLong:
                self._set_aside(plugin, hook, f"it did not return within {limit_s} s")
                continue
            except _FAILURES:
                log.exception("plugin.failed", plugin=plugin, hook=hook)
                continue
            if answer is not None:
                yield plugin, answer

    def _implementations(self, hook: str, arguments: Mapping[str, Any]) -> Iterable[tuple[str, Any, dict[str, Any]]]:
        # pluggy stops a call at the first exception and can't await; walking the implementations isolates each.
        for implementation in reversed(getattr(self.manager.hook, hook).get_hookimpls()):
            if implementation.plugin_name not in self._aside:
                taken = {name: arguments[name] for name in implementation.argnames}
                yield implementation.plugin_name, implementation.function, taken

    def _set_aside(self, plugin: str, hook: str, why: str) -> None:
        """Ask a plugin nothing more in this process, and say so once."""
        if plugin in self._aside:
            return
        self._aside.add(plugin)
        said = f"{hook}: {why}"
        self.infos = tuple(replace(info, refused=said) if info.name == plugin else info for info in self.infos)
        log.error("plugin.set_aside", plugin=plugin, hook=hook, why=f"{why}; this process goes on without the plugin")


async def _hear(function: Callable[..., Awaitable[None]], arguments: Mapping[str, Any]) -> BaseException | None:
    """Run an implementation of an event; return what it raised."""
    try:
        await function(**arguments)
    except (*_FAILURES, KeyboardInterrupt) as error:  # Ctrl-C reaches the main thread, so this is the plugin's own
        return error
    return None


def _answer(function: Callable[..., Any], arguments: Mapping[str, Any], shape: Callable[[Any], Any] | None) -> Any:
    answer = function(**arguments)
    return answer if answer is None or shape is None else shape(answer)


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
    for plugin, offered in plugins._call_each("frameworks", list):
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
    return _load(manager, PluginInfo(entry.name, distribution, version, ()), entry.load)


def _load_file(manager: pluggy.PluginManager, path: Path, allowed: set[str] | None) -> PluginInfo:
    where = f"file {path}"
    if allowed is not None and path.stem not in allowed:
        return PluginInfo(path.stem, where, "", (), "not listed in VCLONE_PLUGINS")

    def read() -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"vclone_drop_in_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    return _load(manager, PluginInfo(path.stem, where, "", ()), read)


def _load(manager: pluggy.PluginManager, info: PluginInfo, read: Callable[[], ModuleType]) -> PluginInfo:
    """Import a plugin and register its hooks, or say why not. One that doesn't return from its import is left there."""
    key = (info.name, info.distribution)
    if key in _never_loaded:
        return replace(info, refused=_never_loaded[key])
    try:
        with _timed(info.name):
            module = call_within(LOAD_S, read)
        return replace(info, hooks=_register(manager, module, info.name))
    except TookTooLong:
        why = _never_loaded[key] = f"its import did not return within {LOAD_S} s"
    except _FAILURES as error:
        why = f"{type(error).__name__}: {error}"
    log.error("plugin.refused", plugin=info.name, distribution=info.distribution, why=why)
    return replace(info, refused=why)


@contextmanager
def _timed(name: str) -> Iterator[None]:
    """Say in the log whose import takes long."""
    started = time.monotonic()
    yield
    if (took_s := time.monotonic() - started) > SLOW_IMPORT_S:
        log.warning("plugin.slow", plugin=name, seconds=round(took_s, 1))


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
            yield from call_within(LOAD_S, _read_frameworks, entry.value, distribution)
        except (*_FAILURES, TookTooLong) as error:
            why = str(error) or f"its import did not return within {LOAD_S} s"
            log.error("frameworks.refused", package=entry.value, distribution=distribution, why=why)


def _read_frameworks(package: str, distribution: str) -> list[FrameworkText]:
    return [
        FrameworkText(path.name, distribution, path.read_text(encoding="utf-8"))
        for path in sorted(files(package).iterdir(), key=lambda item: item.name)
        if path.name.endswith(".toml")
    ]
