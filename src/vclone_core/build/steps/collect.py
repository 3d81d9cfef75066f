"""*collect*, the fifth step: which files make the deployment. Links out of the output and special files are refused."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from vclone_core.build.context import OutputFile, Work
from vclone_core.errors import OutputMissing, OutputRefused
from vclone_core.models import BuildLimits, SourceFile
from vclone_core.rules.headers_file import join_headers, parse_headers
from vclone_core.rules.output import Tally, check_path, format_size, is_secret, is_skipped, pick_output
from vclone_core.rules.redirects_file import join_redirects, parse_redirects
from vclone_core.rules.route_sources import RULE_FILES, OutputConfig, clean_pages, parse_output_config
from vclone_core.rules.sources import is_ready_output
from vclone_core.rules.types import pick_type
from vclone_core.rules.vercel_config import NAME as VERCEL_JSON
from vclone_core.stores.folders import read_text

READY_OUTPUT: Final = ".vercel/output"
MAX_CONFIG_BYTES: Final = 4 * 1024**2
MAX_RULES_BYTES: Final = 16 * 1024**2
PRESENT_NAMES: Final = 20
TOLD_PROBLEMS: Final = 100


async def collect_output(work: Work) -> None:
    """Find the output and list its files; raise `OutputMissing`, `OutputRefused` or `DetectFailed`."""
    if _needs_source(work):
        await work.place_source()
    found = await asyncio.to_thread(_find_ready_output, work)
    if found is not None:
        work.output, work.config = found
    elif work.plan is None:
        work.output = work.folder
    else:
        work.output = await asyncio.to_thread(_find_output, work)
    work.output = await asyncio.to_thread(_refuse_links, work.folder, work.output)
    is_prebuilt = work.plan is None
    is_plain = work.plan is not None and work.output.samefile(work.root)
    if work.config is None:
        await _read_rule_files(work)
    walk = _Walk(work, is_plain=is_plain, keeps_all=is_prebuilt)
    if work.upload is None or work.upload.is_placed:
        files = await asyncio.to_thread(walk.list_all)
    else:
        files = walk.list_uploaded(work.upload.files, below=work.output.relative_to(os.path.realpath(work.folder)))  # noqa: ASYNC240
    for path in walk.secrets[:PRESENT_NAMES]:
        await work.build.log.line(f"{path} is never deployed: it may hold secrets")
    if not files:
        raise OutputRefused(what="the output folder has no files", hint="Check the build command and its log above.")
    work.files = files
    size = sum(file.size for file in files)
    where = work.output.relative_to(os.path.realpath(work.folder)).as_posix()  # noqa: ASYNC240
    await work.build.log.line(f"{len(files):,} files, {format_size(size)}, from {where}")


def _needs_source(work: Work) -> bool:
    """Say whether more of an upload has to lie in the folder than its names and rules."""
    if work.upload is None:
        return False
    copied_from = work.detection.definition.copied_from if work.detection else None
    has_wildcard = work.plan is not None and any("*" in path for path in work.plan.output_alternatives)
    return bool(copied_from) or has_wildcard or is_ready_output(work.upload.files, is_prebuilt=work.plan is None)


def _find_ready_output(work: Work) -> tuple[Path, OutputConfig] | None:
    """Return the static folder and the configuration of a Build Output v3, where the build or the upload has one."""
    places = [work.root / READY_OUTPUT]
    if work.plan is None and (work.folder / "static").is_dir():
        places.append(work.folder)
    for place in places:
        if (text := _read_config(work.folder, place / "config.json")) is None:
            continue
        config = parse_output_config(text)
        functions = place / "functions"
        if functions.is_dir() and any(functions.rglob("*.func")):
            raise OutputRefused(
                what="it has functions, and only static output can be served",
                hint="Configure the framework for a static export.",
            )
        return place / "static", config
    return None


async def _read_rule_files(work: Work) -> None:
    """Read `_redirects` and `_headers`, and tell what of them can't be used."""
    assert work.output is not None
    try:
        redirects = await asyncio.to_thread(read_text, work.output, "_redirects", limit_bytes=MAX_RULES_BYTES)
        headers = await asyncio.to_thread(read_text, work.output, "_headers", limit_bytes=MAX_RULES_BYTES)
    except ValueError as error:
        raise OutputRefused(what=str(error)) from error
    log = work.build.log
    if redirects is not None:
        rules = work.redirects = await asyncio.to_thread(parse_redirects, redirects)
        await log.line(f"_redirects: {len(rules.forced) + len(rules.others):,} rules")
    if headers is not None:
        work.headers = await asyncio.to_thread(parse_headers, headers)
        await log.line(f"_headers: {len(work.headers.routes):,} rules")
    # What stands in `_redirects` and `_headers` goes before what stands in netlify.toml, as at Netlify.
    work.redirects = join_redirects(work.redirects, work.netlify.redirects)
    work.headers = join_headers(work.headers, work.netlify.headers)
    problems = (*work.redirects.problems, *work.headers.problems)
    for problem in problems[:TOLD_PROBLEMS]:
        await log.line(problem)
    if len(problems) > TOLD_PROBLEMS:
        await log.line(f"and {len(problems) - TOLD_PROBLEMS:,} more such lines")


