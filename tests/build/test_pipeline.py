"""Whole builds, from a source to a stored manifest: what they make, and every way in which one can fail."""

from __future__ import annotations

import asyncio
import errno
import gzip
import hashlib
import random
import time
from pathlib import Path
from typing import Any

import brotli
import pluggy
import pytest
from tests.build.conftest import PLUGINS, Place
from tests.git_server import GitServer

from vclone_core import hookspecs
from vclone_core.build.pipeline import run_build
from vclone_core.errors import (
    BuildFailed,
    BuildTimeout,
    CloneFailed,
    DetectFailed,
    DiskFull,
    InstallFailed,
    MissingScript,
    NotServed,
    OutOfMemory,
    OutputMissing,
    OutputRefused,
    StaleAttempt,
    StepFailed,
    UploadFailed,
)
from vclone_core.hookspecs import hookimpl
from vclone_core.models import BuildLimits, FileEntry, ProjectSettings, Route, Source
from vclone_core.plugins import Plugins
from vclone_core.rules.objectkeys import blob_key

UPLOAD = Source("upload")
PREBUILT = Source("prebuilt")
TEXT = "<!doctype html>" + "<p>hello</p>" * 500
BUILT = ProjectSettings(framework="static", build_command="sh make.sh", output_directory="dist")


async def test_uploaded_folder_becomes_a_manifest(place: Place) -> None:
    manifest = await place.deploy(
        UPLOAD,
        files={"index.html": TEXT, "docs/404.html": "lost", "app.1a2b3c4d.js": "1", ".env": "SECRET=1", "a.png": b"x"},
    )
    assert set(manifest.files) == {"/index.html", "/docs/404.html", "/app.1a2b3c4d.js", "/a.png"}
    page = manifest.files["/index.html"]
    assert page.type == "text/html; charset=utf-8"
    assert brotli.decompress(await place.read_variant(page.variants["br"])).decode() == TEXT
    assert gzip.decompress(await place.read_variant(page.variants["gzip"])).decode() == TEXT
    assert manifest.files["/app.1a2b3c4d.js"].immutable
    assert not page.immutable
    assert manifest.framework == "static"
    assert [route.dest for route in manifest.routes if route.status == 404] == ["/docs/404.html"]


async def test_log_has_every_step_with_its_seconds(place: Place) -> None:
    await place.deploy(UPLOAD, files={"index.html": "x"})
    steps = ["clone", "detect", "install", "build", "collect", "optimise", "upload"]
    assert [line.step for line in place.lines.lines if line.text.startswith(f"{line.step}: ")] == steps
    assert place.lines.steps == [*steps, "publish"]
    assert list(place.lines.step_seconds) == steps
    assert place.lines.frameworks == ["static"]


async def test_plain_folder_is_served_without_what_belongs_to_its_sources(place: Place) -> None:
    names = ["index.html", ".well-known/x", ".git/config", "node_modules/a/b.js", ".env.local", "yarn.lock", "a/.env"]
    manifest = await place.deploy(UPLOAD, files=dict.fromkeys(names, "x"))
    assert set(manifest.files) == {"/index.html", "/.well-known/x"}


async def test_prebuilt_output_is_served_as_it_is(place: Place) -> None:
    manifest = await place.deploy(PREBUILT, files={"index.html": "x", "package.json": "{", "node_modules/a.js": "y"})
    assert set(manifest.files) == {"/index.html", "/package.json", "/node_modules/a.js"}
    assert manifest.framework is None


async def test_second_deployment_stores_only_what_changed(place: Place) -> None:
    files = {f"page-{number}.html": f"{TEXT}{number}" for number in range(20)}
    first = await place.deploy(UPLOAD, files=files)
    place.blobs.noted.clear()
    second = await place.deploy(UPLOAD, files=files | {"page-3.html": f"{TEXT}new"})
    assert {sha256 for sha256, _ in place.blobs.noted} == {
        variant.object_sha256 for variant in second.files["/page-3.html"].variants.values()
    }
    assert len(place.blobs.noted) == 1
    assert second.files["/page-4.html"] == first.files["/page-4.html"]
    assert "1 files compressed, 19 known" in place.lines.text


