"""Installs plugins into the environment that vclone runs in, and takes them out again, by uv.

source -> wheel -> what it is -> what it needs -> does it load? -> install -> keep

Up to the last two steps everything happens in a scratch folder. What is kept beside the environment (`.venv-plugins/`:
one requirements file per plugin, and its wheel) is what `./vclone` installs again after it has synchronised the
environment with its lock, which removes everything else.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, Final

from vclone_core.errors import EnvironmentClosed, NotFound, PluginUnfit
from vclone_core.plugins import FRAMEWORKS_GROUP, GROUP

UV_S: Final = 600.0
LOAD_S: Final = 120.0
ARCHIVES: Final = (".tar.gz", ".tgz", ".zip")
REQUIREMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:(?:==|>=|<=|~=|<|>|!=)[A-Za-z0-9.*+!,<>=~-]+)?")
# What earlier builds and tests leave in a project's folder.
_LEAVINGS: Final = frozenset({"build", "dist", ".venv", ".tox", "node_modules"})
_NEEDS_WHAT: Final = "Another version of the plugin may fit; vclone's own packages stay as they are."


@dataclass(frozen=True, slots=True)
class Candidate:
    """What would be installed. `needs` are the packages that come with it, pinned; `replaces` an earlier version."""

    distribution: str
    version: str
    plugins: tuple[str, ...]
    framework_packages: tuple[str, ...]
    requirement: str
    needs: tuple[str, ...] = ()
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A plugin that was installed by this command: its distribution, and what came with it."""

    distribution: str
    plugin: str
    needs: tuple[str, ...]
    path: Path


@dataclass(frozen=True, slots=True)
class Environment:
    """The environment that vclone runs in: its interpreter, its folder, and the packages of vclone itself."""

    python: str
    prefix: Path

    @classmethod
    def own(cls) -> Environment:
        """Return this process's environment; raise `EnvironmentClosed` where it is no place for plugins."""
        prefix = Path(sys.prefix)
        if sys.prefix == sys.base_prefix:
            raise EnvironmentClosed(path=prefix, why="it is the system's Python, no environment of vclone's own")
        if not (os.access(prefix, os.W_OK) and os.access(prefix.parent, os.W_OK)):
            raise EnvironmentClosed(path=prefix, why="this user may not write there")
        return cls(sys.executable, prefix)

    @property
    def folder(self) -> Path:
        """Where what was installed is kept, so that it outlives the environment's renewal."""
        return Path(f"{self.prefix}-plugins")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other installations and `./vclone`'s set-up away."""
        with Path(f"{self.prefix}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def kept(self) -> list[Kept]:
        """Return what was installed by this command, by distribution."""
        found = []
        for path in sorted(self.folder.glob("*.txt")):
            plugin, *needs = [
                line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")
            ]
            found.append(Kept(path.stem, plugin, tuple(needs), path))
        return found

    def uv(self, *words: str, cwd: Path, is_wanted: Callable[[str], str]) -> str:
        """Run uv on the environment and return what it says; raise `PluginUnfit` with its reason for a failure."""
        from uv import find_uv_bin

        argv = (find_uv_bin(), *words, "--python", self.python, "--color", "never", "--no-progress")
        try:
            done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=UV_S, check=False)
        except subprocess.TimeoutExpired:
            raise PluginUnfit(why=is_wanted(f"uv took longer than {UV_S:.0f} s")) from None
        if done.returncode != 0:
            raise PluginUnfit(why=is_wanted(_squeeze(done.stderr)), hint=_NEEDS_WHAT)
        return done.stderr


def prepare(environment: Environment, source: str, scratch: Path) -> Candidate:
    """Return what `source` (folder, archive, wheel, or a package's name) holds, checked to load beside what is there.

    Raises `PluginUnfit` with the reason otherwise. Changes nothing but `scratch`.
    """
    requirement = _find_requirement(environment, source, scratch)
    site = scratch / "site"
    environment.uv(
        "pip", "install", "--target", str(site), "--no-deps", requirement, cwd=scratch, is_wanted=_says(source)
    )
    (found,) = distributions(path=[str(site)])
    candidate = _describe(environment, source, found, requirement)
    constraints = scratch / "constraints.txt"
    constraints.write_text(
        "".join(f"{pin}\n" for pin in _fixed_pins(environment, candidate.distribution)), encoding="utf-8"
    )
    planned = environment.uv(
        "pip", "install", "--dry-run", "-c", str(constraints), requirement, cwd=scratch, is_wanted=_says(source)
    )
    needs = tuple(
        pin for pin in re.findall(r"^ \+ (\S+==\S+)", planned, re.MULTILINE) if _name_of(pin) != candidate.distribution
    )
    if needs:
        pinned = ("pip", "install", "--target", str(site), "--no-deps", *needs)
        environment.uv(*pinned, cwd=scratch, is_wanted=_says(source))
    candidate = replace(candidate, needs=tuple(sorted({*needs, *_shared_needs(environment, found)})))
    _check_loads(environment, candidate, site)
    return candidate


