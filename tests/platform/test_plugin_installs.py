"""`vclone plugins install` and `uninstall` in an environment of their own: a copy of the one that runs the tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

ROOT = Path(__file__).parent.parent.parent
HOOK = "from vclone_core import hookimpl\n@hookimpl\nasync def alias_moved(alias): ...\n"


@dataclass
class Scratch:
    """An environment with vclone in it, and where its plugins come from. `links` is what uv finds packages in."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> str:
        return str(self.folder / ".venv/bin/python")

    @property
    def kept(self) -> Path:
        return self.folder / ".venv-plugins"

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("VCLONE_", "PYTHON"))}
        return subprocess.run(argv, cwd=self.folder, env={**env, **self.settings}, capture_output=True, text=True)

    def vclone(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.python, "-P", "-m", "vclone_core.cli", *words)

    def ask(self, *words: str) -> Any:
        done = self.vclone(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def plugins(self) -> dict[str, str | None]:
        return {info["name"]: info["refused"] for info in self.ask("plugins", "list")}

    def packages(self) -> set[str]:
        done = self.run(str(self.folder / ".venv/bin/uv"), "pip", "freeze", "--python", self.python)
        assert done.returncode == 0, done.stderr
        return set(done.stdout.splitlines())


def copy_environment(folder: Path) -> None:
    """Copy the environment of the tests, by links where they can be made: uv replaces files and changes none."""

    def link(source: str, target: str) -> str:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)
        return target

    shutil.copytree(sys.prefix, folder / ".venv", symlinks=True, copy_function=link)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    folder = tmp_path_factory.mktemp("environment")
    copy_environment(folder)
    (folder / "links").mkdir()
    return Scratch(folder, {"UV_OFFLINE": "1", "UV_FIND_LINKS": str(folder / "links")})


@pytest.fixture
def scratch(shared: Scratch) -> Scratch:
    """The shared environment, with no plugin but vclone's own: each test leaves it so, or has failed."""
    for record in shared.kept.glob("*.txt"):
        shared.ask("plugins", "uninstall", record.stem)
    return shared


WritePlugin = Callable[..., Path]


@pytest.fixture
def plugin(tmp_path: Path) -> WritePlugin:
    """Writes a distribution: `plugin("vclone-x", source, entry="x = \\"vclone_x\\"", needs=("click",))`."""

    def write(
        name: str, source: str = HOOK, *, entry: str | None = None, needs: tuple[str, ...] = (), version: str = "0.1.0"
    ) -> Path:
        folder, module = tmp_path / f"{name}-{version}", name.replace("-", "_")
        (folder / "src" / module).mkdir(parents=True)
        (folder / "src" / module / "__init__.py").write_text(textwrap.dedent(source))
        entries = f'{name.removeprefix("vclone-")} = "{module}"' if entry is None else entry
        (folder / "pyproject.toml").write_text(
            f'[build-system]\nrequires = ["setuptools>=80"]\nbuild-backend = "setuptools.build_meta"\n'
            f'[project]\nname = "{name}"\nversion = "{version}"\ndependencies = {json.dumps(["vclone", *needs])}\n'
            f"[project.entry-points.vclone]\n{entries}\n"
            f"[tool.setuptools.packages.find]\nwhere = ['src']\n"
        )
        return folder

    return write


def build(scratch: Scratch, folder: Path, into: Path) -> Path:
    uv = str(scratch.folder / ".venv/bin/uv")
    words = ("build", "--wheel", "--no-build-isolation", "--python", scratch.python, "-o", str(into), str(folder))
    done = scratch.run(uv, *words)
    assert done.returncode == 0, done.stderr
    (wheel,) = into.glob(f"{folder.name.rpartition('-')[0].replace('-', '_')}-*.whl")
    return wheel


def pack(folder: Path, kind: str, target: Path) -> Path:
    if kind == "tar.gz":
        with tarfile.open(target, "w:gz") as archive:
            archive.add(folder, folder.name)
    else:
        with zipfile.ZipFile(target, "w") as archive:
            for path in folder.rglob("*"):
                archive.write(path, path.relative_to(folder.parent))
    return target


