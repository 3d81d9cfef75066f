"""Archives of folders: what comes back, and that nothing of a hostile one lands outside."""

from __future__ import annotations

import io
import os
import random
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from vclone_core.build import archives
from vclone_core.build.archives import NotArchived, Packed, find_folders, pack, unpack

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def pack_it(base: Path, *paths: str, **options: Any) -> tuple[Path, Packed]:
    target = base.parent / f"{base.name}.archive"
    target.unlink(missing_ok=True)
    return target, pack(base, paths, target, **{"stop": threading.Event(), **options})


def make_archive(folder: Path, entries: list[tarfile.TarInfo], body: bytes = b"evil") -> Path:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for entry in entries:
            entry.size = len(body) if entry.isreg() else 0
            tar.addfile(entry, io.BytesIO(body) if entry.isreg() else None)
    archive = folder / "evil.archive"
    archive.write_bytes(zstd.compress(raw.getvalue()))
    return archive


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


def test_files_links_modes_and_times_come_back(tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    (base / "node_modules/.bin").mkdir(parents=True)
    (base / "node_modules/empty").mkdir()
    (base / "node_modules/a.js").write_bytes(b"1" * 3_000_000)
    (base / "node_modules/run").write_text("#!/bin/sh\n")
    (base / "node_modules/run").chmod(0o755)
    os.utime(base / "node_modules/run", (1000, 1000))
    (base / "node_modules/.bin/run").symlink_to("../run")
    (base / f"node_modules/{'n' * 200}é").write_text("long")
    (base / "other").write_text("not asked for")
    archive, packed = pack_it(base, "node_modules", "missing")
    out.mkdir()
    assert unpack(archive, out).files == packed.files == 7
    assert (out / "node_modules/.bin/run").readlink() == Path("../run")
    assert (out / "node_modules/a.js").read_bytes() == b"1" * 3_000_000
    status = (out / "node_modules/run").stat()
    assert (status.st_mode & 0o777, int(status.st_mtime)) == (0o755, 1000)
    assert (out / f"node_modules/{'n' * 200}é").read_text() == "long"
    assert (out / "node_modules/empty").is_dir()
    assert not (out / "other").exists()


def test_what_leads_out_or_is_special_is_left_out(tmp_path: Path) -> None:
    base = tmp_path / "base"
    (base / "cache/kept").mkdir(parents=True)
    (base / "cache/out").symlink_to("/etc/passwd")
    (base / "cache/up").symlink_to("../../secret")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/secret").write_text("secret")
    (base / "linked").symlink_to(tmp_path / "folder")
    os.mkfifo(base / "cache/fifo")
    archive, _ = pack_it(base, "cache", "linked", "linked/secret", left_out=("cache/kept",))
    with zstd.open(archive) as raw, tarfile.open(fileobj=raw, mode="r|") as tar:
        assert tar.getnames() == ["cache"]


def test_only_the_outermost_folders_of_a_name_are_found(tmp_path: Path) -> None:
    for path in ("node_modules/a/node_modules", "apps/web/node_modules", ".git/node_modules", "lib"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "lib/node_modules").symlink_to(tmp_path / "apps")
    assert find_folders(tmp_path, "node_modules") == ["apps/web/node_modules", "node_modules"]


@pytest.mark.parametrize(
    "entries",
    [
        [entry("../canary")],
        [entry("/canary")],
        [entry("a/../../canary")],
        [entry("link", tarfile.SYMTYPE, "..")],
        [entry("link", tarfile.SYMTYPE, "/tmp")],
        [entry("link", tarfile.SYMTYPE, "a"), entry("link/canary")],
        [entry("a", tarfile.DIRTYPE), entry("link", tarfile.SYMTYPE, "a"), entry("link/canary")],
        [entry("file"), entry("file/canary")],
        [entry("twice"), entry("twice")],
        [entry("hard", tarfile.LNKTYPE, "../canary")],
        [entry("device", tarfile.CHRTYPE)],
        [entry("fifo", tarfile.FIFOTYPE)],
    ],
)
def test_a_hostile_archive_is_refused_and_writes_nothing_outside(
    tmp_path: Path, entries: list[tarfile.TarInfo]
) -> None:
    archive, out = make_archive(tmp_path, entries), tmp_path / "deep/out"
    out.mkdir(parents=True)
    with pytest.raises(NotArchived):
        unpack(archive, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "evil.archive"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "a").write_bytes(random.Random(1).randbytes(200_000))
    archive, _ = pack_it(base, "a")
    whole = archive.read_bytes()
    bad = [whole[:100], whole[: len(whole) // 2], whole[:-4], b"", b"no archive", b"\0" * 5000]
    bad += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in (0, 1000, len(whole) // 2, len(whole) - 2)]
    for number, content in enumerate(bad):
        (tmp_path / "damaged").write_bytes(content)
        out = tmp_path / f"out{number}"
        out.mkdir()
        with pytest.raises(NotArchived):
            unpack(tmp_path / "damaged", out)


def test_a_bomb_is_stopped_while_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 5_000_000)
    monkeypatch.setattr(archives, "MAX_FILES", 50)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(NotArchived, match="MiB"):
        unpack(make_archive(tmp_path, [entry(f"{n}") for n in range(10)], b"\0" * 1_000_000), out)
    assert sum(path.stat().st_size for path in out.iterdir()) <= 5_000_000
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(NotArchived, match="50 files"):
        unpack(make_archive(tmp_path, [entry(f"{n}") for n in range(60)], b""), other)


def test_packing_ends_when_it_is_told_to_or_there_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, stop = tmp_path / "base", threading.Event()
    base.mkdir()
    for number in range(20):
        (base / f"{number}").write_bytes(random.Random(number).randbytes(500_000))
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 2_000_000)
    with pytest.raises(NotArchived, match="takes more"):
        pack_it(base, *(f"{number}" for number in range(20)))
    stop.set()
    with pytest.raises(NotArchived, match="over"):
        pack_it(base, "0", stop=stop)
