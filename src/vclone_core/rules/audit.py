"""The chain of the audit log: each entry's hash covers the entry and the hash before it, so none can be changed, taken
out or put in between without every later hash telling. What a log's end was, its last hash tells: keep it elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from vclone_core.models import AuditEntry

FIRST: Final = "0" * 64
FIELDS: Final = (
    "number", "at", "team_id", "actor_id", "action", "subject", "facts", "request_id", "address",
    "previous_hash", "hash",
)  # fmt: skip
TEXT_LIMIT: Final = 300
# A token in a path or a name: nobody should have put it there, and the log is for ever.
_TOKEN: Final = re.compile(r"\bvc[a-z]_[0-9A-Za-z]{46}")
_HIDDEN: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def clean(value: Any) -> Any:
    """Return a fact as it can be kept: short texts without control characters, whole numbers, and lists of these."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(one) for one in list(value)[:50]]
    return _TOKEN.sub("…", _HIDDEN.sub("\ufffd", str(value)))[:TEXT_LIMIT]


def moment(at: datetime) -> str:
    """Return a time as entries spell it: UTC, microseconds."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def chain_hash(previous_hash: str, entry: Mapping[str, Any]) -> str:
    """Return the hash of an entry, given as a JSON object of the export; its own hash and number are left out."""
    covered = [entry[name] for name in FIELDS if name not in ("number", "previous_hash", "hash")]
    text = json.dumps([previous_hash, *covered], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def entry_json(entry: AuditEntry) -> dict[str, Any]:
    """Return an entry as API and export spell it."""
    plain = {name: getattr(entry, name) for name in FIELDS}
    return {**plain, "at": moment(entry.at), "facts": dict(entry.facts)}


def find_break(entries: Iterable[Mapping[str, Any]]) -> tuple[int, Mapping[str, Any] | None]:
    """Check a team's entries, oldest first: return how many hold, and the first that doesn't (None: all do).

    An export may begin in the middle; from its first entry on, each must follow the one before.
    """
    previous: str | None = None
    count = 0
    for entry in entries:
        follows = previous is None or entry["previous_hash"] == previous
        if not follows or entry["hash"] != chain_hash(entry["previous_hash"], entry):
            return count, entry
        previous = entry["hash"]
        count += 1
    return count, None
