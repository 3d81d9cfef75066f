"""The file list of an upload is a stranger's: what it may say, and how it is stored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import Invalid, InvalidFields
from vclone_core.models import BuildLimits, SourceFile
from vclone_core.rules.sources import check_files, decode_files, encode_files

LIMITS = BuildLimits(output_files=5, output_bytes=1000, output_file_bytes=600)
SHA = "a" * 64


def file(path: str, size: int = 1, sha256: str = SHA) -> SourceFile:
    return SourceFile(path, sha256, size)


@pytest.mark.parametrize(
    "path", ["index.html", "a/b/c.txt", "a b/ü.html", ".vercel/output/config.json", "-rf", "...", "a" * 1024]
)
def test_paths_that_may_be_sent(path: str) -> None:
    check_files([file(path)], LIMITS)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../x",
        "a/./x",
        "a//x",
        "a/",
        ".",
        "..",
        "a\\b",
        "a\0b",
        "a\nb",
        "\ud800",
        "a" * 1025,
    ],
)
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(InvalidFields) as caught:
        check_files([file("ok.txt"), file(path)], LIMITS)
    assert [problem.field for problem in caught.value.problems] == ["files.1.path"]


@pytest.mark.parametrize(
    ("files", "fields"),
    [
        ([file("a"), file("a")], ["files.1.path"]),
        ([file("a"), file("a/b")], ["files.1.path"]),
        ([file("a/b"), file("a")], ["files.0.path"]),
        ([file("a", sha256="A" * 64)], ["files.0.sha256"]),
        ([file("a", -1)], ["files.0.size"]),
        ([file("a", 601)], ["files.0.size"]),
        ([file("a", 600), file("b", 600)], ["files"]),
        ([file(str(n)) for n in range(6)], ["files"]),
        ([file("../a", -1, "x"), file("b", -1)], ["files.0.path", "files.0.sha256", "files.0.size", "files.1.size"]),
    ],
)
def test_every_problem_is_told_at_once(files: list[SourceFile], fields: list[str]) -> None:
    with pytest.raises(InvalidFields) as caught:
        check_files(files, LIMITS)
    assert [problem.field for problem in caught.value.problems] == fields


@given(st.lists(st.builds(SourceFile, st.text(), st.text(), st.integers(), st.booleans()), max_size=5))
def test_a_list_comes_back_as_it_was_written(files: list[SourceFile]) -> None:
    assert sorted(decode_files(encode_files(files)), key=repr) == sorted(files, key=repr)


@given(st.binary() | st.text().map(str.encode))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        decode_files(data)


@given(st.lists(st.builds(SourceFile, st.text(), st.text(), st.integers(), st.booleans()), max_size=5))
def test_no_list_of_files_surprises(files: list[SourceFile]) -> None:
    try:
        check_files(files, LIMITS)
    except InvalidFields as error:
        assert error.problems