@pytest.mark.parametrize("kind", ["folder", "tar.gz", "zip", "whl"])
def test_a_new_plugin_is_installed_from(scratch: Scratch, tmp_path: Path, kind: str) -> None:
    before = scratch.packages()
    made = Path(scratch.ask("plugins", "new", "notify", str(tmp_path))["folder"])
    if kind == "whl":
        source = build(scratch, made.rename(tmp_path / "vclone-notify-0.1.0"), tmp_path / "wheels")
    else:
        source = made if kind == "folder" else pack(made, kind, tmp_path / f"plugin.{kind}")
    done = scratch.vclone("plugins", "install", str(source))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "vclone-notify 0.1.0 installed\n"
    # What it is, before it is there.
    assert done.stderr.startswith("vclone-notify 0.1.0\n  plugins    notify\n")
    if kind == "folder":
        assert sorted(path.name for path in made.iterdir()) == sorted(
            [".gitignore", "README.md", "pyproject.toml", "src", "tests"]
        )
    shutil.rmtree(tmp_path)  # nothing of where it came from is needed
    assert scratch.plugins()["notify"] is None
    shown = scratch.ask("plugins", "info", "notify")
    assert (shown["distribution"], shown["hooks"]) == ("vclone-notify", ["alias_moved"])
    assert scratch.ask("plugins", "uninstall", "notify") == {"distribution": "vclone-notify"}
    assert "notify" not in scratch.plugins()
    assert scratch.packages() == before
    assert not scratch.kept.exists()


def test_a_dry_run_installs_nothing(scratch: Scratch, plugin: WritePlugin) -> None:
    before = scratch.packages()
    said = scratch.ask("plugins", "install", str(plugin("vclone-x")), "--dry-run")
    assert (said["distribution"], said["plugins"], said["installed"]) == ("vclone-x", ["x"], False)
    assert scratch.packages() == before and not scratch.kept.exists()


def test_a_newer_version_replaces_an_older_one(scratch: Scratch, plugin: WritePlugin) -> None:
    scratch.ask("plugins", "install", str(plugin("vclone-x")))
    said = scratch.ask("plugins", "install", str(plugin("vclone-x", version="0.2.0")))
    assert (said["version"], said["replaces"]) == ("0.2.0", "0.1.0")
    assert [path.name for path in scratch.kept.glob("*.whl")] == ["vclone_x-0.2.0-py3-none-any.whl"]
    # One that is no good leaves the good one.
    worse = plugin("vclone-x", "raise OSError('no disk')", version="0.3.0")
    assert "OSError: no disk" in scratch.vclone("plugins", "install", str(worse)).stderr
    assert scratch.ask("plugins", "info", "x")["version"] == "0.2.0"


def test_what_comes_along_goes_with_the_last_that_needs_it(scratch: Scratch, plugin: WritePlugin) -> None:
    links = Path(scratch.settings["UV_FIND_LINKS"])
    build(scratch, plugin("extra", "", entry=""), links)
    for name in ("vclone-x", "vclone-y"):
        source = plugin(name, f"import extra\n{HOOK}", needs=("extra",))
        assert scratch.ask("plugins", "install", str(source))["needs"] == ["extra==0.1.0"]
    assert "extra==0.1.0" in scratch.packages()
    scratch.ask("plugins", "uninstall", "x")
    assert scratch.plugins()["y"] is None
    scratch.ask("plugins", "uninstall", "y")
    assert not any(line.startswith("extra") for line in scratch.packages())


