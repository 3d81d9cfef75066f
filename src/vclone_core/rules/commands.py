"""How a build runs the commands of a project: argument lists, environment, and what an exit means."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Final

from vclone_core.models import Source

# The commit that a push is compared with, for the ignore command.
PREVIOUS_SHA: Final = "VCLONE_GIT_PREVIOUS_SHA"

# Where a build keeps its packages and the programs it had to fetch: `cache`, beside the source. Commands find it from
# the folder they run in, since a runner may show them the workspace under another path.
STORE: Final = "cache"
TOOLS_HERE: Final = '"$PWD/tools"'


def plan_user_command(command: str, *, depth: int, stores: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return how a command line of a project is run: by a shell that finds the project's own programs first.

    Those are in `node_modules` and in Python's `.venv`, then come the ones that were fetched for it. `depth` is how
    many folders the root directory lies below the repository's root, whose programs are found too. `stores` names
    variables that tell a package manager its folder, where they are not set already.
    """
    store = f"$PWD/{'../' * (depth + 1)}{STORE}"
    modules = (f"$PWD/{'../' * up}node_modules/.bin" for up in range(depth + 1))
    folders = ":".join((*modules, "$PWD/.venv/bin", f"{store}/tools/bin", f"{store}/bin"))
    lines = [f'PATH="{folders}:$PATH"; export PATH']
    lines += [f': "${{{name}:={store}/{folder}}}"; export {name}' for name, folder in (stores or {}).items()]
    return ("sh", "-c", "\n".join((*lines, command)))


def plan_provision(package: str) -> tuple[str, ...]:
    """Return the command that brings a package manager of the wanted version where the machine has another, or none.

    It is run in `STORE`. What comes from npm stays there for the next build; what comes from PyPI is made for the
    build's home alone, since a Python environment can't be moved.
    """
    if package.startswith("pypi:"):
        return ("sh", "-c", _PROVISION_PYPI % {"program": shlex.quote(package.removeprefix("pypi:"))})
    name, _, version = package.rpartition("@")
    program = shlex.quote("yarn" if name.startswith("@yarnpkg/") else name)
    wanted = re.sub(r"[^\w.-]", "?", version)
    install = shlex.join(("npm", "install", "--global", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"))
    lines = (
        f"PATH={TOOLS_HERE}/bin:$PATH; export PATH",
        f'case "$({program} --version 2>/dev/null)" in {wanted}|{wanted}.*) exit 0 ;; esac',
        # Another prefix means another global configuration, and that may name the machine's registry and certificates.
        f'{install} {TOOLS_HERE} --globalconfig "$(npm config get globalconfig)" {shlex.quote(package)}',
    )
    return ("sh", "-c", "\n".join(lines))


# In an environment of its own, so that nothing of it mixes with what the project installs.
_PROVISION_PYPI: Final = """command -v %(program)s >/dev/null || {
python3 -m venv "$HOME/.local/share/%(program)s" && mkdir -p "$HOME/.local/bin" &&
"$HOME/.local/share/%(program)s/bin/pip" install --quiet --disable-pip-version-check %(program)s &&
ln -sf "$HOME/.local/share/%(program)s/bin/%(program)s" "$HOME/.local/bin/"; }"""


def build_environment(
    *, url: str, host: str, target: str, project: str, deployment_id: str, source: Source, public_prefix: str | None
) -> dict[str, str]:
    """Return the variables that the platform gives to install and build.

    With a framework's prefix they are there a second time, as its public ones. `VERCEL=1` is not among them: it makes
    frameworks build for another platform.
    """
    facts = {
        "VCLONE_URL": url,
        "VCLONE_HOST": host,
        "VCLONE_ENV": target,
        "VCLONE_PROJECT": project,
        "VCLONE_DEPLOYMENT_ID": deployment_id,
        "VCLONE_GIT_URL": source.url,
        "VCLONE_GIT_COMMIT_REF": source.ref,
        "VCLONE_GIT_COMMIT_SHA": source.sha,
        "VCLONE_GIT_COMMIT_MESSAGE": (source.message or "").partition("\n")[0] or None,
        "VCLONE_GIT_COMMIT_AUTHOR": source.author,
    }
    given = {name: value for name, value in facts.items() if value is not None}
    public = {f"{public_prefix}{name}": value for name, value in given.items()} if public_prefix else {}
    return {"CI": "1", "VCLONE": "1", **given, **public}


def explain_exit(*, code: int, reason: str, tail: str) -> str:
    """Return what ended a command: `memory`, `timeout`, `killed`, `disk`, `missing` (no such program), `failed`."""
    if reason in ("timeout", "killed", "disk", "memory"):
        return reason
    if code in (137, -9) or _MEMORY.search(tail):
        return "memory"
    if code == 127:
        return "missing"
    return "failed"


# What Node.js, Python, Go, Rust, the shell and npm say when memory is short.
_MEMORY: Final = re.compile(
    r"JavaScript heap out of memory|Allocation failed - |^MemoryError|Cannot allocate memory|out of memory|ENOMEM"
    r"|memory allocation of \d+ bytes failed|SIGKILL",
    re.MULTILINE,
)


def describe_exit(*, code: int, reason: str) -> str:
    """Return an exit as words: `exit code 2`, `signal 15`.

    >>> describe_exit(code=-15, reason="signal")
    'signal 15'
    """
    if reason in ("killed", "disk"):
        return {"killed": "too many processes", "disk": "more than the disk limit"}[reason]
    # A shell says 128 + N of a command that signal N ended.
    signal = -code if code < 0 else code - 128 if 128 < code < 160 else 0
    return f"signal {signal}" if signal else f"exit code {code}"
