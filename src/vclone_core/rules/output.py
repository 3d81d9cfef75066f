"""What of a build's folders is deployed, under which paths, and how long browsers may keep it. Asked by collect."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from vclone_core.errors import OutputRefused
from vclone_core.models import BuildLimits
from vclone_core.rules.globs import match_glob

MAX_PATH_BYTES: Final = 1024
MAX_DEPTH: Final = 32
COMPRESS_FROM_BYTES: Final = 1024
# A variant that saves less than this share isn't worth its place in the store.
WORTH: Final = 0.9
# What a folder of sources holds beside the site, as Vercel leaves it out.
_NEVER: Final = frozenset({".git", ".hg", ".svn", ".vercel", ".vclone", ".DS_Store"})
# What holds passwords and keys, wherever it lies and whoever put it there.
_SECRET: Final = frozenset(
    {
        ".env", ".envrc", ".npmrc", ".yarnrc", ".yarnrc.yml", ".pypirc", ".netrc", ".git-credentials", ".htpasswd",
        ".pgpass", ".my.cnf", ".ssh", ".aws", ".azure", ".gnupg", ".kube", ".docker", "id_rsa", "id_dsa", "id_ecdsa",
        "id_ed25519",
    }
)  # fmt: skip
_SOURCE_ONLY: Final = frozenset(
    {
        "node_modules", "package.json", "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml",
        "bun.lock", "bun.lockb", "vercel.json", "netlify.toml", ".gitignore", ".gitattributes", ".gitmodules",
        ".vercelignore", ".nvmrc",
    }
)  # fmt: skip


def is_skipped(name: str, *, is_plain: bool) -> bool:
    """Say whether a file or folder of this name is left out; `is_plain`: the output is the source folder itself."""
    return name in _NEVER or is_secret(name) or (is_plain and name in _SOURCE_ONLY)


def is_secret(name: str) -> bool:
    """Say whether a file or folder of this name is never deployed, not even as part of a finished output.

    >>> is_secret(".env.production"), is_secret(".well-known")
    (True, False)
    """
    lower = name.lower()
    return lower in _SECRET or lower.startswith(".env.")


def pick_output(candidates: Sequence[str], folders: Mapping[str, Sequence[str]]) -> str | None:
    """Return the first candidate that is a folder; `*` stands for a folder's only entry.

    `folders` maps each folder that exists, by its path from the root (`.` for that), to the names in it.

    >>> pick_output(["dist/*/browser", "dist"], {".": ["dist"], "dist": ["app"], "dist/app": ["browser"],
    ...             "dist/app/browser": ["index.html"]})
    'dist/app/browser'
    """
    for candidate in candidates:
        path = "."
        for segment in candidate.split("/"):
            if segment == "*":
                names = folders.get(path, ())
                segment = names[0] if len(names) == 1 else ""
            path = path if segment == "." else segment if path == "." else f"{path}/{segment}"
            if not segment or path not in folders:
                break
        else:
            return path
    return None


class Tally:
    """Counts an output against its limits, file by file, so that a bomb is refused before it is read."""

    def __init__(self, limits: BuildLimits) -> None:
        self._limits = limits
        self.files = 0
        self.size_bytes = 0

    def add(self, path: str, size: int) -> None:
        """Count one file; raise `OutputRefused` that names the limit it breaks."""
        self.files += 1
        self.size_bytes += size
        if size > self._limits.output_file_bytes:
            limit = format_size(self._limits.output_file_bytes)
            raise _refuse(f"{path} has {format_size(size)}, and a file may have {limit}", _HINT_SIZE)
        if self.files > self._limits.output_files:
            raise _refuse(f"it has more than {self._limits.output_files:,} files", _HINT_COUNT)
        if self.size_bytes > self._limits.output_bytes:
            limit = format_size(self._limits.output_bytes)
            raise _refuse(f"it has more than {limit} in all", _HINT_SIZE)


_HINT_SIZE: Final = "Keep large files elsewhere, or raise the limit of this platform."
_HINT_COUNT: Final = "Check that the output directory is the right one; node_modules is not meant to be served."


def _refuse(what: str, hint: str) -> OutputRefused:
    return OutputRefused(what=what, hint=hint)


def check_path(path: str) -> str | None:
    """Say why a relative path can't be part of a deployment or of an upload; None when it can."""
    segments = path.split("/")
    if not path or any(segment in ("", ".", "..") for segment in segments):
        return "is not a plain relative path"
    if "\0" in path or "\\" in path or any(ord(letter) < 32 or ord(letter) == 127 for letter in path):
        return "has a control character or a backslash"
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    if len(encoded) > MAX_PATH_BYTES:
        return f"is longer than {MAX_PATH_BYTES} bytes"
    if len(segments) > MAX_DEPTH:
        return f"is more than {MAX_DEPTH} folders deep"
    if any(len(segment.encode()) > 255 for segment in segments):
        return "has a name longer than 255 bytes"
    return None


# A content hash in a name: at least eight hex digits with both a letter and a figure (a date has no letter), behind
# `.`, `-` or `_` and before the extensions; or a name that is nothing but 20 or more of them.
_HASHED: Final = re.compile(
    r"(?:.*[.\-_])?(?P<hash>(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{8,64})(?:\.(?:chunk|min|bundle|module|esm))*(?:\.[a-z0-9]{1,8}){1,2}",
    re.IGNORECASE,
)
_NEVER_IMMUTABLE: Final = ("text/html", "application/manifest+json", "application/xhtml+xml")


def is_fingerprinted(path: str, content_type: str, *, immutable: Sequence[str], is_copied: bool) -> bool:
    """Say whether a file's name changes with its bytes, so that browsers may keep it for a year.

    `immutable` are the framework's globs; they don't count for a file that the build copied as it was.

    >>> is_fingerprinted("/app.1a2b3c4d.js", "text/javascript", immutable=(), is_copied=False)
    True
    """
    if content_type.startswith(_NEVER_IMMUTABLE):
        return False
    if not is_copied and any(match_glob(glob, path) for glob in immutable):
        return True
    name = path.rpartition("/")[2]
    found = _HASHED.fullmatch(name)
    return found is not None and (found.start("hash") > 0 or len(found["hash"]) >= 20)


def is_worth(original: int, compressed: int) -> bool:
    """Say whether a compressed copy saves enough to be kept."""
    return compressed <= original * WORTH


def format_size(size: int) -> str:
    """Return a size in bytes as people read it.

    >>> format_size(100 * 1024**2), format_size(999)
    ('100.0 MiB', '999 bytes')
    """
    for unit, power in (("GiB", 3), ("MiB", 2), ("KiB", 1)):
        if size >= 1024**power:
            return f"{size / 1024**power:.1f} {unit}"
    return f"{size} bytes"
