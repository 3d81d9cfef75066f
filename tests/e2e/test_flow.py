"""What decides whether and what is built, by the commands that people use: settings, hooks, archives, a monorepo."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.whole_platform import WholePlatform, WriteSite, find_url
from tests.git_server import GitServer


def call(url: str) -> tuple[int, Any]:
    request = urllib.request.Request(url, data=b"{}", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_hook_deploys_what_was_pushed_since(platform: WholePlatform, git: GitServer) -> None:
    git.commit("diary", {"index.html": "Monday"})
    live = platform.ask("deploy", git.address("diary"))
    assert "Monday" in platform.fetch(live["production_url"] + "/").text
    made = platform.run("hooks", "create", "cms", "--project", "diary")
    assert made.code == 0, made.err
    url = find_url(made.out)
    git.commit("diary", {"index.html": "Tuesday"}, message="[skip ci]")
    status, called = call(url)
    assert (status, called["project"]) == (201, "diary")
    done = platform.run("logs", "-f", called["id"])
    assert done.code == 0, done.err
    assert "Tuesday" in platform.fetch(live["production_url"] + "/").text
    shown = platform.ask("inspect", called["id"])
    assert (shown["trigger"], shown["state"], shown["source"]["ref"]) == ("hook", "ready", "main")
    (hook,) = platform.ask("hooks", "ls", "--project", "diary")["items"]
    assert hook["last_used_at"] is not None
    assert platform.run("hooks", "rm", hook["id"], "--project", "diary").code == 0
    assert call(url)[0] == 404
    assert url.rpartition("/")[2] not in platform.all_logs()


def test_settings_are_shown_and_set(platform: WholePlatform, site: WriteSite) -> None:
    platform.ask("deploy", str(site("desk", {"index.html": "desk"})))
    changed = platform.ask(
        "project",
        "set",
        "--project",
        "desk",
        "watch_paths=desk, !**/*.md",
        "ignore_command=exit 1",
        "skip_unaffected=no",
    )
    assert changed["settings"]["watch_paths"] == ["desk", "!**/*.md"]
    assert platform.ask("project", "show", "desk") == changed
    back = platform.ask("project", "set", "--project", "desk", "watch_paths=", "ignore_command=")
    assert (back["settings"]["watch_paths"], back["settings"]["ignore_command"]) == ([], None)
    refused = platform.run("project", "set", "--project", "desk", "colour=red")
    assert (refused.code, "colour" in refused.err) == (2, True)
    assert platform.run("project", "set", "--project", "desk", "watch_paths=/desk").code == 2


@pytest.mark.parametrize("form", ["gztar", "zip"])
def test_an_archive_goes_live(platform: WholePlatform, site: WriteSite, tmp_path: Path, form: str) -> None:
    folder = site("pack", {"pages/index.html": f"packed as {form}", "pages/app.css": "h1 {}"})
    archive = shutil.make_archive(str(tmp_path / f"kit-{form}"), form, root_dir=folder)
    done = platform.ask("deploy", archive)
    assert (done["project"], done["state"]) == (f"kit-{form}", "ready")
    assert f"packed as {form}" in platform.fetch(done["url"] + "/").text
    again = platform.ask("deploy", "--prebuilt", archive)
    assert (again["sent_files"], f"packed as {form}" in platform.fetch(again["url"] + "/").text) == (0, True)
    Path(archive).write_bytes(Path(archive).read_bytes()[:200])
    broken = platform.run("deploy", archive)
    assert (broken.code, "archive" in broken.err) == (24, True)


def test_a_package_of_a_workspace_is_built_from_its_own_folder(platform: WholePlatform, site: WriteSite) -> None:
    package = {"name": "web", "scripts": {"build": "node build.js"}, "dependencies": {"words": "1.0.0"}}
    build = "const fs = require('fs'); fs.mkdirSync('dist'); fs.writeFileSync('dist/index.html', require('words'));"
    folder = site(
        "orchard",
        {
            "package.json": json.dumps({"private": True, "workspaces": ["apps/*", "packages/*"]}),
            "apps/web/package.json": json.dumps(package),
            "apps/web/build.js": build,
            "apps/web/vercel.json": json.dumps({"outputDirectory": "dist"}),
            "packages/words/package.json": json.dumps({"name": "words", "version": "1.0.0", "main": "index.js"}),
            "packages/words/index.js": "module.exports = 'words of another package'",
            "netlify.toml": '[build]\nbase = "apps/web"\n[[redirects]]\nfrom = "/old"\nto = "/"\n',
        },
    )
    plan = platform.ask("detect", str(folder / "apps/web"))
    # The folder is no checkout, so that nothing says where it ends.
    assert plan["install_directory"] == "."
    done = platform.ask("deploy", str(folder))
    assert done["state"] == "ready", done["failure"]
    assert "words of another package" in platform.fetch(done["url"] + "/").text
    moved = platform.fetch(done["url"] + "/old")
    assert (moved.status, moved.headers["location"]) == (301, "/")
    log = platform.run("logs", done["deployment_id"]).out + platform.run("logs", done["deployment_id"]).err
    assert "install directory: ../.., the workspace's root" in log
    assert "output directory: vercel.json" in log