async def test_small_variants_share_a_blob_and_large_ones_have_their_own(place: Place) -> None:
    generator = random.Random(5)
    long = " ".join(f"{generator.randrange(10**9):x}" for _ in range(60_000))
    manifest = await place.deploy(UPLOAD, files={"a.html": TEXT, "b.html": TEXT + "b", "c.html": TEXT, "d.txt": long})
    small = [variant for name in "abc" for variant in manifest.files[f"/{name}.html"].variants.values()]
    packs = {variant.object_sha256 for variant in small}
    assert len(packs) == 1
    assert {(v.sha256, v.pack and v.pack.start) for v in small} == {
        (v.sha256, v.pack and v.pack.start) for v in small[:4]
    }
    for variant in manifest.files["/d.txt"].variants.values():
        assert variant.pack is None
    for entry in manifest.files.values():
        body = await place.read(entry.sha256)
        assert brotli.decompress(await place.read_variant(entry.variants["br"])) == body
        assert gzip.decompress(await place.read_variant(entry.variants["gzip"])) == body


async def test_variants_that_were_collected_are_made_anew(place: Place) -> None:
    first = await place.deploy(UPLOAD, files={"index.html": TEXT})
    variant = first.files["/index.html"].variants["br"]
    gone = variant.object_sha256
    del place.blobs.known[gone]
    await place.objects.delete([blob_key("prj_x", gone)])
    second = await place.deploy(UPLOAD, files={"index.html": TEXT})
    assert second.files == first.files
    assert brotli.decompress(await place.read_variant(variant)).decode() == TEXT


async def test_assets_of_earlier_builds_are_carried_while_their_bytes_are_stored(place: Place) -> None:
    """B11."""
    names = ["app.11111a11.js", "app.22222b22.js", "app.33333c33.js"]
    built = [await place.deploy(PREBUILT, files={"index.html": TEXT + name, name: TEXT + name}) for name in names]
    assert [sorted(manifest.earlier) for manifest in built] == [[], ["/" + names[0]], ["/" + names[0], "/" + names[1]]]
    assert built[2].earlier["/" + names[0]].entry == built[0].files["/" + names[0]]
    del place.blobs.known[built[1].files["/" + names[1]].variants["br"].object_sha256]
    again = await place.deploy(PREBUILT, files={"index.html": TEXT, names[0]: TEXT + names[0]})
    assert sorted(again.earlier) == ["/" + names[2]]


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../../x", "a//b", "a\0b", "", "a" * 1100, "/".join("a" * 40), "."]
)
async def test_uploaded_path_never_leaves_the_folder(place: Place, path: str) -> None:
    with pytest.raises(CloneFailed):
        await place.deploy(UPLOAD, files={"index.html": "x", path: "y"})


async def test_uploaded_file_that_is_also_a_folder_is_refused(place: Place) -> None:
    with pytest.raises(CloneFailed, match="a file and a folder"):
        await place.deploy(UPLOAD, files={"a": "x", "a/b": "y"})


async def test_upload_whose_bytes_are_missing_or_short_fails(place: Place) -> None:
    await place.store_files("dep_00000000000000000001", {"a": "x"}, sha256="0" * 64)
    with pytest.raises(CloneFailed, match="never uploaded"):
        await place.deploy(UPLOAD)
    await place.store_files("dep_00000000000000000002", {"a": "x"}, size=5)
    with pytest.raises(CloneFailed, match="1 bytes"):
        await place.deploy(UPLOAD)
    with pytest.raises(CloneFailed, match="gone"):
        await place.deploy(UPLOAD)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (BuildLimits(output_files=2), "more than 2 files"),
        (BuildLimits(output_file_bytes=2000), "index.html has 5.9 KiB"),
        (BuildLimits(output_bytes=7000), "more than 6.8 KiB in all"),
    ],
)
async def test_limit_that_is_broken_is_named(place: Place, limits: BuildLimits, words: str) -> None:
    with pytest.raises(OutputRefused) as caught:
        await place.deploy(UPLOAD, files={"index.html": TEXT, "b": "x" * 1900, "c": "z"}, limits=limits)
    assert words in caught.value.sentence
    assert caught.value.advice