def _refuse_links(folder: Path, output: Path) -> Path:
    """Return where the output really lies; raise `OutputRefused` when a link leads there, wherever it points."""
    name = output.relative_to(folder)
    real = Path(os.path.realpath(folder)) / name
    if Path(os.path.realpath(output)) != real:
        raise OutputRefused(what=f"the output folder {name} is, or lies behind, a link")
    if not real.is_dir():
        raise OutputMissing(expected=name.as_posix(), present="none")
    return real


def _read_config(folder: Path, path: Path) -> str | None:
    try:
        return read_text(folder, path.relative_to(folder).as_posix(), limit_bytes=MAX_CONFIG_BYTES)
    except ValueError as error:
        raise OutputRefused(what=str(error)) from error


def _find_output(work: Work) -> Path:
    plan = work.plan
    assert plan is not None
    candidates = [path for path in (*plan.output_alternatives, plan.output_directory) if _is_plain(path)]
    picked = pick_output(candidates, dict(_list_folders(work.root, candidates)))
    if picked is None:
        names = [name for name, entry in _list_names(work.root).items() if entry and not name.startswith(".")]
        present = [name for name in names if name != "node_modules"][:PRESENT_NAMES]
        # The definition's words may hold braces, which mean facts in a hint.
        hint = plan.output_hint.replace("{", "{{").replace("}", "}}")
        raise OutputMissing(
            expected=plan.output_directory,
            present=", ".join(present) or "none",
            hint=f"{hint} Folders that exist: {{present}}." if hint else None,
        )
    return work.root if picked == "." else work.root / picked


def _is_plain(path: str) -> bool:
    return path == "." or check_path(path) is None


