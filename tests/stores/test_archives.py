"""Archives of strangers: what honest programs pack is unpacked, and every bomb is stopped before it is large."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import ArchiveRefused, EmptySource
from vclone_core.models import BuildLimits
from vclone_core.rules.archives import parse_pax, parse_tar_header
from vclone_core.stores.archives import is_archive, unpack

MIB = 1024**2
FILES = {"index.html": b"<h1>x</h1>", "assets/app.js": b"1" * 3000, f"deep/{'d' * 90}/{'n' * 80}.txt": b"long name"}


def unpack_bytes(data: bytes, folder: Path, limits: BuildLimits | None = None) -> dict[str, bytes]:
    """Unpack and return the files, whose hashes and sizes must be right."""
    (folder / "archive").write_bytes(data)
    (folder / "out").mkdir()
    root, files = unpack(folder / "archive", folder / "out", limits or BuildLimits())
    found = {file.path: (root / file.path).read_bytes() for file in files}
    assert all(hashlib.sha256(found[file.path]).hexdigest() == file.sha256 for file in files)
    assert all(len(found[file.path]) == file.size for file in files)
    return found


def pack_tar(
    entries: Iterable[tuple[tarfile.TarInfo, bytes]], *, form: int = tarfile.PAX_FORMAT, mode: str = "w"
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=form) as tar:
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def pack_zip(files: Iterable[tuple[zipfile.ZipInfo | str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as opened:
        for name, data in files:
            opened.writestr(name, data, method)
    return out.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, **more: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in more.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tars_of_every_format_are_unpacked(tmp_path: Path, form: int, mode: str) -> None:
    files = {f"./{name}": data for name, data in FILES.items()}
    assert unpack_bytes(pack_tar(((entry(n), d) for n, d in files.items()), form=form, mode=mode), tmp_path) == FILES


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zips_are_unpacked(tmp_path: Path, method: int) -> None:
    assert unpack_bytes(pack_zip(FILES.items(), method), tmp_path) == FILES


def test_what_the_tar_program_packs_is_unpacked(tmp_path: Path) -> None:
    source = tmp_path / "site"
    for name, data in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    (source / "run.sh").write_bytes(b"#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "empty").mkdir()
    subprocess.run(["tar", "czf", tmp_path / "site.tgz", "-C", tmp_path, "site"], check=True)
    (tmp_path / "out").mkdir()
    root, files = unpack(tmp_path / "site.tgz", tmp_path / "out", BuildLimits())
    # The folder that holds everything is the root.
    assert root == tmp_path / "out/site"
    assert {file.path for file in files} == {*FILES, "run.sh"}
    assert [file.path for file in files if file.is_executable] == ["run.sh"]
    assert os.access(root / "run.sh", os.X_OK)


def test_several_gzip_members_are_one_archive(tmp_path: Path) -> None:
    data = pack_tar((entry(name), content) for name, content in FILES.items())
    packed = gzip.compress(data[:700]) + gzip.compress(data[700:]) + b"\0" * 512
    assert unpack_bytes(packed, tmp_path) == FILES


def test_what_systems_add_is_left_out(tmp_path: Path) -> None:
    files = [("index.html", b"1"), ("__MACOSX/._index.html", b"2"), ("._index.html", b"3")]
    assert unpack_bytes(pack_zip(files), tmp_path) == {"index.html": b"1"}


def zip_info(name: str, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def with_nul(data: bytes) -> bytes:
    return data.replace(b"a.html_.exe", b"a.html\0.exe")


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "tar: parent": (lambda: pack_tar([(entry("../x"), b"1")]), "plain relative path"),
    "tar: absolute": (lambda: pack_tar([(entry("/etc/x"), b"1")]), "plain relative path"),
    "tar: inner parent": (lambda: pack_tar([(entry("a/../../x"), b"1")]), "plain relative path"),
    "tar: control": (lambda: pack_tar([(entry("a\nb"), b"1")]), "control character"),
    "tar: backslash": (lambda: pack_tar([(entry("a\\b"), b"1")]), "backslash"),
    "tar: long": (lambda: pack_tar([(entry("/".join(["d" * 200] * 6)), b"1")]), "longer than 1024"),
    "tar: deep": (lambda: pack_tar([(entry("/".join("d" * 40)), b"1")]), "folders deep"),
    "tar: twice": (lambda: pack_tar([(entry("a"), b"1"), (entry("./a"), b"2")]), "there twice"),
    "tar: file and folder": (lambda: pack_tar([(entry("a"), b"1"), (entry("a/b"), b"2")]), "there twice"),
    "tar: folder and file": (lambda: pack_tar([(entry("a/b"), b"1"), (entry("a"), b"2")]), "there twice"),
    "tar: symlink": (lambda: pack_tar([(entry("a", tarfile.SYMTYPE, linkname="/etc"), b"")]), "a symbolic link"),
    "tar: hard link": (lambda: pack_tar([(entry("a", tarfile.LNKTYPE, linkname="b"), b"")]), "a hard link"),
    "tar: device": (lambda: pack_tar([(entry("a", tarfile.CHRTYPE), b"")]), "a device"),
    "tar: pipe": (lambda: pack_tar([(entry("a", tarfile.FIFOTYPE), b"")]), "a pipe"),
    "tar: not UTF-8": (lambda: pack_tar([(entry("a\udcff"), b"1")], form=tarfile.GNU_FORMAT), "not UTF-8"),
    "tar: cut": (lambda: pack_tar([(entry("a"), b"1" * 9000)])[:3000], "too early"),
    "tar.gz: cut header": (lambda: gzip.compress(pack_tar([(entry("a"), b"1")])[:300]), "damaged"),
    "gzip of something else": (lambda: gzip.compress(b"hello" * 500), "damaged, or no tar"),
    "gzip: damaged": (lambda: gzip.compress(os.urandom(9000))[:40] + b"\xff" * 90, "damaged"),
    "zip: parent": (lambda: pack_zip([("../x", b"1")]), "plain relative path"),
    "zip: absolute": (lambda: pack_zip([(zip_info("/x"), b"1")]), "plain relative path"),
    "zip: NUL": (lambda: with_nul(pack_zip([("a.html_.exe", b"1")])), "control character"),
    "zip: twice": (lambda: pack_zip([("a", b"1"), ("./a", b"2")]), "there twice"),
    "zip: symlink": (lambda: pack_zip([(zip_info("a", 0o120777), b"/etc/passwd")]), "a link or a special file"),
    "zip: cut": (lambda: pack_zip([("a", os.urandom(9000))])[:4000], "without its directory"),
    "zip: damaged": (lambda: pack_zip([("a", b"1" * 9000)]).replace(b"PK\1\2", b"PK\1\3"), "damaged"),
    "zip: rare method": (lambda: pack_zip([("a", b"1" * 9000)], zipfile.ZIP_BZIP2), "a rare way"),
    "zip64": (lambda: zip64(), "Zip64"),
    "text": (lambda: b"hello", "neither a zip"),
}  # fmt: skip


def zip64() -> bytes:
    data = pack_zip([("a", b"1")])
    at = data.rfind(b"PK\5\6")
    return data[:at] + b"PK\6\7" + b"\0" * 16 + data[at:]


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_an_archive_is_told(tmp_path: Path, name: str) -> None:
    make, words = BAD[name]
    with pytest.raises(ArchiveRefused) as caught:
        unpack_bytes(make(), tmp_path)
    assert words in caught.value.sentence
    assert not (tmp_path / "x").exists()


def test_an_empty_archive_has_no_files(tmp_path: Path) -> None:
    with pytest.raises(EmptySource):
        unpack_bytes(pack_zip([]), tmp_path)


def zeros_gz(size: int) -> bytes:
    header = entry("zeros", size=size).tobuf(tarfile.GNU_FORMAT)
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as packed:
        packed.write(header)
        for _ in range(size // MIB):
            packed.write(bytes(MIB))
    return out.getvalue()


def overlapping_zip(count: int) -> bytes:
    """Many entries of a directory that all lead to one file's bytes."""
    body = pack_zip([("a", bytes(MIB))])
    at = body.find(b"PK\1\2")
    end = body.rfind(b"PK\5\6")
    one = body[at:end]
    entries = b"".join(one[:46] + b"%05d" % number for number in range(count))
    entries = entries.replace(one[:46], one[:28] + struct.pack("<H", 5) + one[30:46])
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count % 65536, count % 65536, len(entries), at, 0)
    return body[:at] + entries + tail


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a file of zeros": (lambda: zeros_gz(64 * MIB), "times its size"),
    "a file over its limit": (lambda: pack_tar([(entry("a"), os.urandom(3 * MIB))]), "more than 2.0 MiB"),
    "all files over their limit": (
        lambda: pack_tar((entry(f"a{n}"), os.urandom(MIB)) for n in range(9)), "more than 8.0 MiB in all",
    ),
    "a zip of zeros": (lambda: pack_zip([("a", bytes(2 * MIB))]), "times its size"),
    "a zip whose entries are one": (lambda: overlapping_zip(2000), "header b'a' differ"),
    "empty files": (lambda: pack_tar((entry(f"{n}"), b"") for n in range(501)), "more than 500 files"),
    "empty folders": (
        lambda: pack_tar((entry(f"{n}/", tarfile.DIRTYPE), b"") for n in range(501)), "more than 500 folders",
    ),
    "a zip's endless directory": (lambda: pack_zip((f"{n:0250}", b"") for n in range(30_000)), "too many entries"),
    "a header that never ends": (
        lambda: pack_tar([(entry("a", pax_headers={"comment": "x" * 200_000}), b"1")]), "header that is too long",
    ),
}  # fmt: skip
SMALL = BuildLimits(output_files=500, output_bytes=8 * MIB, output_file_bytes=2 * MIB)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_stopped_before_it_is_large(tmp_path: Path, name: str) -> None:
    make, words = BOMBS[name]
    limits = SMALL if "zeros" not in name or "zip" in name else BuildLimits()
    data = make()
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveRefused) as caught:
            unpack_bytes(data, tmp_path, limits)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert any(word in caught.value.sentence for word in words.split("|")), caught.value.sentence
    written = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert written <= 2 * limits.output_bytes
    assert peak < 64 * MIB


