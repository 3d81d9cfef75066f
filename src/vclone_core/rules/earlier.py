"""Files of earlier builds that open pages still ask for, carried from manifest to manifest.

A page that was loaded before a deploy goes on asking for the fingerprinted files of its own build. The build keeps a
list of them in the new manifest, so that the edge finds them without a further look-up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from vclone_core.models import EarlierFile, FileEntry, Manifest
from vclone_core.rules.output import is_fingerprinted
from vclone_core.rules.types import pick_type

LIMIT: Final = 2_000
DAY_S: Final = 86_400


def carry_forward(
    files: Mapping[str, FileEntry], before: Sequence[Manifest], *, now_s: int, kept_s: float, limit: int = LIMIT
) -> dict[str, EarlierFile]:
    """Return the immutable files of the manifests `before`, the newest first, which `files` don't have.

    What the manifests have themselves counts as replaced now; what they carry keeps its time, and goes after `kept_s`.
    Of more than `limit` those go that were replaced first.
    """
    carried: dict[str, EarlierFile] = {}
    for manifest in before if kept_s > 0 else ():
        own = {path: EarlierFile(entry, now_s) for path, entry in manifest.files.items() if entry.immutable}
        for path, file in {**manifest.earlier, **own}.items():
            known = carried.get(path)
            if path in files or now_s - file.replaced_s > kept_s:
                continue
            if known is None or known.replaced_s < file.replaced_s:
                carried[path] = file
    kept = sorted(carried.items(), key=lambda item: (-item[1].replaced_s, item[0]))[:limit]
    return dict(sorted(kept))


def may_be_earlier(files: Mapping[str, FileEntry], roots: frozenset[str], path: str) -> bool:
    """Say whether a path looks like a fingerprinted file that these files may once have been deployed with.

    `roots` are the top folders in which they have immutable ones. Any other missing path needs no look at an earlier
    deployment.
    """
    if path in files or path.endswith("/"):
        return False
    immutable = ("/**",) if top_folder(path) in roots else ()
    return is_fingerprinted(path, pick_type(path), immutable=immutable, is_copied=False)


def top_folder(path: str) -> str:
    """Return the first folder of a path; empty for a file at the top.

    >>> top_folder("/_next/static/a.js"), top_folder("/a.js")
    ('_next', '')
    """
    first, slash, _ = path[1:].partition("/")
    return first if slash else ""
