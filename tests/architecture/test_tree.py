"""The shape of the source tree: which way imports point, what is packaged, how large files may get."""

from __future__ import annotations

import ast
import doctest
import fnmatch
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKED = SETTINGS["tool"]["setuptools"]
LINES = 450
# Files that are longer than that, with their limit. The list may only get shorter.
LONGER: dict[str, int] = {}
DRAWERS = {"utils", "util", "helpers", "common", "misc", "base", "manager", "managers"}

# What setuptools and installs leave behind.
BUILT = r"(?:build|plugins/[^/]+/build|.*(?:\.venv|node_modules))/.*"

SOURCES = sorted(
    path
    for folder in ("src", "dashboard", "frameworks", "plugins", "scripts", "benchmarks", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if not re.fullmatch(BUILT, path.relative_to(ROOT).as_posix())
)
MODULES = [path for path in SOURCES if "tests" not in path.parts and path.read_text(encoding="utf-8").strip()]

EXAMPLES = [path for path in MODULES if ">>> " in path.read_text(encoding="utf-8")]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def folder_of(package: str) -> Path:
    mapped = PACKED["package-dir"]
    return ROOT / mapped[package] if package in mapped else ROOT / mapped[""] / package.replace(".", "/")


def module_of(path: Path) -> str:
    for package in PACKED["packages"]:
        if folder_of(package) == path.parent:
            return f"{package}.{path.stem}"
    return ".".join(path.with_suffix("").parts[path.parts.index("src") + 1 :])


def test_imports_point_one_way(tmp_path: Path) -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    command = [str(linter), "--no-logo", "--cache-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_package_is_packed() -> None:
    mapped = {folder: package for package, folder in PACKED["package-dir"].items() if package}
    found = {
        str(path.parent.relative_to(ROOT / "src")).replace("/", ".") for path in (ROOT / "src").rglob("__init__.py")
    }
    for folder, package in mapped.items():
        below = (path.parent.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("__init__.py"))
        found |= {".".join((package, *path.parts)) for path in below}
    assert set(PACKED["packages"]) == found


@pytest.mark.parametrize("package", PACKED["packages"])
def test_every_file_of_a_package_is_packed(package: str) -> None:
    """Data files lie in the innermost package above them, and one of its globs has them."""
    folder = folder_of(package)
    for path in folder.rglob("*"):
        inner = path.parent
        while inner != folder and not (inner / "__init__.py").exists():
            inner = inner.parent
        if inner != folder or not path.is_file() or path.suffix in (".py", ".pyc"):
            continue
        globs = PACKED["package-data"].get(package, [])
        inside = str(path.relative_to(folder))
        assert any(fnmatch.fnmatch(inside, glob.replace("**/", "*")) for glob in globs), name(path)


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= LONGER.get(name(path), LINES)


def test_no_exception_outlives_its_need() -> None:
    for path, limit in LONGER.items():
        assert LINES < (ROOT / path).read_text(encoding="utf-8").count("\n") <= limit, path


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_says_what_it_is_and_is_no_drawer(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert path.stem not in DRAWERS


@pytest.mark.parametrize("path", EXAMPLES, ids=name)
def test_examples_in_docstrings_are_true(path: Path) -> None:
    results = doctest.testmod(importlib.import_module(module_of(path)))
    assert results.attempted and not results.failed
