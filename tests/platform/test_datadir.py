"""The data folder: what it refuses, what it keeps, and who may hold it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from vclone_core.embedded.datadir import open_data_dir
from vclone_core.embedded.ports import check_port
from vclone_core.embedded.runfile import birth_of, clear_remains, is_alive_since, read_status
from vclone_core.errors import AlreadyRunning, BadSettings, DataDirUnusable, DiskFull, NewerData


def test_it_is_made_private_and_keeps_its_secrets(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "data"
    with open_data_dir(place, version="1") as folder:
        first = folder.load_secrets()
    with open_data_dir(place, version="1") as folder:
        assert folder.load_secrets() == first
    assert len(first["secret_key"]) >= 32
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / "secrets.json").stat().st_mode) == 0o600


def test_damaged_secrets_are_not_replaced(tmp_path: Path) -> None:
    with open_data_dir(tmp_path / "data", version="1") as folder:
        folder.load_secrets()
        (folder.path / "secrets.json").write_text("{")
        with pytest.raises(DataDirUnusable, match="damaged"):
            folder.load_secrets()
        assert (folder.path / "secrets.json").read_text() == "{"


def test_a_second_holder_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "data"
    with open_data_dir(place, version="1") as folder:
        folder.run_file.write_text('{"pid": 41, "state": "running"}')
        with pytest.raises(AlreadyRunning, match="41"), open_data_dir(place, version="1"):
            pytest.fail("two held it")
        with pytest.raises(AlreadyRunning):
            clear_remains(place)
        assert read_status(place)["state"] == "running"
    assert read_status(place)["state"] == "stopped"


def test_the_run_file_of_a_killed_run_is_not_taken_for_the_next(tmp_path: Path) -> None:
    place = tmp_path / "data"
    with open_data_dir(place, version="1") as folder:
        folder.run_file.write_text('{"pid": 41, "state": "running"}')
    with open_data_dir(place, version="1"):
        assert read_status(place)["state"] == "stopped"


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vclone.json").write_text(json.dumps({"layout": 99, "version": "9.9"}))
    with pytest.raises(NewerData, match=r"9\.9"), open_data_dir(tmp_path, version="1"):
        pytest.fail("it was opened")


def test_too_little_space_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    place = tmp_path / "data"
    with pytest.raises(DiskFull, match="MiB"), open_data_dir(place, version="1", needed_bytes=2**62):
        pytest.fail("it was opened")
    assert not place.exists()


def test_a_system_folder_that_takes_no_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataDirUnusable), open_data_dir(Path("/proc/vclone"), version="1", needed_bytes=0):
        pytest.fail("it was opened")


def test_remains_are_waited_for_and_their_sockets_removed(tmp_path: Path) -> None:
    child = subprocess.Popen(["sleep", "0.5"])
    run_dir = tmp_path / "vclone-old"
    run_dir.mkdir()
    run = {"run_dir": str(run_dir), "services": {"edge": {"pid": child.pid, "born": birth_of(child.pid)}}}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert clear_remains(tmp_path)
    assert birth_of(child.pid) is None
    child.wait()
    assert not run_dir.exists()


def test_a_number_given_to_another_process_is_not_the_old_one() -> None:
    assert is_alive_since(os.getpid(), birth_of(os.getpid()))
    assert not is_alive_since(os.getpid(), "12")
    assert not is_alive_since(None, None)


def test_an_address_of_another_machine_is_a_bad_setting() -> None:
    with pytest.raises(BadSettings, match=r"192\.0\.2\.1"):
        check_port("192.0.2.1", 8080, "--port")
