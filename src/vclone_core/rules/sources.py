"""The file list of an uploaded source: what it may hold, how it is stored, and what of it a build reads."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from typing import Final

from vclone_core.errors import FieldProblem, Invalid, InvalidFields
from vclone_core.models import BuildLimits, SourceFile
from vclone_core.rules.globs import match_glob, split_globs

PATH_BYTES: Final = 1024
PROBLEMS_TOLD: Final = 100
_RULES: Final = frozenset({"vercel.json", "_redirects", "_headers"})
_PROJECTS: Final = frozenset({"package.json", "pnpm-workspace.yaml", "lerna.json", "nx.json", "netlify.toml"})
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def check_files(files: Sequence[SourceFile], limits: BuildLimits) -> None:
    """Raise `InvalidFields` with what is wrong with the files of an upload, by `files.{index}`.

    Paths are relative, with `/`, and leave their folder nowhere; no path is there twice, or is both file and folder.
    """
    problems = []
    for problem in _problems(files, limits):
        problems.append(problem)
        if len(problems) == PROBLEMS_TOLD:
            break
    if problems:
        raise InvalidFields(tuple(problems))


def encode_files(files: Sequence[SourceFile]) -> bytes:
    """Return the list as it is stored: JSON in the order of the paths, compressed."""
    ordered = sorted(files, key=lambda file: file.path)
    return zlib.compress(json.dumps({"files": [asdict(file) for file in ordered]}, separators=(",", ":")).encode())


def decode_files(data: bytes) -> tuple[SourceFile, ...]:
    """Return the list that `encode_files` wrote; raise `Invalid` when it is none."""
    try:
        return tuple(
            SourceFile(item["path"], item["sha256"], item["size"], item.get("is_executable", False))
            for item in json.loads(zlib.decompress(data))["files"]
        )
    except (KeyError, TypeError, ValueError, AttributeError, zlib.error) as error:
        raise Invalid(what=f"this is no list of files ({type(error).__name__})") from error


def list_read(paths: Collection[str], wanted: Sequence[str], *, root: str) -> list[str]:
    """Return which files of an upload the steps read before anything is built: rules, settings, and those `wanted`.

    `wanted` are globs below the root directory `root` (empty: the upload itself). Where a file says that there is
    something to be built, or that the root lies elsewhere, it is all of them.
    """
    if any(path.rpartition("/")[2] in _PROJECTS for path in paths):
        return list(paths)
    plain, globs = split_globs(tuple(wanted))
    names = frozenset(plain)
    below = f"{root}/" if root not in ("", ".") else ""

    def is_read(path: str) -> bool:
        if path.rpartition("/")[2] in _RULES:
            return True
        local = path.removeprefix(below)
        return path.startswith(below) and (local in names or any(match_glob(glob, local) for glob in globs))

    return [path for path in paths if is_read(path)]


def is_ready_output(paths: Collection[str], *, is_prebuilt: bool) -> bool:
    """Say whether an upload holds a Build Output v3, whose own configuration says what is served under which name."""
    return any(
        f"/{path}".endswith("/.vercel/output/config.json") or (is_prebuilt and path == "config.json") for path in paths
    )


def _problems(files: Sequence[SourceFile], limits: BuildLimits) -> Iterator[FieldProblem]:
    if len(files) > limits.output_files:
        yield FieldProblem("files", f"are {len(files)}; the limit is {limits.output_files}")
        return
    total = sum(file.size for file in files if file.size > 0)
    if total > limits.output_bytes:
        yield FieldProblem("files", f"are {total} bytes together; the limit is {limits.output_bytes}")
    paths = {file.path for file in files}
    seen: set[str] = set()
    for index, file in enumerate(files):
        if (problem := _path_problem(file.path)) is not None:
            yield FieldProblem(f"files.{index}.path", problem)
        elif file.path in seen:
            yield FieldProblem(f"files.{index}.path", f"{file.path} is there twice")
        elif (parent := next((folder for folder in _folders(file.path) if folder in paths), None)) is not None:
            yield FieldProblem(f"files.{index}.path", f"{parent} is a file and a folder at once")
        seen.add(file.path)
        if not _SHA256.fullmatch(file.sha256):
            yield FieldProblem(f"files.{index}.sha256", "is not 64 lower-case hex digits")
        if not 0 <= file.size <= limits.output_file_bytes:
            yield FieldProblem(f"files.{index}.size", f"is {file.size}; allowed are 0 to {limits.output_file_bytes}")


def _path_problem(path: str) -> str | None:
    if not path or path.startswith("/") or "\\" in path:
        return "must be relative, with / between its parts"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "must have no empty, . or .. part"
    if any(ord(letter) < 32 or ord(letter) == 127 or 0xD800 <= ord(letter) < 0xE000 for letter in path):
        return "must have no control characters"
    if len(path.encode()) > PATH_BYTES:
        return f"must be at most {PATH_BYTES} bytes"
    return None


def _folders(path: str) -> Iterator[str]:
    parts = path.split("/")
    for count in range(1, len(parts)):
        yield "/".join(parts[:count])
