"""A project's variables inside the real worker: found by the build, and hidden in its log."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import SecretStr
from tests.build.working import finish, make_project, upload, working

from vclone_core.actions import deployments, variables
from vclone_core.actions.platform import Platform
from vclone_core.models import ProjectSettings, Source, State, Target
from vclone_core.rules.manifests import decode_manifest
from vclone_core.rules.objectkeys import blob_key, manifest_key
from vclone_core.rules.variables import NewVariable
from vclone_core.stores import buildlogs, records

pytestmark = pytest.mark.services

SECRET = "canary-90b1-in-a-build"


def keyed(platform: Platform, key: str) -> Platform:
    settings = platform.settings.model_copy(update={"secret_key": SecretStr(key * 40)})
    return replace(platform, settings=settings)


async def read(platform: Platform, key: str) -> bytes:
    async with platform.objects.open(key) as body:
        return b"".join([chunk async for chunk in body.chunks])


async def test_build_that_prints_a_variable(platform: Platform) -> None:
    platform = keyed(platform, "k")
    actor, project = await make_project(platform)
    asked = [
        NewVariable("API_KEY", SECRET, ("preview",), is_sensitive=True),
        NewVariable("API_KEY", "of production", ("production",)),
        NewVariable("OTHER", "another value", ("preview",)),
        NewVariable("RUN_ONLY", "x", ("preview",), is_build=False),
    ]
    await variables.save_variables(platform, actor, project, asked)
    command = 'echo "key $API_KEY"; set -a; . ./.env; printf "%s/%s" "$API_KEY" "$IN_FILE$RUN_ONLY" > out.txt'
    settings = ProjectSettings(framework="static", build_command=command, output_directory=".")
    project = replace(project, settings=settings)
    await platform.db.fetch_one(
        "update_project", project.id, project.team_id, None, records.settings_row(settings), False
    )
    async with working(platform):
        files = await upload(platform, project, {"index.html": b"x", ".env": b"IN_FILE=in-the-file\n"})
        wanted = await deployments.request_deployment(
            platform, actor, project, Source("upload"), files=files, target=Target.PREVIEW
        )
        done = await finish(platform, wanted)
    assert (done.state, done.failure) == (State.READY, None)
    manifest = decode_manifest(await read(platform, manifest_key(project.id, done.id)))
    assert (
        await read(platform, blob_key(project.id, manifest.files["/out.txt"].sha256))
        == f"{SECRET}/in-the-file".encode()
    )
    said = "\n".join(line.text for line in await buildlogs.read(platform.db, done.id))
    assert "key ***" in said
    assert SECRET not in said
    assert "Variables of the project: API_KEY, OTHER" in said


async def test_build_whose_variables_do_not_open_fails_and_says_why(platform: Platform) -> None:
    platform = keyed(platform, "k")
    actor, project = await make_project(platform)
    await variables.save_variables(platform, actor, project, [NewVariable("A", "1")])
    other = keyed(platform, "o")
    async with working(other):
        files = await upload(platform, project, {"index.html": b"x"})
        wanted = await deployments.request_deployment(platform, actor, project, Source("upload"), files=files)
        done = await finish(platform, wanted)
    assert done.state is State.FAILED
    assert done.failure is not None
    assert done.failure.code == "variables_unreadable"
    assert "vclone keys ls" in done.failure.advice
