"""A real worker on a real platform, in this process."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from tests.contracts.runners import make_process

from vclone_core.actions.owners import ensure_owner
from vclone_core.actions.platform import Platform
from vclone_core.actions.projects import create_project, store_blob
from vclone_core.build.worker import Worker, pipeline_with
from vclone_core.models import Actor, Deployment, Project, SourceFile
from vclone_core.rules.lifecycle import FINAL
from vclone_core.stores import records


@asynccontextmanager
async def working(platform: Platform) -> AsyncIterator[Worker]:
    # Without a sandbox, so that a test sees the processes and files of a build.
    worker = Worker(platform, pipeline_with(platform, await make_process()))
    task = asyncio.create_task(worker.run())
    yield worker
    worker.stop()
    await task


async def upload(platform: Platform, project: Project, files: Mapping[str, bytes]) -> list[SourceFile]:
    listed = []
    for path, data in files.items():
        sha256 = hashlib.sha256(data).hexdigest()
        await store_blob(platform, project.id, sha256, len(data), data)
        listed.append(SourceFile(path, sha256, len(data)))
    return listed


async def finish(platform: Platform, deployment: Deployment) -> Deployment:
    async with asyncio.timeout(30):
        while True:
            found = await records.fetch_deployment_by_id(platform.db, deployment.id)
            assert found is not None
            if found.state in FINAL:
                return found
            await asyncio.sleep(0.02)


async def make_project(platform: Platform, name: str = "shop", git_url: str | None = None) -> tuple[Actor, Project]:
    owner = await ensure_owner(platform.db)
    actor = Actor(owner.user.id, owner.team.id, "owner")
    return actor, await create_project(platform, actor, name, git_url=git_url)