def _list_folders(root: Path, candidates: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the folders that the candidates go through, with their names; links are no folders here."""
    wanted = {"."} | {"/".join(parts[:depth]) for parts in map(_split, candidates) for depth in range(len(parts) + 1)}
    queue = ["."]
    while queue:
        path = queue.pop()
        names = _list_names(root / path)
        yield path, list(names)
        for name, is_folder in names.items():
            below = name if path == "." else f"{path}/{name}"
            if is_folder and any(_leads_to(below, one) for one in wanted):
                queue.append(below)


def _split(path: str) -> list[str]:
    return path.split("/")


def _leads_to(path: str, pattern: str) -> bool:
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) <= len(wanted) and all(w in ("*", p) for p, w in zip(parts, wanted, strict=False))


def _list_names(folder: Path) -> dict[str, bool]:
    """Return the names in a folder, and whether each is a folder itself."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    except OSError:
        return {}


class _Walk:
    """One walk over an output: every path is checked, every file counted before any is read."""

    def __init__(self, work: Work, *, is_plain: bool, keeps_all: bool) -> None:
        assert work.output is not None
        self.root = work.output
        self.is_plain = is_plain
        self.keeps_all = keeps_all
        self.limits: BuildLimits = work.build.limits
        self.tally = Tally(work.build.limits)
        self.overrides = {} if work.config is None else work.config.overrides
        self.has_clean_urls = work.config is None and work.vercel.clean_urls
        self.secrets: list[str] = []
        copied_from = work.detection.definition.copied_from if work.detection else None
        self.copied = work.root / copied_from if copied_from else None

    def list_all(self) -> tuple[OutputFile, ...]:
        """Return every file to be deployed, in the order of names; `secrets` has what was left out as one."""
        return self._clean(tuple(self._walk("", "")))

    def list_uploaded(self, files: Mapping[str, SourceFile], *, below: Path) -> tuple[OutputFile, ...]:
        """Return the same of an upload whose files lie in the store alone; `below` is where the output begins."""
        depth = len(below.parts)
        listed = sorted((path.split("/"), file) for path, file in files.items())
        inside = [(names[depth:], file) for names, file in listed if tuple(names[:depth]) == below.parts]
        return self._clean(tuple(self._take_uploaded(inside)))

    def _take_uploaded(self, listed: Iterable[tuple[list[str], SourceFile]]) -> Iterator[OutputFile]:
        for names, file in listed:
            path = "/".join(names)
            ends = [index for index, name in enumerate(names) if not self._keeps(name, "/".join(names[:index]))]
            if ends:
                if is_secret(names[ends[0]]):
                    self.secrets.append("/".join(names[: ends[0] + 1]))
                continue
            self.tally.add(path, file.size)
            yield replace(self._make_file(path, path, file.size), sha256=file.sha256)

    def _clean(self, files: tuple[OutputFile, ...]) -> tuple[OutputFile, ...]:
        if not self.has_clean_urls:
            return files
        clean = clean_pages(file.path for file in files)
        return tuple(
            replace(file, path=clean[file.path], type=file.type or pick_type(file.path)) if file.path in clean else file
            for file in files
        )

    def _walk(self, path: str, local: str) -> Iterator[OutputFile]:
        """Yield the files below `path`, which lie below `local`; they differ only behind a link to a folder."""
        with os.scandir(self.root / local) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            if is_secret(entry.name):
                self.secrets.append(f"{path}{entry.name}")
            if not self._keeps(entry.name, path):
                continue
            yield from self._take(entry, f"{path}{entry.name}", f"{local}{entry.name}")

    def _keeps(self, name: str, folder: str) -> bool:
        """Say whether a name in a folder of the output (empty: the output itself) is deployed."""
        if is_secret(name) or (not self.keeps_all and is_skipped(name, is_plain=self.is_plain)):
            return False
        return bool(folder) or not (name in RULE_FILES or (self.keeps_all and name == VERCEL_JSON))

    def _take(self, entry: os.DirEntry[str], path: str, local: str) -> Iterator[OutputFile]:
        if problem := check_path(path):
            raise OutputRefused(what=f"the path {path[:200]!r} {problem}")
        if entry.is_symlink():
            local = self._follow(path, local)
        if entry.is_dir():
            yield from self._walk(f"{path}/", f"{local}/")
        elif entry.is_file():
            size = entry.stat().st_size
            self.tally.add(path, size)
            yield self._make_file(path, local, size)
        else:
            raise OutputRefused(what=f"{path} is neither a file nor a folder")

    def _follow(self, path: str, local: str) -> str:
        """Return where a link leads, as a path below the root."""
        link = self.root / local
        target = Path(os.path.realpath(link))
        if not target.is_relative_to(self.root):
            raise OutputRefused(
                what=f"{path} is a link to {link.readlink()}, outside of the output",
                hint="Let the build copy the file into the output.",
            )
        if not target.exists():
            raise OutputRefused(what=f"{path} is a link to {link.readlink()}, which does not exist")
        if link.is_relative_to(target):
            raise OutputRefused(what=f"{path} is a link to a folder that holds it")
        inside = target.relative_to(self.root).as_posix()
        names = inside.split("/")
        if any(map(is_secret, names)) or (
            not self.keeps_all and any(is_skipped(name, is_plain=self.is_plain) for name in names)
        ):
            raise OutputRefused(what=f"{path} is a link to {inside}, which is never deployed")
        return inside

    def _make_file(self, path: str, local: str, size: int) -> OutputFile:
        served, type_ = self.overrides.get(path, (None, None))
        if served is not None and (problem := check_path(served.strip("/") or "index.html")):
            raise OutputRefused(what=f"the override path {served[:200]!r} {problem}")
        is_copied = self.copied is not None and os.path.lexists(self.copied / path)
        if served is not None and type_ is None:
            # A page whose `.html` was taken away is still a page.
            type_ = pick_type(path)
        return OutputFile(f"/{(served or path).strip('/')}", local, size, type_, is_copied)
