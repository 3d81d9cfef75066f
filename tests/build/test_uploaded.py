"""An upload that nothing is built of is never copied, and gives the same deployment as one whose files lie on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.build.conftest import Place
from tests.git_server import GitServer

from vclone_core.build.pipeline import run_build
from vclone_core.build.steps import optimise
from vclone_core.errors import CloneFailed, OutputRefused
from vclone_core.models import BuildLimits, ProjectSettings, Source
from vclone_core.rules.objectkeys import blob_key

UPLOAD = Source("upload")
PREBUILT = Source("prebuilt")
PAGE = "<!doctype html>" + "<p>hello</p>" * 500

SITES: Mapping[str, tuple[dict[str, str], ProjectSettings]] = {
    "plain": (
        {
            "index.html": PAGE, "a/b/c.css": "b{}" * 900, ".well-known/x": "x", ".env": "S=1", "a/.npmrc": "t",
            "node_modules/a/b.js": "x", "vercel.json": "{}", "app.1a2b3c4d.js": "1", "deep/1/2/3/4/5/6/7.html": PAGE,
        },
        ProjectSettings(),
    ),
    "rules": (
        {"index.html": PAGE, "_redirects": "/old /new", "_headers": "/*\n  x-a: b", "sub/_redirects": "x",
         "vercel.json": '{"cleanUrls": true, "redirects": [{"source": "/x", "destination": "/y"}]}', "about.html": "a"},
        ProjectSettings(),
    ),
    "public": ({"public/index.html": PAGE, "public/a.js": "1", "readme.md": "no"}, ProjectSettings()),
    "root": (
        {"web/index.html": PAGE, "web/vercel.json": '{"trailingSlash": true}', "api.md": "x", "web/a/b.svg": "<svg/>"},
        ProjectSettings(root_directory="web"),
    ),
    "output": ({"site/index.html": PAGE, "b.txt": "no"}, ProjectSettings(output_directory="site")),
    "framework without commands": (
        {"package.json": '{"devDependencies": {"vite": "5"}}', "public/a.txt": "1", "dist/a.txt": "1", "dist/b": PAGE},
        ProjectSettings(build_command="", install_command=""),
    ),
}  # fmt: skip


def placed(place: Place) -> set[str]:
    """Return the files that the last build's workspace holds."""
    source = place.folder / f"work/dep_{place.number:020}/source"
    return {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}


@pytest.mark.parametrize("site", SITES)
async def test_the_same_files_from_git_and_by_upload_make_the_same_deployment(
    place: Place, git: GitServer, site: str
) -> None:
    files, settings = SITES[site]
    git.commit("site", files)
    cloned = await place.deploy(Source("git", url=git.address("site")), settings=settings)
    place.previous = None
    uploaded = await place.deploy(UPLOAD, files=files, settings=settings)
    assert uploaded.files == cloned.files
    assert uploaded.routes == cloned.routes
    assert uploaded.framework == cloned.framework


@pytest.mark.parametrize(
    ("source", "files", "settings", "expected"),
    [
        (
            UPLOAD,
            ["index.html", "a/b.css", "vercel.json", "a/_headers"],
            {},
            {"index.html", "vercel.json", "a/_headers"},
        ),
        (PREBUILT, ["page.html", "a/b.css"], {}, set()),
        (PREBUILT, ["config.json", "static/page.html"], {}, {"config.json", "static/page.html"}),
        (UPLOAD, ["a.txt", "b/c.txt"], {"build_command": "true", "output_directory": "."}, {"a.txt", "b/c.txt"}),
    ],
    ids=["served as it is", "prebuilt", "ready output", "built"],
)
async def test_only_what_is_read_is_copied(
    place: Place, source: Source, files: list[str], settings: dict[str, str], expected: set[str]
) -> None:
    contents = {path: '{"version": 3}' if path.endswith(".json") else f"text of {path}" for path in files}
    contents |= dict.fromkeys([path for path in files if path == "vercel.json"], "{}")
    await place.deploy(source, files=contents, settings=ProjectSettings(**settings))
    assert placed(place) == expected


async def test_a_command_finds_every_file_as_it_was_sent(place: Place) -> None:
    await place.store_files("dep_00000000000000000001", {"make.sh": "#!/bin/sh\nmkdir dist; cat a/*.txt >dist/all.txt"},
                            is_executable=True)  # fmt: skip
    script = place.listed["dep_00000000000000000001"]
    await place.store_files("dep_00000000000000000001", {f"a/{n:03}.txt": f"{n}\n" for n in range(100)})
    place.listed["dep_00000000000000000001"] += script
    settings = ProjectSettings(framework="static", build_command="./make.sh", output_directory="dist")
    manifest = await place.deploy(UPLOAD, settings=settings)
    assert await place.read(manifest.files["/all.txt"].sha256) == "".join(f"{n}\n" for n in range(100)).encode()


async def test_an_unchanged_deployment_reads_and_writes_no_blob(place: Place) -> None:
    first = await place.deploy(UPLOAD, files={f"{n}.html": f"{PAGE}{n}" for n in range(50)})
    listed = place.listed["dep_00000000000000000002"] = place.listed["dep_00000000000000000001"]
    # Gone behind the platform's back: whoever reads one fails, and whoever writes one is found out.
    await place.objects.delete([blob_key("prj_x", file.sha256) for file in listed])
    second = await run_build(place.make_build("dep_00000000000000000002", UPLOAD, None, BuildLimits(), {}, True))
    assert second.files == first.files
    assert await place.objects.head(blob_key("prj_x", listed[0].sha256)) is None


@pytest.mark.parametrize("kind", ["unknown", "another size"])
async def test_a_list_that_the_store_contradicts_is_refused(place: Place, kind: str) -> None:
    await place.store_files("dep_00000000000000000001", {"index.html": PAGE, "a.html": PAGE + "a"})
    sha256 = place.listed["dep_00000000000000000001"][1].sha256
    if kind == "unknown":
        del place.blobs.known[sha256]
    else:
        place.blobs.known[sha256] += 1
    with pytest.raises(CloneFailed, match=r"a\.html"):
        await place.deploy(UPLOAD)


async def test_bytes_that_vanished_from_the_store_fail_the_build(place: Place) -> None:
    await place.store_files("dep_00000000000000000001", {"index.html": PAGE})
    await place.objects.delete([blob_key("prj_x", place.listed["dep_00000000000000000001"][0].sha256)])
    with pytest.raises((CloneFailed, OutputRefused), match=r"index\.html are gone"):
        await place.deploy(UPLOAD)


async def test_many_files_are_held_in_bounded_memory(place: Place) -> None:
    """What is compressed beyond a limit lies in the workspace until it is stored."""
    shelf = optimise._Shelf(place.folder / "variants")
    body = bytes(optimise.SHELF_BYTES // 2)
    kept = await asyncio.gather(*(asyncio.to_thread(shelf.keep, str(n), body) for n in range(4)))
    assert sorted(isinstance(one, Path) for one in kept) == [False, False, True, True]
    assert all(one.read_bytes() == body for one in kept if isinstance(one, Path))