@pytest.mark.parametrize(
    ("source", "more", "why"),
    [
        (HOOK, {"entry": ""}, "has no entry point in the groups vclone or vclone.frameworks"),
        ("import nothing_of_that_name", {}, "x of vclone-x can't be loaded: ModuleNotFoundError"),
        ("@hookimpl\ndef f(): ...", {}, "can't be loaded: NameError"),
        ("from vclone_core import hookimpl\n@hookimpl\ndef no_such_hook(): ...", {}, "there is no hook no_such_hook"),
        ("import sys\nsys.exit(3)", {}, "can't be loaded: SystemExit: 3"),
        ("import os\nos._exit(3)", {}, "it ends the process that loads it (with 3)"),
        (HOOK, {"entry": 'store-local = "vclone_x"'}, "vclone-store-local has a plugin called store-local already"),
        # What vclone runs on stays as it is, whatever a plugin would rather have.
        (HOOK, {"needs": ("click<8",)}, "click<8"),
        (HOOK, {"needs": ("vclone>99",)}, "vclone>99"),
        (HOOK, {"needs": ("nobody-has-this-package",)}, "nobody-has-this-package"),
    ],
)
def test_what_does_not_fit_is_refused(
    scratch: Scratch, plugin: WritePlugin, source: str, more: dict[str, Any], why: str
) -> None:
    before = scratch.packages()
    done = scratch.vclone("plugins", "install", str(plugin("vclone-x", source, **more)))
    assert done.returncode != 0
    first, *_ = done.stderr.partition("\n  →")[0].splitlines()
    assert first.startswith("error: Nothing was installed. ") and why in first, done.stderr
    assert "Traceback" not in done.stderr
    assert scratch.packages() == before and not scratch.kept.exists()


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("https://example.com/plugin.zip", "is no folder, no archive"),
        ("./nothing/here", "is no folder, no archive"),
        ("--index=x", "No such option"),
        ("a;b", "is no folder, no archive"),
        (".", "has no pyproject.toml"),
    ],
)
def test_what_is_no_source_is_refused(scratch: Scratch, source: str, why: str) -> None:
    done = scratch.vclone("plugins", "install", source)
    assert done.returncode != 0 and why in done.stderr


def test_a_built_in_plugin_stays(scratch: Scratch) -> None:
    done = scratch.vclone("plugins", "uninstall", "store-local")
    assert done.returncode != 0 and "VCLONE_PLUGINS can leave it out" in done.stderr
    assert scratch.plugins()["store-local"] is None
    done = scratch.vclone("plugins", "install", str(ROOT / "plugins/vclone-store-local"))
    assert "is there already, and came another way" in done.stderr


def test_an_environment_of_somebody_else_is_left_alone(
    scratch: Scratch, plugin: WritePlugin, ordinary_user: list[str]
) -> None:
    words = ("-P", "-m", "vclone_core.cli", "plugins", "install", str(plugin("vclone-x")))
    if ordinary_user:
        # The environment of the tests, which another user can run: the scratch folder is this user's alone.
        done = scratch.run(*ordinary_user, sys.executable, *words)
    else:
        environment = scratch.folder / ".venv"
        environment.chmod(0o555)
        try:
            done = scratch.run(scratch.python, *words)
        finally:
            environment.chmod(0o755)
    assert done.returncode == 4, done.stderr
    assert "this user may not write there" in done.stderr and "as the owner of the environment" in done.stderr


def test_it_outlives_a_new_set_up(tmp_path: Path, plugin: WritePlugin) -> None:
    """`./vclone` brings the environment to its lock, which knows of no plugin, and then the plugin back."""
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns(".git", ".venv*", "__pycache__", "*.egg-info", "node_modules", "tests", ".*_cache")
    shutil.copytree(ROOT, checkout, symlinks=True, ignore=ignored)
    copy_environment(checkout)
    scratch = Scratch(checkout, {"UV_OFFLINE": "1", "VCLONE_SETUP": "dev"})
    scratch.ask("plugins", "install", str(plugin("vclone-x")))
    scratch.ask("plugins", "install", str(plugin("vclone-y")))
    for lock in checkout.glob("requirements*.lock"):
        with lock.open("a") as file:
            file.write("# newer\n")
    # One that doesn't fit the new version is said, and keeps nobody from starting.
    (scratch.kept / "vclone-y.txt").write_text("click==1.0\n")
    done = scratch.run("./vclone", "plugins", "list", "--json")
    assert done.returncode == 0, done.stderr
    assert "warning: the plugin vclone-y does not fit this version, and was left out" in done.stderr
    infos = {info["name"]: info["refused"] for info in json.loads(done.stdout)}
    assert infos["x"] is None and "y" not in infos
    done = scratch.run("./vclone", "plugins", "list", "--json")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.registry
def test_a_package_is_found_by_its_name_and_refused(scratch: Scratch) -> None:
    """No plugin is published yet: a package that is known by everybody shows the way up to the refusal."""
    online = Scratch(scratch.folder, {})
    done = online.vclone("plugins", "install", "iniconfig>=2")
    assert "iniconfig>=2 is no plugin: iniconfig 2" in done.stderr.replace("\n", " ")
