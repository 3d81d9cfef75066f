"""Where things lie in the object store. The only place that spells a key, and says what one may look like."""

from __future__ import annotations

import re
from typing import Final

from vclone_core.errors import Invalid

KEY_LENGTH: Final = 512
SEGMENT_LENGTH: Final = 255  # a file's name, in the stores whose objects are files
_SEGMENT: Final = rf"(?!\.\.?(?:/|\Z))[A-Za-z0-9._-]{{1,{SEGMENT_LENGTH}}}"
_KEY: Final = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_PREFIX: Final = re.compile(rf"(?:{_SEGMENT}/)*[A-Za-z0-9._-]{{0,{SEGMENT_LENGTH}}}")


def check_object_key(key: str) -> str:
    """Return `key` if it is one: segments of `[A-Za-z0-9._-]` between `/`, never `.` or `..`; else raise `Invalid`."""
    if len(key) > KEY_LENGTH or not _KEY.fullmatch(key):
        raise Invalid(what=f"{key[:100]!r} is no key of an object")
    return key


def check_object_prefix(prefix: str) -> str:
    """Return `prefix` if some key can start with it; else raise `Invalid`. The empty one is every key's."""
    if len(prefix) > KEY_LENGTH or not _PREFIX.fullmatch(prefix):
        raise Invalid(what=f"{prefix[:100]!r} is no prefix of an object's key")
    return prefix


def blob_key(project_id: str, sha256: str) -> str:
    """Return the key of one file's bytes. Blobs are shared within a project and never across projects."""
    return f"{project_id}/blobs/{sha256}"


def manifest_key(project_id: str, deployment_id: str) -> str:
    """Return the key of a deployment's manifest; written last, so that what has one is whole."""
    return f"{project_id}/{deployment_id}/manifest.json"


def cache_key(project_id: str, key: str) -> str:
    """Return the key of one archive of a build cache."""
    return f"{project_id}/cache/{key}"