async def build_with(place: Place, script: str, files: dict[str, str] | None = None, **changes: Any) -> Any:
    return await place.deploy(
        UPLOAD, files={"make.sh": script, **(files or {})}, settings=changes.pop("settings", BUILT), **changes
    )


async def test_build_command_makes_the_output(place: Place) -> None:
    manifest = await build_with(place, "echo building; mkdir dist; echo hi > dist/index.html")
    assert set(manifest.files) == {"/index.html"}
    assert "build stdout: building" in place.lines.text
    assert "build platform: $ sh make.sh" in place.lines.text


async def test_build_environment(place: Place) -> None:
    await build_with(place, "mkdir dist; env > dist/env.txt", environment={"API_KEY": "k", "VCLONE_ENV": "own"})
    assert place.previous is not None
    said = (await place.read(place.previous.files["/env.txt"].sha256)).decode().splitlines()
    for line in (
        "CI=1",
        "VCLONE=1",
        "VCLONE_ENV=own",
        "API_KEY=k",
        "VCLONE_URL=http://0000000001-shop.example.org:8080",
    ):
        assert line in said
    assert not any(line.startswith(("VERCEL", "VCLONE_DATA", "VCLONE_TEST")) for line in said)


async def test_programs_of_node_modules_are_found_also_those_of_the_repository(place: Place) -> None:
    files = {
        "packages/site/package.json": '{"devDependencies": {"vite": "6"}}',
        "node_modules/.bin/vite": '#!/bin/sh\nmkdir dist; echo "$@" > dist/index.html\n',
    }
    await place.store_files("dep_00000000000000000001", files, is_executable=True)
    settings = ProjectSettings(root_directory="packages/site", install_command="")
    manifest = await place.deploy(UPLOAD, settings=settings)
    assert (manifest.framework, await place.read(manifest.files["/index.html"].sha256)) == ("vite", b"build\n")


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        ("echo no >&2; exit 3", BuildFailed, "exit code 3"),
        ("no-such-program", BuildFailed, "exit code 127"),
        ("kill -TERM $$", BuildFailed, "signal 15"),
        ("exit 137", OutOfMemory, "memory"),
        ("echo 'FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory'; exit 134",
         OutOfMemory, "memory"),
        ("true", OutputMissing, "no output folder `dist`"),
        ("echo x > dist", OutputMissing, "dist"),
        ("mkdir dist", OutputRefused, "no files"),
        ("ln -s /etc dist", OutputMissing, "dist"),
        ("mkdir dist; ln -s /etc/passwd dist/x", OutputRefused, "x is a link to /etc/passwd"),
        ("mkdir dist; ln -s ../make.sh dist/x", OutputRefused, "outside"),
        ("mkdir dist; ln -s /etc dist/x", OutputRefused, "outside"),
        ("mkdir dist; ln -s none dist/x", OutputRefused, "does not exist"),
        ("mkdir dist; ln -s . dist/x", OutputRefused, "holds it"),
        ("mkdir dist; echo > dist/.env; ln -s .env dist/x", OutputRefused, "never deployed"),
        ("mkdir dist; mkfifo dist/x", OutputRefused, "neither a file nor a folder"),
        ("mkdir -p .vercel/output; ln -s / .vercel/output/static; echo '{\"version\":3}' > .vercel/output/config.json",
         OutputRefused, "link"),
        ("mkdir -p dist/a dist/b; ln -s ../b dist/a/l; ln -s ../a dist/b/l; echo > dist/x", OutputRefused, "deep"),
    ],
)  # fmt: skip
async def test_failing_build(place: Place, script: str, error: type[StepFailed], words: str) -> None:
    with pytest.raises(error) as caught:
        await build_with(place, script)
    assert words in caught.value.sentence
    assert caught.value.advice
    assert place.blobs.noted == []


