"""Archives as one request brings them."""

from __future__ import annotations

import gzip
import io
import os
import zipfile

import pytest
from tests.stores.test_archives import entry, pack_tar, pack_zip

from vclone_core.models import Source
from vclone_core.stores import records

from .conftest import Api

TYPE = {"content-type": "application/octet-stream"}
FILES = {"index.html": b"<h1>x</h1>", "assets/app.js": b"1" * 3000, ".env": b"A=1", "node_modules/x/i.js": b"2"}


@pytest.mark.parametrize("form", ["tar.gz", "zip"])
async def test_an_archive_becomes_a_deployment(api: Api, form: str) -> None:
    project = await api.project()
    named = {f"site/{name}": data for name, data in FILES.items()}
    data = (
        pack_zip(named.items()) if form == "zip" else pack_tar(((entry(n), d) for n, d in named.items()), mode="w:gz")
    )
    path = f"/api/projects/{project.name}/archives"
    status, made = await api.ask("POST", path, data=data, headers=TYPE, query_string={"target": "preview"})
    assert (status, made["state"], made["target"], made["source"]["kind"]) == (201, "queued", "preview", "upload")
    files = await records.fetch_source_files(api.platform.db, made["id"])
    assert files is not None
    assert [file.path for file in files] == ["assets/app.js", "index.html"]
    # Nothing is left of it, and a second one sends nothing anew.
    assert list((api.platform.settings.data_dir / "uploads").iterdir()) == []
    status, again = await api.ask("POST", path, data=data, headers=TYPE, query_string={"prebuilt": "true"})
    assert (status, again["source"]["kind"]) == (201, Source("prebuilt").kind)


async def test_bad_archives_are_refused_and_leave_nothing(api: Api) -> None:
    project = await api.project()
    path = f"/api/projects/{project.name}/archives"
    bombs = {
        "archive_refused": [
            b"hello",
            pack_zip([("../x", b"1")]),
            pack_tar([(entry("a"), b"1" * 9000)])[:3000],
            gzip.compress(pack_tar([(entry("a"), bytes(9 * 1024**2))])),
        ],
        "empty_source": [pack_zip([])],
    }
    for code, archives in bombs.items():
        for data in archives:
            status, problem = await api.ask("POST", path, data=data, headers=TYPE)
            assert (status, problem["code"]) == (422, code)
    assert list((api.platform.settings.data_dir / "uploads").iterdir()) == []
    assert (await api.ask("GET", "/api/deployments", query_string={"project": project.name}))[1]["items"] == []
    status, problem = await api.ask("POST", path, data=b"{}", headers={"content-type": "application/json"})
    assert (status, problem["code"]) == (415, "wrong_media_type")


async def test_an_archive_over_the_limit_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vclone_core.actions.archives.ARCHIVE_LIMIT_BYTES", 1024**2)
    project = await api.project()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as opened:
        opened.writestr("a", os.urandom(2 * 1024**2))
    status, problem = await api.ask("POST", f"/api/projects/{project.name}/archives", data=out.getvalue(), headers=TYPE)
    assert (status, problem["code"]) == (413, "too_large")
    assert list((api.platform.settings.data_dir / "uploads").iterdir()) == []
