"""Real projects, installed from the registries, built by a whole platform and asked for as a visitor would.

tests/build/projects.toml says what each has to become. VCLONE_TEST_RUNNER names the runner plugin, else `process`;
VCLONE_TEST_RUNNER_OPTIONS holds its options as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contracts.runners import make_runner, registry_options
from tests.e2e.whole_platform import WholePlatform, running_platform
from tests.needs import lacks

HERE = Path(__file__).parent
CASES: dict[str, dict[str, Any]] = tomllib.loads((HERE / "projects.toml").read_text())
RUNNER = os.environ.get("VCLONE_TEST_RUNNER", "process")
# The fastest ones, by the seconds that they print: these run with `make test-all`, the others with `make test-builds`.
QUICK = ("plain", "npm-without-lockfile", "vite-react", "eleventy", "mkdocs", "pnpm-monorepo-apple")
BUILD_S = 1800
# A script that is missing is never answered with a page.
PAGE, SCRIPT = "/no/such/page", "/no/such/script.js"

pytestmark = pytest.mark.timeout(BUILD_S + 120)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholePlatform]:
    home = tmp_path_factory.mktemp("builds")
    options: dict[str, str] = json.loads(os.environ.get("VCLONE_TEST_RUNNER_OPTIONS", "{}"))
    if (why := asyncio.run(make_runner(RUNNER, **options).check())) is not None:
        lacks(why)
    if RUNNER == "podman":
        options |= registry_options()
    with running_platform(
        home,
        runner=RUNNER,
        runner_options=json.dumps(options),
        build_timeout_s=str(BUILD_S),
    ) as running:
        yield running


def mark(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.registry if name in QUICK else pytest.mark.builds)


@pytest.mark.parametrize("name", [mark(name) for name in CASES])
def test_project_is_built_and_served(platform: WholePlatform, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    began = time.monotonic()
    done = deploy(platform, tmp_path, name, case)
    if done["state"] != "ready":
        print(platform.run("logs", done["deployment_id"]).out[-6000:])
    assert done["state"] == "ready", done["failure"]
    found = platform.api(f"/api/deployments/{done['deployment_id']}")
    seconds = found["step_seconds"]
    tell = ", ".join(f"{step} {seconds.get(step, 0):.1f}" for step in ("install", "build"))
    print(f"\n{name} ({RUNNER}): {time.monotonic() - began:.1f} s, of which {tell}; {found['file_count']} files")
    assert found["framework"] == case["framework"]
    said = [line["text"] for line in platform.api(f"/api/deployments/{done['deployment_id']}/logs")["items"]]
    assert any(case["reason"] in line for line in said)
    if command := case.get("install"):
        assert any(line.startswith(f"$ {command}") for line in said)
    look(platform, done["url"].rstrip("/"), done["deployment_id"], case)


def deploy(platform: WholePlatform, folder: Path, name: str, case: dict[str, Any]) -> Any:
    """Deploy the folder of a project, with its root directory where it has one."""
    project = HERE / "projects" / case.get("project", name)
    if "root" in case:
        # A project is there before its root directory can be set.
        (folder / "index.html").write_text("nothing yet")
        platform.ask("deploy", str(folder), "--project", name)
        platform.ask("project", "set", "--project", name, f"root_directory={case['root']}")
    return platform.run("deploy", str(project), "--project", name, "--prod", "--json", timeout_s=BUILD_S).json


def look(platform: WholePlatform, url: str, deployment_id: str, case: dict[str, Any]) -> None:
    """Visit a deployment: its pages, its assets, and what it doesn't have."""
    for path, words in case["shows"].items():
        answer = platform.fetch(url + path)
        assert (answer.status, words in answer.text) == (200, True), (path, answer.status, answer.text[:500])
        assert "immutable" not in answer.headers["cache-control"], path
    paths = [file["path"] for file in platform.api(f"/api/deployments/{deployment_id}/files")["items"]]
    if pattern := case.get("immutable"):
        kept = [path for path in paths if re.search(pattern, path)]
        assert kept, paths
        for path in kept:
            answer = platform.fetch(url + path)
            assert (answer.status, answer.headers["cache-control"]) == (200, "public, max-age=31536000, immutable"), (
                path
            )
        if words := case.get("contains"):
            assert any(words in platform.fetch(url + path).text for path in kept if path.endswith(".js"))
    assert not [path for path in paths if "node_modules" in path or path.endswith("package.json")]
    status, words = case["missing"]
    page = platform.fetch(url + PAGE)
    assert (page.status, words in page.text) == (status, True), (page.status, page.text[:500])
    assert platform.fetch(url + SCRIPT).status == 404