async def test_missing_output_lists_the_folders_there_are(place: Place) -> None:
    with pytest.raises(OutputMissing) as caught:
        await build_with(place, "mkdir out site .cache; echo > out/index.html")
    assert "out, site" in caught.value.advice
    assert ".cache" not in caught.value.advice


async def test_links_within_the_output_are_followed(place: Place) -> None:
    manifest = await build_with(
        place,
        "mkdir -p dist/v1; echo one > dist/v1/index.html; cd dist; ln -s v1 latest; ln -s v1/index.html index.html",
    )
    assert set(manifest.files) == {"/index.html", "/latest/index.html", "/v1/index.html"}
    assert len({entry.sha256 for entry in manifest.files.values()}) == 1


async def test_build_that_takes_too_long_is_ended(place: Place) -> None:
    started = time.monotonic()
    with pytest.raises(BuildTimeout, match="1 seconds"):
        await build_with(place, "echo started; sleep 30", limits=BuildLimits(wall_clock_s=1.0))
    assert time.monotonic() - started < 8
    assert "started" in place.lines.text


def count_processes(argument: str) -> int:
    """Count the processes of this machine with that argument; their numbers are others in a sandbox."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += argument.encode() in path.read_bytes().split(b"\0")
        except OSError:
            continue
    return found


async def test_cancelled_build_leaves_no_process_and_keeps_its_log(place: Place) -> None:
    task = asyncio.create_task(build_with(place, "echo started; sleep 30.4711"))
    while not count_processes("30.4711"):
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert count_processes("30.4711") == 0
    assert "started" in place.lines.text


async def test_failing_install_has_its_command(place: Place) -> None:
    settings = ProjectSettings(framework="static", install_command="exit 5", build_command="true")
    with pytest.raises(InstallFailed, match="exit code 5"):
        await build_with(place, "", settings=settings)


async def test_missing_script_fails_before_the_install(place: Place) -> None:
    with pytest.raises(MissingScript):
        await place.deploy(UPLOAD, files={"package.json": '{"dependencies": {"left-pad": "1"}}'})
    assert "install" not in {line.step for line in place.lines.lines}


async def test_a_server_is_refused_before_anything_of_it_runs(place: Place) -> None:
    files = {"package.json": '{"dependencies": {"koa": "3"}}', "app.js": "require('koa')", "public/a.html": "x"}
    with pytest.raises(NotServed, match="Koa needs a server"):
        await place.deploy(UPLOAD, files=files)
    assert "install" not in {line.step for line in place.lines.lines}
    chosen = ProjectSettings(install_command="", output_directory="public")
    manifest = await place.deploy(UPLOAD, files=files, settings=chosen)
    assert set(manifest.files) == {"/a.html"}


async def test_nextjs_without_export_is_told_what_to_set(place: Place) -> None:
    files = {"package.json": '{"dependencies": {"next": "15"}}'}
    settings = ProjectSettings(install_command="", build_command="mkdir .next")
    with pytest.raises(OutputMissing) as caught:
        await place.deploy(UPLOAD, files=files, settings=settings)
    assert "output: 'export'" in caught.value.advice


@pytest.mark.parametrize("root", ["none", "../x", "link", "a/../.."])
async def test_bad_root_directory_is_refused(place: Place, git: GitServer, root: str) -> None:
    git.commit("site", {"index.html": "x"})
    tree = git.root / ".site-tree"
    (tree / "link").symlink_to("/etc")
    env = {"GIT_DIR": str(git.root / "site.git"), "GIT_WORK_TREE": str(tree), "GIT_INDEX_FILE": f"{tree}.index"}
    git.commit_tree("site", tree, env=env, branch="main", message="link")
    with pytest.raises(DetectFailed):
        await place.deploy(Source("git", url=git.address("site")), settings=ProjectSettings(root_directory=root))


async def test_committed_link_to_the_host_is_refused(place: Place, git: GitServer) -> None:
    git.commit("site", {"index.html": "x"})
    tree = git.root / ".site-tree"
    (tree / "passwd.html").symlink_to("/etc/passwd")
    env = {"GIT_DIR": str(git.root / "site.git"), "GIT_WORK_TREE": str(tree), "GIT_INDEX_FILE": f"{tree}.index"}
    git.commit_tree("site", tree, env=env, branch="main", message="link")
    with pytest.raises(OutputRefused, match="link"):
        await place.deploy(Source("git", url=git.address("site")))


async def test_file_that_changes_under_the_upload_is_not_stored(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    real = place.blobs.missing
    source = place.folder / "work/dep_00000000000000000001/source"

    async def swap(hashes: list[str]) -> list[str]:
        (source / "dist/index.html").write_text("swapped")
        return list(await real(hashes))

    place.blobs.missing = swap
    with pytest.raises(UploadFailed, match=r"index\.html changed"):
        await build_with(place, "mkdir dist; echo hi > dist/index.html")
    stored = [info.key async for info in place.objects.list("prj_x/blobs/")]
    assert blob_key("prj_x", hashlib.sha256(b"swapped").hexdigest()) not in stored


async def test_lost_lease_ends_the_build_at_its_next_line(place: Place) -> None:
    class LostLines:
        async def append(self, lines: object) -> None:
            raise StaleAttempt()

        async def record_step(self, **facts: object) -> None:
            pass

        async def record_findings(self, **facts: object) -> None:
            pass

    build_id = "dep_00000000000000000001"
    await place.store_files(build_id, {"index.html": "x", "make.sh": "while true; do echo x; sleep 0.01; done"})
    build = place.make_build(build_id, UPLOAD, BUILT, BuildLimits(), {}, True)
    build.log._sink = LostLines()
    started = time.monotonic()
    with pytest.raises(StaleAttempt):
        await run_build(build)
    assert time.monotonic() - started < 5


async def test_full_disk_has_its_own_words(place: Place) -> None:
    class FullBlobs:
        async def sizes(self, hashes: object) -> dict[str, int]:
            raise OSError(errno.ENOSPC, "No space left on device")

    await place.store_files("dep_00000000000000000001", {"index.html": "x"})
    place.blobs = FullBlobs()
    with pytest.raises(DiskFull, match="free on the disk"):
        await place.deploy(UPLOAD)


class Shouting:
    """A plugin with every hook of a build."""

    @hookimpl
    def detect_framework(self, paths: frozenset[str]) -> str | None:
        return "hugo" if "hugo.marker" in paths else None

    @hookimpl
    def build_plan(self, plan: dict[str, Any]) -> dict[str, Any]:
        return {"build_command": "mkdir site; echo quiet > site/a.txt", "output_directory": "site"}

    @hookimpl
    def optimise_asset(self, path: str, entry: FileEntry, body: bytes) -> bytes | None:
        return body.upper()

    @hookimpl
    def request_rules(self) -> list[Route]:
        return [Route(src="/x", dest="/a.txt")]


async def test_plugins_are_asked_at_every_turn(place: Place) -> None:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(Shouting(), "shouting")
    for name, plugin in PLUGINS.manager.list_name_plugin():
        manager.register(plugin, name)
    place.plugins = Plugins(manager, (), PLUGINS.framework_texts)
    manifest = await place.deploy(UPLOAD, files={"hugo.marker": "", "index.html": "x"})
    assert manifest.framework == "hugo"
    assert await place.read(manifest.files["/a.txt"].sha256) == b"QUIET\n"
    assert manifest.routes[0].src == "/x"
    assert "plugin shouting says so" in place.lines.text