def install(environment: Environment, candidate: Candidate) -> None:
    """Install what was prepared and keep it; on a failure the environment is as it was. Raises `PluginUnfit`."""
    folder, before = environment.folder, {kept.distribution: kept for kept in environment.kept()}
    try:
        _install_pinned(environment, (candidate.requirement, *candidate.needs), candidate.distribution)
    except PluginUnfit:
        _remove(environment, [candidate.distribution, *candidate.needs])
        earlier = before.get(candidate.distribution)
        if earlier is not None:
            _install_pinned(environment, (earlier.plugin, *earlier.needs), candidate.distribution)
        raise
    folder.mkdir(exist_ok=True)
    line = candidate.requirement
    wheel = Path(line)
    if wheel.suffix == ".whl":
        shutil.copyfile(wheel, folder / wheel.name)
        line = f"./{folder.name}/{wheel.name}"
    text = f"# {candidate.distribution} {candidate.version}, installed by `vclone plugins install`\n"
    draft = folder / f"{candidate.distribution}.new"
    draft.write_text(text + "".join(f"{one}\n" for one in (line, *candidate.needs)), encoding="utf-8")
    draft.replace(folder / f"{candidate.distribution}.txt")
    _tidy(environment)


def uninstall(environment: Environment, name: str) -> Kept:
    """Take out a plugin, by its own name or its distribution's, and what came with it and nobody else needs.

    Raises `NotFound` for one that this command did not install.
    """
    kept = {one.distribution: one for one in environment.kept()}
    plugins = {
        entry.name: _normalise(found.name)
        for found in distributions()
        for entry in found.entry_points
        if entry.group == GROUP
    }
    found = kept.get(_normalise(name)) or kept.get(plugins.get(name, ""))
    if found is None:
        where = plugins.get(name) or (_normalise(name) if _normalise(name) in plugins.values() else None)
        hint = f"It is a part of {where}, which came another way: VCLONE_PLUGINS can leave it out." if where else ""
        raise NotFound(what=f"plugin {name} that `vclone plugins install` installed", hint=hint)
    others = {need for one in kept.values() if one is not found for need in one.needs}
    _remove(environment, [found.distribution, *(need for need in found.needs if need not in others)])
    found.path.unlink()
    _tidy(environment)
    return found


def _find_requirement(environment: Environment, source: str, scratch: Path) -> str:
    """Return the wheel that a source was built to, or the name of a package."""
    path = Path(source)
    if path.is_file() and path.suffix == ".whl":
        return str(path.absolute())
    if path.is_dir():
        if not (path / "pyproject.toml").is_file():
            raise PluginUnfit(why=f"{source} has no pyproject.toml", hint="`vclone plugins new` writes one.")
        shutil.copytree(path, scratch / "source", symlinks=True, ignore=_list_leavings(path))
        built = scratch / "source"
    elif path.is_file() and path.name.endswith(ARCHIVES):
        built = path.absolute()
    elif not path.exists() and REQUIREMENT.fullmatch(source):
        return source
    else:
        raise PluginUnfit(
            why=f"{source[:200]} is no folder, no archive ({', '.join(ARCHIVES)}, .whl) and no package's name",
            hint="Download it first, and install the file.",
        )
    wheels = scratch / "wheels"
    build = ("build", "--wheel", "-o", str(wheels), str(built))
    try:
        # What builds most plugins is there: without a network of its own this takes half a second.
        environment.uv(*build, "--no-build-isolation", cwd=scratch, is_wanted=_says(source))
    except PluginUnfit:
        environment.uv(*build, cwd=scratch, is_wanted=_says(source))
    (wheel,) = wheels.glob("*.whl")
    return str(wheel)


def _list_leavings(root: Path) -> Callable[[str, list[str]], set[str]]:
    """Return what says which names of a folder stay behind: old builds would get into a new one."""

    def list_leavings(folder: str, names: list[str]) -> set[str]:
        named = {name for name in names if name == "__pycache__" or name.endswith(".egg-info")}
        return named | (_LEAVINGS & set(names) if Path(folder) == root else set())

    return list_leavings


def _describe(environment: Environment, source: str, found: Distribution, requirement: str) -> Candidate:
    distribution = _normalise(found.name)
    entries = [entry for entry in found.entry_points if entry.group in (GROUP, FRAMEWORKS_GROUP)]
    if not entries:
        raise PluginUnfit(
            why=f"{source} is no plugin: {found.name} {found.version} has no entry point in the groups {GROUP} or "
            f"{FRAMEWORKS_GROUP}",
            hint="docs/howto/write-a-plugin.md shows one.",
        )
    kept = {one.distribution for one in environment.kept()}
    replaces = None
    for there in distributions():
        name = _normalise(there.name)
        if name == distribution:
            if name not in kept:
                raise PluginUnfit(why=f"{name} {there.version} is there already, and came another way")
            replaces = there.version
            continue
        taken = {entry.name for entry in there.entry_points if entry.group == GROUP}
        for entry in entries:
            if entry.group == GROUP and entry.name in taken:
                raise PluginUnfit(why=f"{name} has a plugin called {entry.name} already")
    return Candidate(
        distribution,
        found.version,
        tuple(sorted(entry.name for entry in entries if entry.group == GROUP)),
        tuple(sorted(entry.value for entry in entries if entry.group == FRAMEWORKS_GROUP)),
        # What was looked at is what is installed, also when a newer version appears in between.
        requirement if requirement.endswith(".whl") else f"{distribution}=={found.version}",
        replaces=replaces,
    )


