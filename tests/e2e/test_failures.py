"""What can't be deployed: a failed deployment with cause and hint, an exit code, a live site left as it is."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.whole_platform import WholePlatform, WriteSite, running_platform
from tests.git_server import GitServer


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholePlatform]:
    """A platform in a hurry: a build has ten seconds."""
    home = tmp_path_factory.mktemp("platform")
    with running_platform(home, git_allow_insecure="true", build_timeout_s="10") as platform:
        yield platform


@pytest.fixture(scope="module")
def live(platform: WholePlatform, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a project with a good deployment, in which all others fail."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "index.html").write_text("All is well")
    return str(platform.ask("deploy", str(folder), "--project", "live")["production_url"])


@dataclass(frozen=True)
class Place:
    """Where a case makes its input."""

    site: WriteSite
    git: GitServer


def empty_folder(place: Place) -> list[str]:
    folder = place.site("empty", {"node_modules/x.js": "1"})
    return [str(folder)]


def leaving_link(place: Place) -> list[str]:
    folder = place.site("linked", {"index.html": "x"})
    (folder / "passwords").symlink_to("/etc/passwd")
    return [str(folder)]


def large_file(place: Place) -> list[str]:
    folder = place.site("large", {"index.html": "x"})
    with open(folder / "film.mp4", "wb") as film:
        os.truncate(film.fileno(), 101 * 1024**2)
    return [str(folder)]


def missing_folder(place: Place) -> list[str]:
    return ["./there-is-no-such-folder"]


def unreachable_repository(place: Place) -> list[str]:
    return ["http://127.0.0.1:1/app.git"]


def private_repository(place: Place) -> list[str]:
    return [f"{place.git.url}/private/app.git"]


def missing_repository(place: Place) -> list[str]:
    return [place.git.address("nothing-here")]


def unknown_branch(place: Place) -> list[str]:
    place.git.commit("branchy", {"index.html": "x"})
    return [place.git.address("branchy"), "--branch", "no-such-branch"]


def missing_script(place: Place) -> list[str]:
    return [str(place.site("scriptless", {"package.json": '{"scripts": {"dev": "true"}}', "src/page.js": ""}))]


def broken_package(place: Place) -> list[str]:
    return [str(place.site("broken", {"package.json": "{"}))]


def app(place: Place, name: str, command: str) -> list[str]:
    return [str(place.site(name, {"package.json": json.dumps({"scripts": {"build": command}})}))]


def failing_build(place: Place) -> list[str]:
    return app(place, "failing", "echo the reason is here && exit 3")


def wrong_output(place: Place) -> list[str]:
    return app(place, "wrong", "mkdir -p elsewhere && echo x > elsewhere/index.html")


def slow_build(place: Place) -> list[str]:
    return app(place, "slow", "sleep 60")


BEFORE_ANYTHING = [
    (empty_folder, 22, "empty_source", "no files"),
    (leaving_link, 23, "source_refused", "passwords leaves the folder"),
    (large_file, 6, "too_large", "film.mp4"),
    (missing_folder, 2, "invalid", "there-is-no-such-folder"),
]
BY_THE_BUILD = [
    (unreachable_repository, 27, "source_unreachable", ""),
    (private_repository, 21, "clone_failed", ""),
    (missing_repository, 21, "clone_failed", ""),
    (unknown_branch, 21, "clone_failed", "no-such-branch"),
    (missing_script, 41, "missing_script", "build"),
    (broken_package, 25, "detect_failed", "package.json"),
    (failing_build, 40, "build_failed", ""),
    (wrong_output, 45, "output_missing", "elsewhere"),
    (slow_build, 42, "build_timeout", "10"),
]
Case = Callable[[Place], list[str]]


def case_name(value: object) -> str:
    return getattr(value, "__name__", "")


@pytest.mark.parametrize(("case", "code", "error", "words"), BEFORE_ANYTHING + BY_THE_BUILD, ids=case_name)
def test_a_bad_input_fails_with_its_cause_and_harms_nothing(
    case: Case,
    code: int,
    error: str,
    words: str,
    platform: WholePlatform,
    live: str,
    site: WriteSite,
    git: GitServer,
) -> None:
    before = platform.newest("live")
    done = platform.run("deploy", *case(Place(site, git)), "--project", "live", "--prod", "--json")
    assert done.code == code, done.err
    result = done.json
    assert (result["state"], result["failure"]["code"]) == ("failed", error)
    assert words in result["failure"]["sentence"] + result["failure"]["advice"]
    assert result["failure"]["advice"] or error == "invalid"
    assert f"error: {result['failure']['sentence']}" in done.err
    newest = platform.newest("live")
    assert newest and before
    if result["deployment_id"] is None:
        assert newest["id"] == before["id"]
    else:
        assert (newest["id"], newest["state"]) == (result["deployment_id"], "failed")
        log = platform.run("logs", result["deployment_id"]).out.splitlines()
        assert result["failure"]["sentence"] in log[-1] and f"[{error}]" in log[-1]
        assert platform.fetch(f"http://{newest['id'][-10:]}-live.localhost:{platform.port}/").status == 404
    assert platform.fetch(live + "/").text == "All is well"


def test_a_cancelled_build_ends_soon_and_says_so(platform: WholePlatform, live: str, site: WriteSite) -> None:
    words = app(Place(site, None), "patient", "sleep 9")
    made = platform.ask("deploy", *words, "--project", "live", "--no-wait")
    assert made["state"] in ("queued", "building")
    cancelled = platform.ask("cancel", made["deployment_id"])
    assert cancelled["id"] == made["deployment_id"]
    followed = platform.run("logs", "-f", made["deployment_id"])
    assert followed.code == 5 and "cancelled" in followed.err
    assert platform.run("cancel", made["deployment_id"]).code == 5
    assert platform.fetch(live + "/").text == "All is well"


def test_ctrl_c_stops_following_and_leaves_the_deployment(platform: WholePlatform, live: str, site: WriteSite) -> None:
    words = app(Place(site, None), "left", "sleep 3 && mkdir dist && echo done > dist/index.html")
    command = platform.begin("deploy", *words, "--project", "left")
    assert command.stderr
    said = ""
    while "building" not in said:
        line = command.stderr.readline()
        assert line, said
        said += line
    command.send_signal(signal.SIGINT)
    _, rest = command.communicate(timeout=30)
    assert command.returncode == 130 and "vclone cancel dep_" in rest and "Traceback" not in rest
    assert platform.run("logs", "-f", "left").code == 0
    assert platform.fetch(platform.url("left")).text == "done\n"


def test_refusals_of_the_command_line_say_what_to_do(platform: WholePlatform, tmp_path: Path) -> None:
    for words in (("--project", "Bad Name!"), ("--branch", "x"), ("--prebuilt", "missing")):
        done = platform.run("deploy", *words, cwd=tmp_path)
        assert done.code == 2 and done.err.startswith("error: "), (words, done.err)
