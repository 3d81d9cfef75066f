"""Real inputs go live: a folder, a git repository, a finished output; then again, back, and forth."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from tests.e2e.whole_platform import WholePlatform, WriteSite, find_url
from tests.git_server import GitServer

PAGE = "<!doctype html><title>{0}</title><link rel=stylesheet href=/app.css><h1>{0}</h1>"


def test_a_folder_goes_live_and_its_second_deployment_sends_one_file(platform: WholePlatform, site: WriteSite) -> None:
    folder = site(
        "shop", {"index.html": PAGE.format("one"), "app.css": "h1 { color: teal }", "about/index.html": "About"}
    )
    first = platform.ask("deploy", str(folder))
    assert (first["project"], first["state"], first["target"]) == ("shop", "ready", "production")
    assert first["production_url"] == platform.url("shop").rstrip("/") and first["failure"] is None
    assert (first["sent_files"], first["seconds"] > 0) == (3, True)
    for url in (first["url"], first["production_url"]):
        assert "<h1>one</h1>" in platform.fetch(url + "/").text
    assert platform.fetch(first["url"] + "/about").text == "About"

    site("shop", {"index.html": PAGE.format("two")})
    second = platform.ask("deploy", str(folder))
    assert (second["target"], second["sent_files"]) == ("preview", 1)
    assert second["production_url"] is None and second["url"] != first["url"]
    # Each URL shows its own build, and the live site is as it was.
    assert "<h1>one</h1>" in platform.fetch(first["url"] + "/").text
    assert "<h1>two</h1>" in platform.fetch(second["url"] + "/").text
    assert "<h1>one</h1>" in platform.fetch(first["production_url"] + "/").text

    promoted = platform.ask("promote", second["deployment_id"])
    assert promoted["receipts"] and all(receipt["after_ms"] is not None for receipt in promoted["receipts"])
    assert "<h1>two</h1>" in platform.fetch(first["production_url"] + "/").text

    rolled_back = platform.ask("rollback", "shop")
    assert rolled_back["deployment"]["id"] == first["deployment_id"]
    assert "<h1>one</h1>" in platform.fetch(first["production_url"] + "/").text

    # After a rollback nothing is published by itself.
    site("shop", {"index.html": PAGE.format("three")})
    third = platform.ask("deploy", str(folder), "--prod")
    assert third["state"] == "ready" and third["production_url"] is None
    assert "<h1>one</h1>" in platform.fetch(first["production_url"] + "/").text
    assert "<h1>three</h1>" in platform.fetch(third["url"] + "/").text

    back = platform.ask("rollback", "shop", "--to", second["deployment_id"])
    assert back["deployment"]["id"] == second["deployment_id"]
    assert "<h1>two</h1>" in platform.fetch(first["production_url"] + "/").text


def test_the_same_folder_again_sends_nothing(platform: WholePlatform, site: WriteSite) -> None:
    folder = site("same", {"index.html": "Same"})
    platform.ask("deploy", str(folder))
    assert platform.ask("deploy", str(folder))["sent_files"] == 0


def test_stdout_is_the_url_alone(platform: WholePlatform, site: WriteSite) -> None:
    done = platform.run("deploy", str(site("plain", {"index.html": "Plain"})))
    assert done.code == 0 and done.out.count("\n") == 1
    assert platform.fetch(find_url(done.out) + "/").text == "Plain"
    assert "Ready after" in done.err and "ready" in done.err


def test_a_folder_remembers_its_project_and_keeps_that_out_of_git(platform: WholePlatform, site: WriteSite) -> None:
    folder = site("My Blog!", {"index.html": "Blog"})
    assert platform.ask("deploy", cwd=folder)["project"] == "my-blog"
    assert json.loads((folder / ".vclone/project.json").read_text()) == {"project": "my-blog"}
    assert (folder / ".vclone/.gitignore").read_text() == "*\n"
    moved = folder.rename(folder.with_name("elsewhere"))
    again = platform.ask("deploy", cwd=moved)
    assert (again["project"], again["sent_files"]) == ("my-blog", 0)


def test_a_finished_output_is_served_as_it_is(platform: WholePlatform, site: WriteSite) -> None:
    folder = site("handbook", {"package.json": "{}", "out/index.html": "Handbook", "out/package.json": '{"a": 1}'})
    made = platform.ask("deploy", "--prebuilt", str(folder / "out"))
    assert (made["project"], made["state"]) == ("handbook", "ready")
    assert platform.fetch(made["url"] + "/").text == "Handbook"
    assert platform.fetch(made["url"] + "/package.json").text == '{"a": 1}'


def test_secrets_stay_at_home(platform: WholePlatform, site: WriteSite) -> None:
    folder = site("careful", {"index.html": "Careful", ".env": "KEY=1"})
    done = platform.run("deploy", str(folder))
    assert "may hold secrets: .env" in done.err
    assert platform.fetch(find_url(done.out) + "/.env").status == 404


def test_a_git_repository_goes_live_and_a_branch_is_a_preview(platform: WholePlatform, git: GitServer) -> None:
    sha = git.commit("blog", {"index.html": "main branch"}, message="Write a page")
    made = platform.ask("deploy", git.address("blog"))
    assert (made["project"], made["state"], made["target"]) == ("blog", "ready", "production")
    assert platform.fetch(made["production_url"] + "/").text == "main branch"
    shown = platform.ask("inspect", made["deployment_id"])
    assert (shown["source"]["sha"], shown["source"]["message"]) == (sha, "Write a page")

    git.commit("blog", {"index.html": "next branch"}, branch="next")
    preview = platform.ask("deploy", git.address("blog"), "--branch", "next")
    assert (preview["target"], preview["production_url"]) == ("preview", None)
    assert platform.fetch(preview["url"] + "/").text == "next branch"
    assert platform.fetch(platform.url("blog-git-next")).text == "next branch"
    assert platform.fetch(made["production_url"] + "/").text == "main branch"


def test_commands_look_at_what_was_deployed(platform: WholePlatform, site: WriteSite) -> None:
    folder = site("looks", {"index.html": "Looks", "a/b.js": "1"})
    made = platform.ask("deploy", str(folder))
    listed = platform.ask("ls", "looks")["items"]
    assert [one["id"] for one in listed] == [made["deployment_id"]]
    assert made["deployment_id"] in platform.run("ls", "--all").out
    for name in (made["deployment_id"], made["url"], "looks"):
        assert platform.ask("inspect", name)["id"] == made["deployment_id"]
    assert made["url"] in platform.run("inspect", "looks").out
    log = platform.run("logs", "looks")
    assert log.code == 0 and "publish" in log.out
    lines = [json.loads(line) for line in platform.run("logs", "looks", "--json").out.splitlines()]
    assert [line["number"] for line in lines] == list(range(1, len(lines) + 1))
    assert platform.run("logs", "-f", "looks").out == log.out
    again = platform.ask("redeploy", made["deployment_id"])
    assert again["state"] == "ready" and again["id"] != made["deployment_id"]
    assert platform.fetch(again["url"] + "/").text == "Looks"


@pytest.mark.product("B14.1")
def test_explain_says_what_would_be_answered(platform: WholePlatform, site: WriteSite) -> None:
    made = platform.ask("deploy", str(site("clear", {"index.html": "Clear"})))
    found = platform.ask("explain", made["url"] + "/")
    assert (found["status"], found["file"], found["site"]["deployment_id"]) == (
        200,
        "/index.html",
        made["deployment_id"],
    )
    assert found["object_key"].split("/")[1] == "blobs"
    missing = platform.run("explain", made["url"] + "/missing.js")
    assert missing.code == 0 and "404" in missing.out
    assert "nothing is deployed" in platform.run("explain", platform.url("nobody")).out


def test_an_unknown_thing_has_its_exit_code(platform: WholePlatform) -> None:
    for words in (("inspect", "dep_00000000000000000000"), ("logs", "nobody"), ("rollback", "nobody")):
        done = platform.run(*words)
        assert done.code == 3 and done.err.startswith("error: ") and not done.out, words
    assert platform.run("ls", "--token", "wrong").code == 4
    assert platform.run("ls", "--api", "http://127.0.0.1:1").code == 7


def test_a_login_elsewhere_works_with_a_token(platform: WholePlatform, tmp_path: Path) -> None:
    token = json.loads((platform.home / "data/cli.json").read_text())["token"]
    other = WholePlatform(tmp_path, platform.port, platform.api_port, {"VCLONE_DATA_DIR": ""})
    assert other.run("ls").code in (4, 7)
    assert other.run("login", f"http://127.0.0.1:{platform.api_port}", "--token", "wrong").code == 4
    assert other.run("login", f"http://127.0.0.1:{platform.api_port}", "--token", token).code == 0
    assert other.run("ls").code == 0


@pytest.mark.registry
def test_a_vite_and_react_app_is_installed_and_built(platform: WholePlatform, git: GitServer) -> None:
    git.commit("react-app", VITE_REACT)
    made = platform.ask("deploy", git.address("react-app"))
    assert made["state"] == "ready" and platform.ask("inspect", made["deployment_id"])["framework"] == "vite"
    page = platform.fetch(made["production_url"] + "/")
    script = page.text.split('src="/assets/')[1].split('"')[0]
    asset = platform.fetch(f"{made['production_url']}/assets/{script}", headers={"Accept-Encoding": "br"})
    assert asset.status == 200 and "immutable" in asset.headers["cache-control"]
    assert asset.headers["content-encoding"] == "br"


VITE_REACT = {
    "package.json": json.dumps(
        {
            "name": "react-app",
            "private": True,
            "type": "module",
            "scripts": {"build": "vite build"},
            "dependencies": {"react": "^19.0.0", "react-dom": "^19.0.0"},
            "devDependencies": {"@vitejs/plugin-react": "^5.0.0", "vite": "^7.0.0"},
        }
    ),
    "vite.config.js": "import react from '@vitejs/plugin-react'\nexport default { plugins: [react()] }\n",
    "index.html": '<!doctype html><html lang="en"><title>React</title><div id="root"></div>'
    '<script type="module" src="/src/main.jsx"></script></html>',
    "src/main.jsx": "import { createRoot } from 'react-dom/client'\nimport './app.css'\n"
    "createRoot(document.getElementById('root')).render(<h1>Hello from {'React'}</h1>)\n",
    "src/app.css": "h1 { font: 700 3rem system-ui; color: #6b4dff }\n",
}


def test_a_name_of_ones_own(platform: WholePlatform, site: WriteSite) -> None:
    made = platform.ask("deploy", str(site("named", {"index.html": "First"})))
    later = platform.ask("deploy", str(site("named", {"index.html": "Second"})), "--prod")
    shown = platform.run("alias", "set", "try-it", made["url"])
    assert (shown.code, shown.out) == (0, f"{platform.url('try-it', '')}\n"), shown.err
    assert platform.fetch(platform.url("try-it")).text == "First"
    # Set again, its visitors see the other at once: the command has waited for the edge.
    assert platform.ask("alias", "set", "try-it.localhost", later["deployment_id"])["receipts"]
    assert platform.fetch(platform.url("try-it")).text == "Second"
    assert platform.fetch(platform.url("try-it")).headers["x-robots-tag"] == "noindex"
    refused = platform.run("alias", "set", "named", made["deployment_id"])
    assert refused.code == 5 and "named.localhost is taken" in refused.err
    assert platform.ask("alias", "rm", "try-it") == {"host": "try-it"}
    deadline = time.monotonic() + 10
    while platform.fetch(platform.url("try-it")).status != 404:
        assert time.monotonic() < deadline
        time.sleep(0.05)
