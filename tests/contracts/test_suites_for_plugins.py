"""The suites that plugins are given, run as a plugin's author runs them: on a good store, and on one that isn't."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

HOWTO = Path(__file__).parents[2] / "docs/howto/write-a-plugin.md"
GOOD = """
from vclone_store_local.store import FolderStore as MyStore
"""
FORGETFUL = """
from vclone_store_local.store import FolderStore

class MyStore(FolderStore):
    async def put(self, key, body, *, size, overwrite=False, **more):
        return await super().put(key, body, size=size, overwrite=True, **more)
"""


def run_suite(folder: Path, store: str) -> str:
    found = re.search(r"<!-- example: store -->\n```python\n(.*?)```", HOWTO.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    (folder / "vclone_store_mine.py").write_text(store)
    (folder / "test_mine.py").write_text(found[1])
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\npythonpath = .\n")
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color", "no", "test_mine.py"]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False).stdout


def test_a_good_store_passes_and_gives_no_urls(tmp_path: Path) -> None:
    said = run_suite(tmp_path, GOOD)
    # A folder's only difference from what is expected of a store unless its traits say otherwise.
    assert re.findall(r"^FAILED test_mine.py::TestMyStore::(\w+)", said, re.MULTILINE) == [
        "test_a_presigned_url_is_read_by_plain_http"
    ]
    assert re.search(r"1 failed, \d\d+ passed", said)


def test_a_store_that_replaces_what_is_there_fails(tmp_path: Path) -> None:
    failed = re.findall(r"^FAILED test_mine.py::TestMyStore::(\w+)", run_suite(tmp_path, FORGETFUL), re.MULTILINE)
    assert {"test_put_leaves_what_is_there", "test_one_of_twenty_writers_wins"} <= set(failed)
