"""What opens a private repository, laid out for git for as long as git asks, gone before the project's commands.

A token is only in the environment of git. A deploy key is a file of the build's own folder that nobody else can read,
since ssh takes it in no other way; the folder is removed when the context ends.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from vclone_core.build.context import Work
from vclone_core.rules.clones import GitAccess, plan_git_env
from vclone_core.rules.deploykeys import KNOWN_HOSTS_CHARS, DeployKey, plan_ssh

FOLDER: Final = "git-access"
KEY, KNOWN_HOSTS = "key", "known_hosts"


@asynccontextmanager
async def git_access(work: Work) -> AsyncIterator[Mapping[str, str]]:
    """Give the environment of the git commands that ask the repository's host.

    What a first connection showed of the host is told to the platform when the context ends.
    """
    build = work.build
    access = await build.git_access() if build.git_access is not None else None
    is_insecure_allowed = build.settings.git_allow_insecure
    if not isinstance(access, DeployKey):
        if isinstance(access, GitAccess):
            await build.log.hide([access.token])
        yield plan_git_env(is_insecure_allowed=is_insecure_allowed, access=access)
        return
    await build.log.hide([line for line in access.private_key.splitlines() if not line.startswith("-----")])
    folder = build.workspace / FOLDER
    try:
        await asyncio.to_thread(_lay_out, folder, access)
        ssh = plan_ssh(str(folder / KEY), str(folder / KNOWN_HOSTS), is_pinned=bool(access.known_hosts))
        yield plan_git_env(is_insecure_allowed=is_insecure_allowed, ssh=ssh)
        met = await asyncio.to_thread(_read, folder / KNOWN_HOSTS)
        if met and not access.known_hosts and build.learn_hosts is not None:
            await build.learn_hosts(access, met)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _lay_out(folder: Path, key: DeployKey) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    for name, content in ((KEY, key.private_key), (KNOWN_HOSTS, key.known_hosts)):
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(content)


def _read(path: Path) -> str:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), errors="replace") as file:
            return file.read(KNOWN_HOSTS_CHARS + 1)
    except OSError:
        return ""
