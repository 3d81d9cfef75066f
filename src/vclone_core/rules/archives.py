"""What an uploaded archive may hold, counted while it is read; and what a header of a tar file says.

https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html (ustar and pax interchange formats)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vclone_core.errors import ArchiveRefused
from vclone_core.models import BuildLimits
from vclone_core.rules.output import check_path, format_size

BLOCK_BYTES: Final = 512
# A bomb's ratio is in the thousands; text seldom comes to thirty. Small archives may be anything.
RATIO_LIMIT: Final = 100
RATIO_FREE_BYTES: Final = 1024**2
EXTENSION_LIMIT_BYTES: Final = 64 * 1024
_PAX: Final = re.compile(rb"([0-9]{1,10}) ")
_REGULAR: Final = b"\0" + b"0" + b"7"
_REFUSED: Final = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe"}


@dataclass(frozen=True, slots=True)
class TarHeader:
    """One header. `kind` is `file`, `folder`, `pax`, `name` (a long name follows) or `skip` (nothing of use does)."""

    name: str
    size: int
    kind: str
    is_executable: bool


class ArchiveTally:
    """Counts an archive's entries and bytes; raises `ArchiveRefused` at the first that is too much, or no plain file.

    `size_bytes` is the archive's own size.
    """

    def __init__(self, limits: BuildLimits, size_bytes: int) -> None:
        self._limits = limits
        self._archive_bytes = size_bytes
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self.size_bytes = 0

    def enter(self, name: str, *, is_folder: bool) -> str | None:
        """Count an entry; return its path, None for one that means nothing (the root itself, a system's own files)."""
        path = name.removeprefix("./").rstrip("/") if is_folder else name.removeprefix("./")
        if path in ("", "."):
            return None
        if problem := check_path(path):
            raise ArchiveRefused(what=f"the path {name[:200]!r} {problem}")
        parts = path.split("/")
        if parts[0] == "__MACOSX" or parts[-1].startswith("._"):
            return None
        above = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        if path in self._files or (not is_folder and path in self._folders) or above & self._files:
            raise ArchiveRefused(what=f"the path {name[:200]!r} is there twice")
        self._folders |= above
        (self._folders if is_folder else self._files).add(path)
        limit = self._limits.output_files
        if len(self._files) > limit or len(self._folders) > limit:
            many = "files" if len(self._files) > limit else "folders"
            raise ArchiveRefused(what=f"it has more than {limit:,} {many}")
        return path

    def expect(self, path: str, size: int) -> None:
        """Check the size that a file says it has, before any of it is read."""
        if size > self._limits.output_file_bytes:
            raise ArchiveRefused(what=f"{path} has more than {format_size(self._limits.output_file_bytes)}")

    def take(self, path: str, size: int, so_far: int) -> None:
        """Count `size` bytes of a file that really came, `so_far` of it with them."""
        self.expect(path, so_far)
        self.size_bytes += size
        if self.size_bytes > self._limits.output_bytes:
            raise ArchiveRefused(what=f"it has more than {format_size(self._limits.output_bytes)} in all")
        self.compare(self.size_bytes, self._archive_bytes)

    def compare(self, unpacked: int, packed: int) -> None:
        """Check how much came out of how much."""
        if unpacked > max(RATIO_FREE_BYTES, RATIO_LIMIT * packed):
            raise ArchiveRefused(what=f"it unpacks to more than {RATIO_LIMIT} times its size")


def parse_tar_header(block: bytes) -> TarHeader:
    """Return what a header says; raise `ArchiveRefused` for one that is damaged, or of what isn't taken."""
    checked = block[:148] + b" " * 8 + block[156:]
    if len(block) != BLOCK_BYTES or _read_number(block[148:156]) != sum(checked):
        raise ArchiveRefused(what="it is damaged, or no tar file")
    name = _read_text(block[:100])
    if block[257:262] == b"ustar" and (prefix := _read_text(block[345:500])) and block[263:265] == b"00":
        name = f"{prefix}/{name}"
    size, kind = _read_number(block[124:136]), block[156:157]
    if kind in _REFUSED:
        raise ArchiveRefused(what=f"{name[:200]!r} is {_REFUSED[kind]}")
    if kind == b"5" or (kind in _REGULAR and name.endswith("/")):
        return TarHeader(name, 0, "folder", False)
    if kind in _REGULAR:
        return TarHeader(name, size, "file", bool(_read_number(block[100:108]) & 0o100))
    special = {b"x": "pax", b"L": "name", b"g": "skip", b"K": "skip", b"V": "skip"}.get(kind)
    if special is None:
        raise ArchiveRefused(what=f"{name[:200]!r} is of a kind that is not taken ({kind!r})")
    if size > EXTENSION_LIMIT_BYTES:
        raise ArchiveRefused(what=f"{name[:200]!r} has a header that is too long")
    return TarHeader(name, size, special, False)


def parse_pax(data: bytes) -> Mapping[str, str]:
    """Return the records `length key=value` of an extended header."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data) and data[at] != 0:
        length = _PAX.match(data, at)
        end = at + int(length[1]) if length else 0
        record = data[length.end() : end - 1] if length else b""
        key, equals, value = record.partition(b"=")
        if not length or not equals or end > len(data) or data[end - 1 : end] != b"\n":
            raise ArchiveRefused(what="it has an extended header that can't be read")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at = end
    if any(key.startswith("GNU.sparse") for key in found):
        raise ArchiveRefused(what="it has files with holes, which are not taken")
    return found


def read_pax_size(pax: Mapping[str, str], size: int) -> int:
    """Return a file's size, as its extended header says it where it does."""
    said = pax.get("size")
    if said is None:
        return size
    if not said.isascii() or not said.isdigit() or len(said) > 20:
        raise ArchiveRefused(what="it has an extended header that can't be read")
    return int(said)


def _read_number(data: bytes) -> int:
    if data[:1] == b"\x80":
        return int.from_bytes(data[1:], "big")
    text = data.strip(b" \0")
    try:
        return int(text, 8) if text else 0
    except ValueError:
        raise ArchiveRefused(what="it is damaged, or no tar file") from None


def _read_text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
