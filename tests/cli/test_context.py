"""context: which platform a command speaks to, and which token travels where."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from vclone_core.cli.context import PlatformAddress, default_data_dir, find_platform, platform_file, save_platform
from vclone_core.errors import Invalid, Unavailable

LATEST, OTHER = "http://127.0.0.1:9000", "http://127.0.0.1:9001"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment whose latest platform is LATEST, and a data folder `other` whose platform is OTHER."""
    environ = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    save_platform(platform_file(environ), api_url=LATEST, token="latest", data_dir="x")
    save_platform(tmp_path / "other/cli.json", api_url=OTHER, token="other")
    return environ


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, PlatformAddress(LATEST, "latest")),
        ({"token": "mine"}, PlatformAddress(LATEST, "mine")),
        ({"data_dir": "other"}, PlatformAddress(OTHER, "other")),
        ({"data_dir": "other", "api": OTHER + "/"}, PlatformAddress(OTHER, "other")),
        ({"api": "https://example.com", "token": "mine"}, PlatformAddress("https://example.com", "mine")),
        ({"api": "https://example.com"}, PlatformAddress("https://example.com", "")),
    ],
    ids=["latest", "token", "data-dir", "api of the data-dir", "api and token", "no token travels to a stranger"],
)
def test_the_platform_is_found(
    options: dict[str, str], found: PlatformAddress, environ: dict[str, str], tmp_path: Path
) -> None:
    if "data_dir" in options:
        options = options | {"data_dir": str(tmp_path / options["data_dir"])}
    assert find_platform(**options, environ=environ) == found


@pytest.mark.parametrize("options", [{}, {"data_dir": "/nowhere"}])
def test_without_a_platform_it_says_how_to_start_one(options: dict[str, str], tmp_path: Path) -> None:
    if default_data_dir({"HOME": str(tmp_path)}).joinpath("cli.json").exists():
        pytest.skip("this machine runs a platform in the default data folder")
    with pytest.raises(Unavailable) as caught:
        find_platform(**options, environ={"HOME": str(tmp_path)})
    assert "vclone up" in caught.value.advice


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"api_url": 3, "token": ""}', '{"api_url": "ftp://x", "token": ""}'])
def test_a_broken_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "cli.json").write_text(text)
    with pytest.raises(Invalid, match=r"cli\.json|ftp"):
        find_platform(data_dir=str(tmp_path), environ={})


def test_the_file_is_private_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a/b/platform.json"
    for token in ("first", "second"):
        save_platform(path, api_url=LATEST, token=token, data_dir="/data")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {"api_url": LATEST, "token": "second", "data_dir": "/data", "team": ""}
    assert [p.name for p in path.parent.iterdir()] == ["platform.json"]
