"""Caches over whole builds: what the second one finds, who may find it, and that nothing of it can fail a build."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.build.conftest import Place
from tests.git_server import GitServer

from vclone_core.build import caches
from vclone_core.errors import BuildFailed
from vclone_core.models import ProjectSettings, Source, Target

UPLOAD = Source("upload")
PACKAGE = {"name": "app", "version": "1.0.0", "dependencies": {"lib": "file:./lib"}}
LOCK = {
    "name": "app", "version": "1.0.0", "lockfileVersion": 3, "requires": True,
    "packages": {
        "": {"name": "app", "version": "1.0.0", "dependencies": {"lib": "file:./lib"}},
        "lib": {"version": "1.0.0"},
        "node_modules/lib": {"resolved": "lib", "link": True},
    },
}  # fmt: skip
# Says what it found of its last build, and leaves something for the next one.
MAKE = """mkdir -p dist node_modules/.vite
cat node_modules/.vite/count 2>/dev/null
ls -d node_modules/lib && echo "again" >> node_modules/.vite/count
echo x > dist/index.html
"""
FILES = {
    "package.json": json.dumps(PACKAGE),
    "package-lock.json": json.dumps(LOCK),
    "lib/package.json": '{"name": "lib", "version": "1.0.0"}',
    "make.sh": MAKE,
}
VITE = ProjectSettings(framework="vite", build_command="sh make.sh")


def said(place: Place) -> list[str]:
    return [line.text for line in place.lines.lines if line.text.startswith("Caches: ")]


def command_of(place: Place) -> str:
    return next(line.text for line in place.lines.lines if line.step == "install" and line.text.startswith("$ "))


async def stored(place: Place) -> list[str]:
    return [one.key async for one in place.objects.list("prj_x/cache/")]


async def test_a_second_build_finds_packages_and_the_framework_s_cache(place: Place) -> None:
    await place.deploy(UPLOAD, files=FILES, settings=VITE)
    assert command_of(place) == "$ npm ci --no-audit --no-fund"
    assert [text.split(",")[0] for text in said(place)] == [
        "Caches: modules stored", "Caches: packages stored", "Caches: framework stored",
    ]  # fmt: skip
    assert {"cache_restore", "cache_store"} < set(place.lines.step_seconds)
    await place.deploy(UPLOAD, files=FILES, settings=VITE)
    assert command_of(place) == "$ npm install --no-audit --no-fund --prefer-offline"
    assert "build stdout: again" in place.lines.text
    assert [text.partition(" (")[0].split(",")[0] for text in said(place)] == [
        "Caches: modules restored", "Caches: framework restored", "Caches: framework stored",
    ]  # fmt: skip
    # A changed lockfile: installed anew, from the package manager's own store; the framework's cache stays of use.
    changed = {**FILES, "package-lock.json": json.dumps({**LOCK, "version": "1.0.1"})}
    await place.deploy(UPLOAD, files=changed, settings=VITE)
    assert command_of(place) == "$ npm ci --no-audit --no-fund"
    assert place.lines.text.count("build stdout: again") == 2
    assert any(text.startswith("Caches: packages restored (an earlier one's)") for text in said(place))


async def test_production_and_previews_share_no_cache(place: Place) -> None:
    for target, found in ((Target.PREVIEW, 0), (Target.PRODUCTION, 0), (Target.PREVIEW, 1)):
        place.target = target
        await place.deploy(UPLOAD, files=FILES, settings=VITE)
        assert place.lines.text.count("build stdout: again") == found
    keys = await stored(place)
    assert {key.split("/")[2] for key in keys} == {"preview", "production"}


async def test_another_repository_s_code_shares_no_cache_with_anybody(place: Place, git: GitServer) -> None:
    """A pull request from a fork neither finds what trusted builds left, nor leaves anything that they find."""
    git.commit("app", FILES)
    trusted = Source("git", url=git.address("app"), ref="main")
    eve, mallory = replace(trusted, fork="eve/app"), replace(trusted, fork="mallory/app")
    expected = (
        (trusted, Target.PRODUCTION, 0), (trusted, Target.PREVIEW, 0), (eve, Target.PREVIEW, 0),
        (mallory, Target.PREVIEW, 0), (eve, Target.PREVIEW, 1), (trusted, Target.PREVIEW, 1),
        (trusted, Target.PRODUCTION, 1), (eve, Target.PREVIEW, 2), (trusted, Target.PREVIEW, 2),
    )  # fmt: skip
    for source, target, found in expected:
        place.target = target
        await place.deploy(source, settings=VITE)
        assert place.lines.text.count("build stdout: again") == found, (source.fork, target)
    trusts = {key.split("/")[2] for key in await stored(place)}
    assert len(trusts) == 4 and {"preview", "production"} < trusts
    assert not any("eve" in trust for trust in trusts)


async def test_a_build_may_start_without_caches_and_leaves_new_ones(place: Place) -> None:
    await place.deploy(UPLOAD, files=FILES, settings=VITE)
    await place.deploy(UPLOAD, files=FILES, settings=replace(VITE, build_cache=False))
    assert "build stdout: again" not in place.lines.text
    assert command_of(place) == "$ npm ci --no-audit --no-fund"
    assert "Caches: this build starts without them; what it makes is kept for later ones" in said(place)
    assert any("modules stored" in text for text in said(place))


@pytest.mark.parametrize("content", [b"no archive", b""])
async def test_a_damaged_cache_is_ignored(place: Place, content: bytes) -> None:
    await place.deploy(UPLOAD, files=FILES, settings=VITE)
    for key in await stored(place):
        await place.objects.put(key, content, size=len(content), overwrite=True)
    await place.deploy(UPLOAD, files=FILES, settings=VITE)
    assert len([text for text in said(place) if "ignored: it is damaged" in text]) == 3
    assert command_of(place) == "$ npm ci --no-audit --no-fund"
    # What it made has taken the damaged one's place.
    await place.deploy(UPLOAD, files=FILES, settings=VITE)
    assert command_of(place).startswith("$ npm install")


async def test_a_failed_build_stores_nothing(place: Place) -> None:
    with pytest.raises(BuildFailed):
        await place.deploy(UPLOAD, files=FILES, settings=replace(VITE, build_command="exit 3"))
    assert await stored(place) == []


async def test_restored_packages_that_do_not_fit_are_installed_anew(place: Place) -> None:
    # The second install fails once, over the restored packages.
    script = "[ ! -e node_modules/.package-lock.json ] || [ ! -e mark ] || { rm mark; exit 1; }"
    files = {**FILES, "package.json": json.dumps({**PACKAGE, "scripts": {"preinstall": script}})}
    await place.deploy(UPLOAD, files=files, settings=VITE)
    await place.deploy(UPLOAD, files={**files, "mark": ""}, settings=VITE)
    assert "Caches: the restored packages did not fit; they are installed anew" in said(place)
    assert "install platform: $ npm ci --no-audit --no-fund" in place.lines.text


async def test_a_cache_is_laid_out_through_no_link(place: Place, tmp_path: Path) -> None:
    """A build whose cache folder is a link to the host neither fills that folder nor keeps what lies in it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    evil = f"{MAKE}rm -rf node_modules/.vite node_modules; ln -s {outside} node_modules\n"
    await place.deploy(UPLOAD, files={**FILES, "make.sh": evil}, settings=VITE)
    assert not any("modules" in key or "framework" in key for key in await stored(place))
    await place.deploy(UPLOAD, files=FILES, settings=VITE)
    link = {
        **FILES,
        "make.sh": f"rm -rf dist\n{MAKE}",
        "prepare.sh": f"rm -rf node_modules; ln -s {outside} node_modules",
    }
    await place.deploy(
        UPLOAD,
        files=link,
        settings=replace(VITE, install_command="sh prepare.sh", build_command="mkdir dist; echo > dist/a"),
    )
    assert [path.name for path in outside.iterdir()] == ["secret"]


async def test_a_project_keeps_no_more_than_its_share(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        caches, "list_removable", lambda found, now_s: [one.key for one in found if "modules" in one.key]
    )
    await place.deploy(UPLOAD, files=FILES, settings=VITE)
    assert {key.split("/")[3] for key in await stored(place)} == {"packages", "framework"}


async def test_a_plain_folder_has_no_caches(place: Place) -> None:
    await place.deploy(UPLOAD, files={"index.html": "x"})
    assert said(place) == []
    assert await stored(place) == []
    assert "cache_store" not in place.lines.step_seconds
