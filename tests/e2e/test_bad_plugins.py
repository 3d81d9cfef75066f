"""A whole platform beside plugins that sleep, spin, exit, crash and keep the interpreter to themselves."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.e2e.whole_platform import WriteSite, running_platform

# Does it once for each time that the test asks for it, by a file.
WHEN_TOLD = """
import ctypes, os
from pathlib import Path

@hookimpl
{hook}:
    told = Path(os.environ["HOME"], "{told}")
    if told.exists():
        told.unlink()
        {deed}
"""
# One file per way of being bad; what is built, served and told must not show it.
PLUGINS = {
    "sleeps_in_its_import": "import time\ntime.sleep(3600)",
    "exits_in_its_import": "import sys\nsys.exit(3)",
    "sleeps_when_registered": """
        @hookimpl
        def register_git_hosts():
            import time
            time.sleep(3600)
        """,
    "spins_when_asked": """
        @hookimpl
        def build_plan(plan):
            while True:
                pass
        """,
    "sleeps_when_asked": """
        @hookimpl
        def request_rules():
            import time
            time.sleep(3600)
        """,
    "exits_when_asked": """
        @hookimpl
        def detect_framework(paths):
            raise SystemExit(1)
        """,
    "crashes_once": WHEN_TOLD.format(hook="def build_plan(plan)", told="crash-it", deed="os._exit(9)"),
    "blocks_when_told": """
        import time

        @hookimpl
        async def alias_moved(alias):
            time.sleep(3600)
        """,
}
# A C function that is called with the interpreter's lock held: nothing in the process can help.
KEEP = "ctypes.PyDLL(None).sleep(3600)"
KEEPERS = {
    "keeps_the_worker": WHEN_TOLD.format(hook="def build_plan(plan)", told="keep-the-worker", deed=KEEP),
    "keeps_the_api": WHEN_TOLD.format(hook="async def alias_moved(alias)", told="keep-the-api", deed=KEEP),
}


def write_plugins(folder: Path, sources: Mapping[str, str]) -> str:
    folder.mkdir()
    for name, source in sources.items():
        (folder / f"{name}.py").write_text("from vclone_core import hookimpl\n" + textwrap.dedent(source))
    return str(folder)


@pytest.mark.timeout(500)
def test_a_platform_serves_and_builds_beside_bad_plugins(tmp_path: Path, site: WriteSite) -> None:
    folder = write_plugins(tmp_path / "plugins", PLUGINS)
    with running_platform(tmp_path / "home", plugins_dir=folder, lease_s="6") as platform:
        made = platform.ask("deploy", str(site("shop", {"index.html": "first"})), "--prod")
        assert made["state"] == "ready" and platform.fetch(made["url"] + "/").text == "first"
        again = platform.ask("deploy", str(site("shop", {"index.html": "second"})), "--prod")
        assert again["state"] == "ready"
        logs = platform.home / "data/logs"
        said = (logs / "worker.log").read_text() + (logs / "api.log").read_text() + (logs / "edge.log").read_text()
        for name in ("sleeps_when_registered", "spins_when_asked", "sleeps_when_asked"):
            assert any("plugin.set_aside" in line and name in line for line in said.splitlines()), (name, said)
        assert any("plugin.refused" in line and "sleeps_in_its_import" in line for line in said.splitlines())

        # A crash takes the worker, and the build begins again in the next.
        (platform.home / "crash-it").touch()
        third = platform.ask("deploy", str(site("shop", {"index.html": "third"})))
        assert third["state"] == "ready" and platform.ask("inspect", third["deployment_id"])["attempt"] == 2
        assert platform.ask("status")["services"]["worker"]["restarts"] == 1
        assert platform.stop() == 0


@pytest.mark.timeout(500)
def test_a_process_that_hangs_for_good_is_replaced(tmp_path: Path, site: WriteSite) -> None:
    folder = write_plugins(tmp_path / "plugins", KEEPERS)
    with running_platform(tmp_path / "home", plugins_dir=folder, lease_s="6") as platform:
        logs = platform.home / "data/logs"
        first = platform.ask("deploy", str(site("shop", {"index.html": "first"})), "--prod")

        # In the middle of a build, which begins again in the next worker.
        (platform.home / "keep-the-worker").touch()
        second = platform.ask("deploy", str(site("shop", {"index.html": "second"})), "--prod")
        assert second["state"] == "ready" and platform.ask("inspect", second["deployment_id"])["attempt"] == 2
        assert platform.ask("status")["services"]["worker"]["restarts"] == 1
        assert "keeps_the_worker.py" in (logs / "worker.log").read_text()

        # In the middle of a request.
        before = platform.service_pids()["api"]
        (platform.home / "keep-the-api").touch()
        rolling = platform.begin("rollback", "shop")
        deadline = time.monotonic() + 150
        while (now := platform.ask("status")["services"]["api"])["pid"] == before or now["state"] != "running":
            assert platform.fetch(first["url"] + "/").text == "first"  # the edge doesn't need it
            assert time.monotonic() < deadline, platform.all_logs()
            time.sleep(0.5)
        rolling.communicate(timeout=60)
        assert "keeps_the_api.py" in (logs / "api.log").read_text()
        assert platform.ask("ls", "shop")["items"]
        assert platform.stop() == 0
