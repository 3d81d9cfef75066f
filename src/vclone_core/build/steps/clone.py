"""*clone*, the first step: the source's files into the workspace, from a git repository or from uploaded blobs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from vclone_core.build.context import Build, Work
from vclone_core.build.parallel import run_each
from vclone_core.errors import CloneFailed, EmptySource, NotFound
from vclone_core.models import SourceFile
from vclone_core.rules.clones import (
    check_source,
    explain_clone,
    is_empty_repository,
    parse_branches,
    plan_branches,
    plan_checkout,
    plan_describe,
    plan_fetch,
    plan_git_env,
    plan_init,
)
from vclone_core.rules.objectkeys import blob_key, source_key
from vclone_core.rules.output import Tally, check_path

CLONE_S: Final = 300.0
GIT_S: Final = 60.0
IN_FLIGHT: Final = 16


async def clone_source(work: Work) -> None:
    """Fill the source folder; raise `CloneFailed` or `EmptySource`."""
    await asyncio.to_thread(_make_empty, work.folder)
    if work.source.kind == "git":
        await _clone_repository(work)
    else:
        await _copy_upload(work)


async def _clone_repository(work: Work) -> None:
    build, source = work.build, work.source
    is_insecure_allowed = build.settings.git_allow_insecure
    if problem := check_source(source, is_insecure_allowed=is_insecure_allowed):
        raise CloneFailed(what=problem)
    assert source.url is not None
    env = plan_git_env(is_insecure_allowed=is_insecure_allowed)
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
    _, described = await work.read(plan_describe(), cwd=work.folder, env=env, timeout_s=GIT_S)
    sha, author, message = (*described.split("\0"), "", "", "")[:3]
    work.source = replace(source, sha=sha.strip(), author=author, message=message.strip()[:2000])
    await build.log.found(source=work.source)
    subject = (work.source.message or "").partition("\n")[0]
    await build.log.line(f"At {sha.strip()[:12]} {subject}")
    if not await asyncio.to_thread(_has_files, work.folder):
        raise EmptySource()


async def _explain_failure(work: Work, said: str, env: dict[str, str]) -> None:
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
    raise CloneFailed(what=problem.what, hint=hint, branches=", ".join(branches))


async def _copy_upload(work: Work) -> None:
    build = work.build
    files = await _read_file_list(build)
    if not files:
        raise EmptySource()
    tally = Tally(build.limits)
    seen: set[str] = set()
    for file in files:
        if problem := check_path(file.path) or ("appears twice" if file.path in seen else None):
            raise CloneFailed(what=f"the uploaded path {file.path[:200]!r} {problem}")
        seen.add(file.path)
        tally.add(file.path, file.size)
    folders = {file.path[:index] for file in files for index, letter in enumerate(file.path) if letter == "/"}
    if both := folders & seen:
        raise CloneFailed(what=f"the uploaded path {min(both)[:200]!r} is a file and a folder")
    await asyncio.to_thread(_make_folders, work.folder, sorted(folders))
    await run_each(files, lambda file: _copy_blob(build, file, work.folder), in_flight=IN_FLIGHT)
    await build.log.line(f"{len(files):,} uploaded files")


async def _read_file_list(build: Build) -> list[SourceFile]:
    deployment = build.claim.deployment
    try:
        async with build.objects.open(source_key(deployment.project_id, deployment.id)) as body:
            raw = json.loads(b"".join([chunk async for chunk in body.chunks]))
        return [_parse_file(item) for item in raw["files"]]
    except NotFound as error:
        raise CloneFailed(what="the list of uploaded files is gone", hint="Deploy the folder again.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CloneFailed(what=f"the list of uploaded files is damaged ({error})") from error


def _parse_file(raw: Any) -> SourceFile:
    file = SourceFile(raw["path"], raw["sha256"], raw["size"], bool(raw.get("is_executable", False)))
    if not isinstance(file.path, str) or type(file.size) is not int or file.size < 0:
        raise ValueError("a field has a wrong type")
    return file


async def _copy_blob(build: Build, file: SourceFile, folder: Path) -> None:
    mode = 0o755 if file.is_executable else 0o644
    target = folder / file.path
    try:
        async with AsyncExitStack() as stack:
            body = await stack.enter_async_context(build.objects.open(blob_key(build.claim.project.id, file.sha256)))
            if body.size != file.size:
                raise CloneFailed(what=f"{file.path} has {body.size} bytes in the store, not {file.size}")
            if body.path is not None:
                await asyncio.to_thread(_copy_file, body.path, target, mode)
                return
            descriptor = await asyncio.to_thread(_create, target, mode)
            with os.fdopen(descriptor, "wb") as out:
                async for chunk in body.chunks:
                    await asyncio.to_thread(out.write, chunk)
    except NotFound as error:
        raise CloneFailed(what=f"the bytes of {file.path} were never uploaded", hint="Deploy again.") from error


def _copy_file(origin: Path, target: Path, mode: int) -> None:
    with origin.open("rb") as source, os.fdopen(_create(target, mode), "wb") as out:
        shutil.copyfileobj(source, out, 1024**2)


def _create(target: Path, mode: int) -> int:
    return os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _make_folders(root: Path, folders: Sequence[str]) -> None:
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)


def _has_files(folder: Path) -> bool:
    return any(path.name != ".git" for path in folder.iterdir())
