"""A whole platform beside plugins that sleep, spin, exit, crash and keep the interpreter to themselves."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path

import pytest
from tests.e2e.whole_platform import WriteSite, running_platform

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
    "crashes_once": """
        import os
        from pathlib import Path

        @hookimpl
        def build_plan(plan):
            wanted = Path(os.environ["HOME"], "crash-it")
            if wanted.exists():
                wanted.unlink()
                os._exit(9)
        """,
    "keeps_the_worker": """
        import ctypes, os
        from pathlib import Path

        @hookimpl
        def build_plan(plan):
            wanted = Path(os.environ["HOME"], "keep-the-worker")
            if wanted.exists():
                wanted.unlink()
                ctypes.PyDLL(None).sleep(3600)
        """,
    "blocks_when_told": """
        import time

        @hookimpl
        async def alias_moved(alias):
            time.sleep(3600)
        """,
    "keeps_the_interpreter": """
        import ctypes, os
        from pathlib import Path

        @hookimpl
        async def alias_moved(alias):
            wanted = Path(os.environ["HOME"], "keep-it")
            if wanted.exists():
                wanted.unlink()
                ctypes.PyDLL(None).sleep(3600)  # a C function that is called with the lock held
        """,
}


@pytest.mark.timeout(500)
def test_a_platform_serves_and_builds_beside_bad_plugins(tmp_path: Path, site: WriteSite) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    for name, source in PLUGINS.items():
        (folder / f"{name}.py").write_text("from vclone_core import hookimpl\n" + textwrap.dedent(source))
    with running_platform(tmp_path / "home", plugins_dir=str(folder), lease_s="6") as platform:
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

        # One that keeps the interpreter's lock as well, though it doesn't end.
        (platform.home / "keep-the-worker").touch()
        fourth = platform.ask("deploy", str(site("shop", {"index.html": "fourth"})))
        assert fourth["state"] == "ready" and platform.ask("inspect", fourth["deployment_id"])["attempt"] == 2
        assert platform.ask("status")["services"]["worker"]["restarts"] == 2
        assert "keeps_the_worker.py" in (logs / "worker.log").read_text()

        # An event in the API: whose C function keeps the lock, so that nothing in the process can help.
        before = platform.service_pids()["api"]
        (platform.home / "keep-it").touch()
        rolling = platform.begin("rollback", "shop")
        deadline = time.monotonic() + 150
        while (now := platform.ask("status")["services"]["api"])["pid"] == before or now["state"] != "running":
            assert platform.fetch(again["url"] + "/").text == "second"  # the edge doesn't need it
            assert time.monotonic() < deadline, platform.all_logs()
            time.sleep(0.5)
        rolling.communicate(timeout=60)
        assert "keeps_the_interpreter.py" in (logs / "api.log").read_text()
        assert platform.ask("ls", "shop")["items"]
        assert platform.stop() == 0
