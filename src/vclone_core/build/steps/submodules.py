"""What the clone step adds where a project asks for it: the repository's submodules, and the files behind LFS pointers.

Their addresses were written by whoever wrote the repository, and are judged like the repository's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from vclone_core.build.context import Work
from vclone_core.errors import CloneFailed, SourceUnreachable
from vclone_core.rules.clones import (
    check_git_url,
    explain_clone,
    parse_settings,
    plan_lfs,
    plan_lfs_version,
    plan_submodule_list,
    plan_submodule_paths,
    plan_submodule_update,
    plan_submodules,
    set_remote,
)
from vclone_core.rules.output import check_path

CLONE_S: Final = 300.0
GIT_S: Final = 60.0
DEPTH: Final = 4
MODULES: Final = 64


async def add_submodules(work: Work, folder: Path, url: str, env: Mapping[str, str], *, depth: int = 1) -> None:
    """Lay the submodules of the commit in `folder` out, and theirs; raise `CloneFailed`."""
    if not (folder / ".gitmodules").is_file():
        return
    if depth > DEPTH:
        raise CloneFailed(what=f"its submodules lie more than {DEPTH} deep")
    await _run(work, set_remote(url), folder, env)
    await _run(work, plan_submodules(), folder, env)
    addresses = parse_settings(await _run(work, plan_submodule_list(), folder, env, may_fail=True))
    if len(addresses) > MODULES:
        raise CloneFailed(what=f"it has more than {MODULES} submodules")
    is_insecure_allowed = work.build.settings.git_allow_insecure
    for address in addresses:
        if problem := check_git_url(address, is_insecure_allowed=is_insecure_allowed):
            raise CloneFailed(
                what=f"its submodule at {address[:200]} can't be cloned: {problem}",
                hint="Give the submodule an https:// address, or one relative to the repository's.",
            )
    if not addresses:
        return
    # Not every server gives a single commit that no branch ends in.
    status, _ = await work.read(plan_submodule_update(depth=1), cwd=folder, env=env, timeout_s=CLONE_S)
    if not status.is_ok:
        await _run(work, plan_submodule_update(depth=None), folder, env)
    await work.build.log.line(f"{len(addresses)} submodules")
    for path in parse_settings(await _run(work, plan_submodule_paths(), folder, env, may_fail=True)):
        if check_path(path) is None and await asyncio.to_thread(_is_folder, folder, path):
            own = await _run(work, _OWN_ADDRESS, folder / path, env, may_fail=True)
            await add_submodules(work, folder / path, own.strip() or url, env, depth=depth + 1)


def _is_folder(folder: Path, path: str) -> bool:
    """Say whether no link leads there."""
    return (folder / path).is_dir() and (folder / path).resolve() == folder.resolve() / path


_OWN_ADDRESS: Final = ("git", "config", "--local", "remote.origin.url")


async def add_large_files(work: Work, url: str, env: Mapping[str, str]) -> None:
    """Put large files in the place of their LFS pointers; raise `CloneFailed`."""
    status, _ = await work.read(plan_lfs_version(), cwd=work.folder, env=env, timeout_s=GIT_S)
    if not status.is_ok:
        raise CloneFailed(
            what="the project asks for LFS, and there is no git-lfs where builds run",
            hint="Install git-lfs on the workers, or switch the project's git_lfs off.",
        )
    await _run(work, set_remote(url), work.folder, env)
    # The clone itself leaves pointers as they are.
    asked = {name: value for name, value in env.items() if name != "GIT_LFS_SKIP_SMUDGE"}
    await _run(work, plan_lfs(url), work.folder, asked)
    await work.build.log.line("LFS files fetched")


async def _run(
    work: Work, argv: tuple[str, ...], folder: Path, env: Mapping[str, str], *, may_fail: bool = False
) -> str:
    status, said = await work.read(argv, cwd=folder, env=env, timeout_s=CLONE_S)
    if status.is_ok or may_fail:
        return said if status.is_ok else ""
    if status.reason == "timeout":
        raise CloneFailed(what=f"submodules or LFS files did not arrive within {CLONE_S:.0f} seconds")
    await work.build.log.output("stderr", said.encode())
    problem = explain_clone(said, work.source)
    raise (SourceUnreachable if problem.is_passing else CloneFailed)(what=problem.what, hint=problem.hint)
