"""`./vclone` and its locks: what they hold, and what is said where nothing can be set up."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LOCKS = [ROOT / "requirements.lock", ROOT / "requirements-dev.lock"]


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock.read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_pin_has_hashes_and_no_file_names_a_host(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    blocks = re.split(r"^(?=\S)", text, flags=re.MULTILINE)
    assert all("--hash=sha256:" in block for block in blocks if block.strip())


def test_both_locks_agree() -> None:
    run, dev = (pins(lock) for lock in LOCKS)
    assert {name: dev[name] for name in run} == run


@pytest.mark.parametrize("path", sorted(ROOT.glob("plugins/*/pyproject.toml")), ids=lambda path: path.parent.name)
def test_the_lock_holds_what_a_built_in_plugin_needs(path: Path) -> None:
    needed = tomllib.loads(path.read_text())["project"].get("dependencies", [])
    names = {re.split(r"[\[<>=~!; ]", need)[0].lower() for need in needed} - {"vclone"}
    assert names <= set(pins(LOCKS[0]))


def test_a_checkout_that_cannot_be_written_to_says_so(ordinary_user: list[str], closed_dir: Path) -> None:
    checkout = closed_dir / "checkout"
    checkout.mkdir()
    for path in (ROOT / "vclone", ROOT / "pyproject.toml", *LOCKS):
        shutil.copy(path, checkout)
    for folder in (checkout, closed_dir):
        folder.chmod(0o555)
    closed_dir.parent.chmod(0o755)
    try:
        argv = [*ordinary_user, "sh", str(checkout / "vclone"), "--version"]
        answer = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/")
    finally:
        for folder in (checkout, closed_dir):
            folder.chmod(0o755)
    assert answer.returncode == 1
    assert "is not set up, and this user may not write there" in answer.stderr