def _fixed_pins(environment: Environment, distribution: str) -> list[str]:
    """Return every package of the environment, pinned, that this plugin itself didn't bring: it stays as it is."""
    kept = {one.distribution: {_name_of(need) for need in one.needs} for one in environment.kept()}
    own = {distribution, *kept.pop(distribution, set())}.difference(*kept.values())
    found = {_normalise(one.name): one.version for one in distributions(path=_site_packages(environment))}
    return sorted(f"{name}=={version}" for name, version in found.items() if name not in own)


def _shared_needs(environment: Environment, found: Distribution) -> set[str]:
    """Return what other plugins brought and this one needs too, pinned: it has to outlive them."""
    brought = {_name_of(need): need for kept in environment.kept() for need in kept.needs}
    there = {_normalise(one.name): one for one in distributions(path=_site_packages(environment))}
    shared: set[str] = set()
    waiting = [found]
    while waiting:
        for line in waiting.pop().requires or ():
            # Its conditions aside: one that is kept for nothing does no harm.
            name = _normalise(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0])
            if name in brought and brought[name] not in shared and name in there:
                shared.add(brought[name])
                waiting.append(there[name])
    return shared


def _check_loads(environment: Environment, candidate: Candidate, site: Path) -> None:
    """Load the plugin as the platform's processes do, in a process of its own that sees the scratch folder first."""
    whole = _ask_cli(environment, site, candidate, "plugins", "list")
    mine = [info for info in whole if _normalise(info["distribution"]) == candidate.distribution]
    for info in mine:
        if info["refused"]:
            raise PluginUnfit(why=f"{info['name']} of {candidate.distribution} can't be loaded: {info['refused']}")
    if candidate.framework_packages:
        read = _ask_cli(environment, site, candidate, "frameworks")
        if not any(_normalise(one["distribution"]) == candidate.distribution for one in read["frameworks"]):
            why = " ".join(read["refused"]) or "it has no TOML file"
            raise PluginUnfit(why=f"no framework of {candidate.distribution} can be used: {why}")


def _ask_cli(environment: Environment, site: Path, candidate: Candidate, *words: str) -> Any:
    env = {name: value for name, value in os.environ.items() if not name.startswith("VCLONE_")}
    argv = (environment.python, "-P", "-m", "vclone_core.cli", *words, "--json")
    try:
        done = subprocess.run(
            argv,
            env={**env, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=LOAD_S,
            check=False,
        )
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        why = f"it took longer than {LOAD_S:.0f} s"
    except ValueError:
        why = f"it ends the process that loads it (with {done.returncode})"
    raise PluginUnfit(why=f"{candidate.distribution} can't be loaded: {why}")


def _install_pinned(environment: Environment, pins: Sequence[str], name: str) -> None:
    environment.uv(
        "pip", "install", "--no-deps", "--compile-bytecode", *pins, cwd=environment.prefix.parent, is_wanted=_says(name)
    )


def _remove(environment: Environment, pins: Sequence[str]) -> None:
    names = [pin.partition("==")[0] for pin in pins]
    environment.uv("pip", "uninstall", *names, cwd=environment.prefix.parent, is_wanted=_says(names[0]))


def _tidy(environment: Environment) -> None:
    """Remove wheels that no plugin is installed from, and the folder with the last one."""
    used = {Path(kept.plugin).name for kept in environment.kept()}
    for wheel in environment.folder.glob("*.whl"):
        if wheel.name not in used:
            wheel.unlink()
    if environment.folder.is_dir() and not any(environment.folder.iterdir()):
        environment.folder.rmdir()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for one installation."""
    with tempfile.TemporaryDirectory(prefix="vclone-plugin-") as folder:
        yield Path(folder)


def _site_packages(environment: Environment) -> list[str]:
    return [path for path in sys.path if path.startswith(f"{environment.prefix}{os.sep}")]


def _says(source: str) -> Callable[[str], str]:
    return lambda why: f"{source}: {why}"


def _squeeze(text: str) -> str:
    """Return what uv says as one line, without its marks and the lines of a build that went well."""
    lines = [re.sub(r"^[^\w(`'\"]+|\s+$", "", line) for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith(("Using Python", "Resolved ", "warning:"))]
    # A build's own words can be many; the end says what went wrong.
    return " ".join(kept[-12:])[-1200:]


def _name_of(pin: str) -> str:
    return _normalise(pin.partition("==")[0])


def _normalise(name: str) -> str:
    """Return the spelling of a distribution's name that is compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