def test_many_small_files_take_no_time_for_each_other(tmp_path: Path) -> None:
    data = pack_tar(((entry(f"d{n % 50}/{n}.txt"), b"%d" % n) for n in range(5000)), mode="w:gz")
    assert len(unpack_bytes(data, tmp_path)) == 5000


@given(st.binary(max_size=600))
def test_any_header_is_read_or_refused(data: bytes) -> None:
    for read in (parse_tar_header, parse_pax):
        try:
            read(data)
        except ArchiveRefused:
            continue


@given(st.binary(max_size=2000), st.sampled_from([b"", b"\x1f\x8b", b"PK\3\4", b"PK\5\6"]))
def test_any_bytes_are_unpacked_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, mark: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    try:
        unpack_bytes(mark + data, folder)
    except (ArchiveRefused, EmptySource):
        pass
    finally:
        shutil.rmtree(folder)


@given(st.integers(0, 3000), st.integers(0, 255))
def test_any_byte_of_an_archive_may_be_another(tmp_path_factory: pytest.TempPathFactory, at: int, value: int) -> None:
    folder = tmp_path_factory.mktemp("any")
    good = bytearray(pack_zip(FILES.items()) if value % 2 else pack_tar((entry(n), d) for n, d in FILES.items()))
    good[at % len(good)] = value
    try:
        unpack_bytes(bytes(good), folder)
    except (ArchiveRefused, EmptySource):
        pass
    finally:
        shutil.rmtree(folder)


def test_archives_are_known_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(pack_zip([("a", b"1")]))
    (tmp_path / "b.zip").write_bytes(b"hello")
    assert is_archive(tmp_path / "a")
    assert not is_archive(tmp_path / "b.zip")
    assert not is_archive(tmp_path)
