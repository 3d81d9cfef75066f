"""folder: which files travel, which stay, and what is refused before anything is created."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import pytest

from vclone_core.cli import folder
from vclone_core.cli.folder import hash_files, list_folder
from vclone_core.errors import EmptySource, Invalid, SourceRefused, TooLarge, VcloneError


def write(root: Path, *paths: str, **texts: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(texts.get(path, path))


def paths(root: Path, *, is_output: bool = False) -> list[str]:
    return [file.path for file in list_folder(root, is_output=is_output).files]


def test_every_file_travels_sorted_by_its_path(tmp_path: Path) -> None:
    write(tmp_path, "b/ü ü.txt", "a.html", "b/c/d.js", ".well-known/x")
    assert paths(tmp_path) == [".well-known/x", "a.html", "b/c/d.js", "b/ü ü.txt"]


def test_what_belongs_to_this_computer_stays(tmp_path: Path) -> None:
    write(tmp_path, "index.html", ".git/config", "node_modules/x/i.js", "a/node_modules/y.js", ".venv/z", ".DS_Store")
    write(tmp_path, ".vclone/project.json", ".vercel/project.json")
    assert paths(tmp_path) == ["index.html"]


def test_secrets_stay_and_are_named(tmp_path: Path) -> None:
    write(tmp_path, "index.html", ".env", "api/.env.local", ".env.example")
    listing = list_folder(tmp_path)
    assert [file.path for file in listing.files] == [".env.example", "index.html"]
    assert listing.secrets == (".env", "api/.env.local")


def test_ignore_files_count_as_in_git(tmp_path: Path) -> None:
    write(tmp_path, "a.log", "keep.log", "dist/x", "src/a.tmp", "src/deep/b.tmp", "other/b.tmp", "src/dist/y")
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\n/dist/\n# comment\n")
    (tmp_path / "src/.gitignore").write_text("*.tmp\n!deep/*.tmp\n")
    assert paths(tmp_path) == [
        ".gitignore", "keep.log", "other/b.tmp", "src/.gitignore", "src/deep/b.tmp", "src/dist/y"
    ]  # fmt: skip


def test_vcloneignore_takes_back_what_gitignore_leaves_out(tmp_path: Path) -> None:
    write(tmp_path, "dist/x", "notes.md")
    (tmp_path / ".gitignore").write_text("dist\n")
    (tmp_path / ".vcloneignore").write_text("!dist\nnotes.md\n.*ignore\n")
    assert paths(tmp_path) == ["dist/x"]


def test_a_finished_output_travels_whole(tmp_path: Path) -> None:
    write(tmp_path, "node_modules/x.js", "a.log", ".git/config", ".env")
    (tmp_path / ".gitignore").write_text("*.log\n")
    assert paths(tmp_path, is_output=True) == [".gitignore", "a.log", "node_modules/x.js"]


def test_links_inside_the_folder_travel_as_what_they_point_at(tmp_path: Path) -> None:
    write(tmp_path, "a/x.txt")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "y.txt").symlink_to(tmp_path / "a/x.txt")
    assert paths(tmp_path) == ["a/x.txt", "b/x.txt", "y.txt"]
    assert {file.sha256 for file in hash_files(list_folder(tmp_path).files)} == {hashlib.sha256(b"a/x.txt").hexdigest()}


def leaving(root: Path) -> None:
    (root / "out").symlink_to("/etc/hostname")


def leaving_by_a_neighbour_of_the_same_prefix(root: Path) -> None:
    neighbour = root.with_name(root.name + "-2")
    write(neighbour, "x")
    (root / "out").symlink_to(neighbour / "x")


def dangling(root: Path) -> None:
    (root / "out").symlink_to("missing")


def circular(root: Path) -> None:
    (root / "a").mkdir()
    (root / "a/out").symlink_to("..")


def to_a_secret(root: Path) -> None:
    write(root, ".env")
    (root / "out").symlink_to(".env")


def pipe(root: Path) -> None:
    os.mkfifo(root / "out")


def unix_socket(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "out"))


def not_utf8(root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/out\xff")).touch()


def too_deep(root: Path) -> None:
    root.joinpath(*["out"] * 150).mkdir(parents=True)


@pytest.mark.parametrize(
    "spoil",
    [
        leaving,
        leaving_by_a_neighbour_of_the_same_prefix,
        dangling,
        circular,
        to_a_secret,
        pipe,
        unix_socket,
        not_utf8,
        too_deep,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_what_cannot_travel_is_refused_by_name(spoil: object, tmp_path: Path) -> None:
    root = tmp_path / "site"
    write(root, "index.html")
    assert callable(spoil)
    spoil(root)
    with pytest.raises(SourceRefused, match="out"):
        list_folder(root)


@pytest.mark.parametrize(
    ("place", "error"),
    [("missing", Invalid), ("file", Invalid), ("empty", EmptySource), ("ignored", EmptySource), ("rule", Invalid)],
)
def test_a_folder_without_anything_to_deploy_is_refused(place: str, error: type[VcloneError], tmp_path: Path) -> None:
    write(tmp_path, "file", "ignored/x", "ignored/node_modules/y", "rule/x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "ignored/.gitignore").write_text("*\n")
    (tmp_path / "rule/.gitignore").write_text("!\n")
    with pytest.raises(error):
        list_folder(tmp_path / place)


def test_a_file_over_the_limit_is_refused_with_its_size(tmp_path: Path) -> None:
    with open(tmp_path / "film.mp4", "wb") as file:
        file.truncate(folder.FILE_LIMIT_BYTES + 1024**2)
    with pytest.raises(TooLarge, match=r"film\.mp4 \(101\.0 MiB\).*100 MiB"):
        list_folder(tmp_path)


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "FILES_LIMIT", 10)
    write(tmp_path, *[f"{index}.txt" for index in range(11)])
    with pytest.raises(TooLarge, match="10 files"):
        list_folder(tmp_path)


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a")
    listing = list_folder(tmp_path)
    (tmp_path / "a").unlink()
    with pytest.raises(SourceRefused, match="a can't be read"):
        hash_files(listing.files)


def test_executables_are_marked_and_hashes_are_of_the_bytes(tmp_path: Path) -> None:
    write(tmp_path, *[f"{index:03}.txt" for index in range(100)])
    (tmp_path / "run.sh").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    hashed = {file.path: file for file in hash_files(list_folder(tmp_path).files)}
    assert hashed["run.sh"].is_executable and not hashed["000.txt"].is_executable
    assert hashed["042.txt"].sha256 == hashlib.sha256(b"042.txt").hexdigest() and hashed["042.txt"].size == 7


def test_a_thousand_files_are_read(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.log\ndist/\n")
    for index in range(1000):
        write(tmp_path, f"{index % 30}/{index}.txt")
    assert len(hash_files(list_folder(tmp_path).files)) == 1001
