"""Build runners for tests: the podman one is there where the machine has Podman and the build image."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tests.needs import lacks

from vclone_core.plugins import load_plugins
from vclone_core.protocols import BuildRunner, RunnerConfig

PLUGINS = load_plugins()
_looked: list[str | None] = []  # what `check` said, once


def make_runner(name: str, **options: str) -> BuildRunner:
    """Return a runner with the operator's options."""
    made: BuildRunner = PLUGINS.provider("build_runners", name)(RunnerConfig(options=options))
    return made


async def make_podman(**options: str) -> BuildRunner:
    """Return the podman runner; skip the test, or fail it with VCLONE_REQUIRE=1, where it can't run."""
    if not _looked:
        _looked.append(await make_runner("podman").check())
    if (why := _looked[0]) is not None:
        lacks(why)
    return make_runner("podman", **options)


async def make_process() -> BuildRunner:
    """Return the process runner with nothing around its commands."""
    return make_runner("process", sandbox="none")


async def make_bubblewrap(**options: str) -> BuildRunner:
    """Return the process runner inside bubblewrap; skip the test, or fail it with VCLONE_REQUIRE=1, without it."""
    made = make_runner("process", sandbox="bubblewrap", **options)
    if (why := await made.check()) is not None:
        lacks(why)
    return made


def registry_options() -> dict[str, str]:
    """Return what the podman runner needs so that builds reach the registries that this machine's npm and pip ask.

    They are named to it, since a mirror may have an address that isn't public, and its certificate another authority.
    """
    registry = subprocess.run(["npm", "config", "get", "registry"], capture_output=True, text=True, timeout=60).stdout
    program = "from pip._internal.models.index import PyPI; print(PyPI.netloc, PyPI.file_storage_domain)"
    # Not the one of this environment, which has no pip.
    python = str(Path(sys.base_prefix) / "bin" / "python3")
    index = subprocess.run([python, "-c", program], capture_output=True, text=True, timeout=60).stdout
    assert index, f"{python} has no pip"
    hosts = {urlsplit(registry.strip()).hostname or "", urlsplit(os.environ.get("PIP_INDEX_URL", "")).hostname or ""}
    options = {
        "egress.allow": ",".join(sorted({*hosts, *index.split()} - {""})),
        "env.NPM_CONFIG_REGISTRY": registry.strip(),
    }
    if url := os.environ.get("PIP_INDEX_URL"):
        options["env.PIP_INDEX_URL"] = url
    if bundle := os.environ.get("SSL_CERT_FILE"):
        options["ca_bundle"] = bundle
    return options
