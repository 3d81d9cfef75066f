"""Requests of git hosts' webhooks: the signature over the bytes as they came, and only then what they say.

What every host plugin needs of it is here; what a field of one host's payload means is in that host's plugin.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from vclone_core.errors import BadSignature, Invalid
from vclone_core.models import BranchDeleted, Ignored, Push

Headers = Sequence[tuple[str, str]]

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_ID: Final = re.compile(r"[!-~]{1,100}")
HEADS: Final = "refs/heads/"


def one_header(headers: Headers, name: str) -> str:
    """Return the value of a field that is there once; empty where it isn't there.

    Raises `BadSignature` where it is there twice: which one counts would be anybody's guess.
    """
    found = [value for key, value in headers if key.lower() == name]
    if len(found) > 1:
        raise BadSignature(hint=f"Send {name} once.")
    return found[0].strip() if found else ""


def check_signature(secret: str, body: bytes, given: str) -> None:
    """Raise `BadSignature` unless `given` is the HMAC-SHA256 of the body, as 64 lower-case hex digits."""
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    if not secret or not _DIGEST.fullmatch(given) or not hmac.compare_digest(given, expected):
        raise BadSignature()


def check_token(secret: str, given: str) -> None:
    """Raise `BadSignature` unless `given` is the secret itself; how much of it is right takes no less time."""
    is_right = hmac.compare_digest(hashlib.sha256(given.encode()).digest(), hashlib.sha256(secret.encode()).digest())
    if not secret or not is_right:
        raise BadSignature()


def check_delivery_id(text: str) -> str:
    """Return a delivery's id, 1 to 100 visible characters; raise `Invalid` otherwise."""
    if not _ID.fullmatch(text):
        raise Invalid(what="the delivery has no id")
    return text


def parse_payload(body: bytes, content_type: str) -> Mapping[str, Any]:
    """Return the JSON object in a body that was found genuine; raise `Invalid` where there is none.

    It is UTF-8 (RFC 8259 §8.1), whatever the type says of a charset. GitHub may also send it as the field `payload` of
    a form.
    """
    try:
        text = body.decode()
        if content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
            text = dict(parse_qsl(text, strict_parsing=True, max_num_fields=10)).get("payload", "")
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise Invalid(what="the body is not JSON in UTF-8") from None
    if not isinstance(found, dict):
        raise Invalid(what="the body is no JSON object")
    return found


def dig(payload: Any, path: str) -> Any:
    """Return what stands at a dotted path; None where there is no such thing.

    >>> dig({"a": {"b": [1]}}, "a.b"), dig({"a": None}, "a.b")
    ([1], None)
    """
    for name in path.split("."):
        if not isinstance(payload, Mapping):
            return None
        payload = payload.get(name)
    return payload


def dig_text(payload: Any, path: str, *, limit: int = 500) -> str:
    """Return the text at a dotted path, cut to `limit` characters; empty where there is no text.

    What no database keeps (U+0000, halves of characters) is replaced.

    >>> dig_text({"a": {"b": "x" + chr(0) + chr(0xD800)}}, "a.b")
    'x\ufffd?'
    """
    found = dig(payload, path)
    if not isinstance(found, str):
        return ""
    return found[:limit].replace("\0", "\ufffd").encode(errors="replace").decode()


def dig_number(payload: Any, path: str, *, what: str) -> int:
    """Return the number of a pull request at a dotted path; raise `Invalid` where there is none."""
    found = dig(payload, path)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 < found < 2**31:
        raise Invalid(what=f"the {what} has no number")
    return found


def dig_moment(payload: Any, path: str) -> float | None:
    """Return the Unix time at a dotted path, a whole number of seconds; None where there is none."""
    found = dig(payload, path)
    return float(found) if isinstance(found, int) and 0 < found < 2**40 else None


def branch_of(ref: str) -> str | None:
    """Return the branch that a full ref names; None for a tag and whatever else there is.

    >>> branch_of("refs/heads/feat/x"), branch_of("refs/tags/v1")
    ('feat/x', None)
    """
    return ref.removeprefix(HEADS) if ref.startswith(HEADS) and ref != HEADS else None


def read_push(
    repository: str, ref: str, before: str, after: str, *, message: str, author: str, is_deleted: bool = False
) -> Push | BranchDeleted | Ignored:
    """Return what a push of one full ref from one commit to another means; no commit is empty or all zeros."""
    branch = branch_of(ref)
    if branch is None:
        return Ignored("a push of no branch deploys nothing", repository)
    before = "" if is_nothing(before) else before
    if is_deleted or is_nothing(after):
        return BranchDeleted(repository, branch, before)
    return Push(repository, branch, before, after, message=message, author=author)


def is_nothing(sha: str) -> bool:
    """Say whether hosts mean "there is no commit" by this id: empty, or all zeros."""
    return not sha.strip("0")


def read_time(text: str) -> float | None:
    """Return the Unix time that a host wrote, in ISO 8601 or as GitLab does; None for what is no time.

    >>> read_time("2026-01-02T03:04:05Z") == read_time("2026-01-02 03:04:05 UTC")
    True
    """
    try:
        found = datetime.fromisoformat(text.strip().removesuffix(" UTC").replace("Z", "+00:00"))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
