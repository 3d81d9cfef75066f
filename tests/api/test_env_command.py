"""`vclone env` and `vclone keys` as programs, against the API as a process of its own and its database."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from .conftest import Api
from .served import Served

pytestmark = pytest.mark.processes

SECRET = "canary-77aa-of-a-command"


async def vclone(*arguments: str, env: dict[str, str], cwd: Path, given: str = "") -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "vclone_core.cli", *arguments, env=env, cwd=cwd,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(given.encode())
    return process.returncode or 0, out.decode(), err.decode()


async def test_add_list_pull_rotate_and_remove(api: Api, served: Served, tmp_path: Path) -> None:
    project = await api.project()
    settings = api.platform.settings
    kept = tmp_path / "secrets.json"
    kept.write_text("{}")
    env = {
        **os.environ,
        "VCLONE_API_URL": served.url,
        "VCLONE_TOKEN": api.callers["owner"],
        "VCLONE_DATABASE_URL": settings.database_url.get_secret_value(),
        "VCLONE_SECRET_KEY": settings.secret_key.get_secret_value(),
    }
    named = ("--project", project.name)

    async def ask(*arguments: str, given: str = "", code: int = 0) -> str:
        found, out, err = await vclone(*arguments, env=env, cwd=tmp_path, given=given)
        assert found == code, err
        assert SECRET not in out + err
        return out + err

    await ask("env", "add", "API_KEY", *named, "--target", "development", "--sensitive", given=SECRET + "\n")
    (tmp_path / "some.env").write_text("URL='http://x/?a b'\nLINES=\"one\\ntwo\"\nREF=$URL\n")
    said = await ask("env", "add", "--from", "some.env", *named)
    assert "nothing is put in the place of `$…`: REF" in said
    said = await ask("env", "add", "--from", "-", *named, given="URL=x\nPATH=y\n1=2\n", code=2)
    assert "PATH: is reserved" in said and "1: must be letters" in said
    assert "URL: is there already" in await ask("env", "add", "URL", *named, given="x", code=2)
    await ask("env", "add", "URL", *named, "--branch", "next", "--build-only", given="of next")
    listed = await ask("env", "ls", *named)
    assert "sensitive" in listed and "build only" in listed and "next" in listed and "http://x" not in listed
    said = await ask("env", "pull", *named)
    assert "Left out, being sensitive: API_KEY" in said
    pulled = tmp_path / ".env.local"
    assert pulled.read_text().splitlines()[1:] == ["LINES='one", "two'", "REF='$URL'", "URL='http://x/?a b'"]
    assert pulled.stat().st_mode & 0o777 == 0o600
    await ask("env", "pull", *named, code=5)
    await ask("env", "pull", *named, "--yes", "--target", "preview", "--branch", "next")
    assert "URL='of next'" in pulled.read_text()

    assert json.loads(await ask("keys", "ls", "--json"))["items"] == [
        {"key": "derived", "values": 11, "state": "seals"}
    ]
    env["VCLONE_SECRETS_PATH"] = str(kept)
    assert "Sealed 11 values anew" in await ask("keys", "rotate")
    first, second = json.loads(await ask("keys", "ls", "--json"))["items"]
    assert (first["values"], first["state"], second) == (
        11, "seals", {"key": "derived", "values": 0, "state": "opens"},
    )  # fmt: skip
    await ask("keys", "rotate")
    assert f"Dropped {first['key']}." in await ask("keys", "prune")

    await ask("env", "rm", "URL", *named, "--target", "preview")
    await ask("env", "rm", "NONE", *named, code=3)
    assert {one["target"] for one in json.loads(await ask("env", "ls", "--json", *named))["items"]
            if one["key"] == "URL"} == {"production", "development"}  # fmt: skip
