"""*clone*, the first step: the source's files into the workspace, from a git repository or from uploaded blobs."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from vclone_core.build.context import Work
from vclone_core.build.gitaccess import git_access
from vclone_core.build.steps.submodules import add_large_files, add_submodules
from vclone_core.build.uploaded import open_upload
from vclone_core.errors import CloneFailed, EmptySource, SourceUnreachable
from vclone_core.models import Source
from vclone_core.rules.clones import (
    check_source,
    explain_clone,
    is_empty_repository,
    parse_branches,
    plan_branches,
    plan_checkout,
    plan_describe,
    plan_fetch,
    plan_init,
)
from vclone_core.rules.definitions import parse_frameworks
from vclone_core.rules.deploykeys import normal_git_url
from vclone_core.rules.frameworks import list_wanted_texts
from vclone_core.rules.sources import list_read

CLONE_S: Final = 300.0
GIT_S: Final = 60.0


async def clone_source(work: Work) -> None:
    """Fill the source folder; raise `CloneFailed`, `SourceUnreachable` (it may be tried again) or `EmptySource`."""
    await asyncio.to_thread(_make_empty, work.folder)
    if work.source.kind == "git":
        await _clone_repository(work)
    else:
        await _take_upload(work)


async def _clone_repository(work: Work) -> None:
    build, source = work.build, work.source
    is_insecure_allowed = build.settings.git_allow_insecure
    if problem := check_source(source, is_insecure_allowed=is_insecure_allowed):
        raise CloneFailed(what=problem)
    assert source.url is not None
    source = work.source = replace(source, url=normal_git_url(source.url))
    async with git_access(work) as env:
        await _fetch_repository(work, source, env)
    if not await asyncio.to_thread(_has_files, work.folder):
        raise EmptySource()


async def _fetch_repository(work: Work, source: Source, env: Mapping[str, str]) -> None:
    build = work.build
    assert source.url is not None
    await build.log.line(f"Cloning {source.url} ({source.sha or source.ref or 'default branch'})")
    status, said = await work.read(plan_init(), cwd=work.folder, env=env, timeout_s=GIT_S)
    if status.is_ok:
        for command in plan_fetch(source):
            status, said = await work.read(command, cwd=work.folder, env=env, timeout_s=CLONE_S)
            if status.is_ok or status.reason == "timeout":
                break
    if status.is_ok:
        status, said = await work.read(plan_checkout(source), cwd=work.folder, env=env, timeout_s=CLONE_S)
    if status.reason == "timeout":
        raise CloneFailed(what=f"the repository did not arrive within {CLONE_S:.0f} seconds")
    if not status.is_ok:
        await _explain_failure(work, said, env)
    if build.project_settings.git_submodules:
        await add_submodules(work, work.folder, source.url, env)
    if build.project_settings.git_lfs:
        await add_large_files(work, source.url, env)
    _, described = await work.read(plan_describe(), cwd=work.folder, env=env, timeout_s=GIT_S)
    sha, author, message = (*described.split("\0"), "", "", "")[:3]
    work.source = replace(source, sha=sha.strip(), author=author, message=message.strip()[:2000])
    await build.log.found(source=work.source)
    subject = (work.source.message or "").partition("\n")[0]
    await build.log.line(f"At {sha.strip()[:12]} {subject}")


async def _explain_failure(work: Work, said: str, env: Mapping[str, str]) -> None:
    source = work.source
    await work.build.log.output("stderr", said.encode())
    if is_empty_repository(said, source):
        raise EmptySource()
    problem = explain_clone(said, source)
    hint = problem.hint
    branches: Sequence[str] = ()
    if "no branch" in problem.what and source.url:
        _, listed = await work.read(plan_branches(source.url), cwd=work.folder, env=env, timeout_s=GIT_S)
        branches = parse_branches(listed)[:20]
        hint = "Push the branch, or deploy another one. Branches that exist: {branches}." if branches else hint
    raised = SourceUnreachable if problem.is_passing else CloneFailed
    raise raised(what=problem.what, hint=hint, branches=", ".join(branches))


async def _take_upload(work: Work) -> None:
    upload = work.upload = await open_upload(work.build, work.folder)
    await work.build.log.line(f"{len(upload.files):,} uploaded files")
    frameworks, _ = parse_frameworks(work.build.plugins.framework_texts)
    root = work.build.project_settings.root_directory.strip("/")
    await upload.place(list_read(upload.files, list_wanted_texts(frameworks), root=root))


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _has_files(folder: Path) -> bool:
    return any(path.name != ".git" for path in folder.iterdir())
