"""Passes: what a visitor of a protected site shows. The API signs one, any edge can check it, no edge can make one.

A pass is `PAYLOAD.SIGNATURE` (both in URL-safe Base64; Ed25519, RFC 8032), for one host, and good as long as it says.
One for a person is bound to the browser that asked for it: the browser has a random mark in a cookie of the host, the
pass has the mark's hash. So a pass that was read off an address bar, a log or a `Referer` opens nothing anywhere else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PASS_BYTES: Final = 1024
# Signed along, so that no signature under this key can ever stand for anything else.
_PURPOSE: Final = b"vclone pass 1\0"
_FIELDS: Final = {"way": str, "host": str, "made_s": int, "ends_s": int, "generation": int, "link": str, "visitor": str}


class Way(StrEnum):
    """By what somebody was let in."""

    MEMBER = "member"
    PASSWORD = "password"  # noqa: S105 - a word, no password
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Pass:
    """Who may visit `host` from `made_s` to `ends_s` (Unix seconds).

    `generation` is of the project's passes of this way, `link` the share link's id, `visitor` the hash of the mark of
    the browser that it is for; empty: for whoever has it.
    """

    way: Way
    host: str
    made_s: int
    ends_s: int
    generation: int = 0
    link: str = ""
    visitor: str = ""


def make_key(seed: bytes) -> tuple[str, str]:
    """Return a project's key pair from 32 random bytes: what signs, and what verifies, both in Base64."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return _encode(key.private_bytes_raw()), _encode(key.public_key().public_bytes_raw())


def sign_pass(signing_key: str, asked: Pass) -> str:
    """Return a pass as text."""
    payload = json.dumps({name: getattr(asked, name) for name in _FIELDS}, separators=(",", ":")).encode()
    signature = Ed25519PrivateKey.from_private_bytes(_decode(signing_key)).sign(_PURPOSE + payload)
    return f"{_encode(payload)}.{_encode(signature)}"


def read_pass(key: str, text: str) -> Pass | None:
    """Return what a pass says if `key` verifies it; None for any other text. Whether it holds is another question."""
    if len(text) > PASS_BYTES or not key:
        return None
    head, _, tail = text.partition(".")
    try:
        payload = _decode(head)
        # The library compares in constant time; the payload is read only after that.
        Ed25519PublicKey.from_public_bytes(_decode(key)).verify(_decode(tail), _PURPOSE + payload)
        raw: Any = json.loads(payload)
        if set(raw) != set(_FIELDS) or any(type(raw[name]) is not kind for name, kind in _FIELDS.items()):
            return None
        return Pass(**{**raw, "way": Way(raw["way"])})
    except (InvalidSignature, ValueError, TypeError, binascii.Error):
        return None


def hash_mark(mark: str) -> str:
    """Return what a pass and the API know of a browser's mark."""
    return _encode(hashlib.sha256(b"vclone visitor\0" + mark.encode()).digest())


def hash_secret(secret: str) -> str:
    """Return what a browser of automation keeps in place of the secret: it doesn't lead back to it."""
    return _encode(hashlib.sha256(b"vclone bypass\0" + secret.encode()).digest())


def hash_bypass(kept: str) -> str:
    """Return what is stored and sent to edges of what `hash_secret` returned: it doesn't lead back to that either."""
    return _encode(hashlib.sha256(b"vclone bypass kept\0" + kept.encode()).digest())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
