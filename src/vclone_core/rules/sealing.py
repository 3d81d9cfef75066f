"""Secrets at rest: AES-GCM under a ring of keys, bound to the row they belong to.

A sealed value is `v1.KEYID.NONCE.CIPHERTEXT` (the last two in URL-safe Base64). The first key of a ring seals; the
others only open what was sealed before it, so a key is replaced by putting a new one in front, and dropped once nothing
of it is left. The row's identity is associated data (NIST SP 800-38D): a value moved to another row does not open.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from vclone_core.errors import Invalid

NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")


@dataclass(frozen=True, slots=True, repr=False)
class KeyRing:
    """Keys by id; `current` seals."""

    current: str
    keys: Mapping[str, bytes]


def parse_ring(text: str, *, fallback: str) -> KeyRing:
    """Return the ring in `ID:BASE64,ID:BASE64`, each key 32 bytes, the sealing one first.

    An empty text gives a ring of one key, `derived`, made of `fallback` (HKDF, RFC 5869); behind the keys of a text it
    opens what was sealed before there was one. Raises `Invalid` that repeats no key.
    """
    keys: dict[str, bytes] = {}
    for number, item in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
        name, _, encoded = item.partition(":")
        try:
            key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            key = b""
        if not _KEY_ID.fullmatch(name) or name in keys or len(key) != _KEY_BYTES:
            raise Invalid(what=f"encryption key {number} is not ID:BASE64 of 32 bytes, or its id is there twice")
        keys[name] = key
    if fallback:
        kdf = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=b"vclone sealing v1")
        keys.setdefault("derived", kdf.derive(fallback.encode()))
    if not keys:
        raise Invalid(what="there is no key to encrypt secrets with")
    return KeyRing(next(iter(keys)), keys)


def seal(ring: KeyRing, secret: str, *, identity: str, nonce: bytes) -> str:
    """Return `secret` sealed for the row `identity`. `nonce` is 12 random bytes, never used twice."""
    sealed = AESGCM(ring.keys[ring.current]).encrypt(nonce, secret.encode(), _bind(ring.current, identity))
    return f"v1.{ring.current}.{_encode(nonce)}.{_encode(sealed)}"


def unseal(ring: KeyRing, sealed: str, *, identity: str) -> str:
    """Return what was sealed for the row `identity`; raise `Invalid` for what this ring can't open there."""
    version, key_id, nonce, body = (*sealed.split("."), "", "", "", "")[:4]
    if version != "v1" or key_id not in ring.keys:
        raise Invalid(what=f"a secret is sealed with the key {key_id[:32]!r}, which is not in the ring")
    try:
        opened = AESGCM(ring.keys[key_id]).decrypt(_decode(nonce), _decode(body), _bind(key_id, identity))
    except (InvalidTag, ValueError, binascii.Error) as error:
        raise Invalid(what="a secret does not open: it was changed, or belongs to another row") from error
    return opened.decode()


def is_current(ring: KeyRing, sealed: str) -> bool:
    """Say whether a value is sealed with the ring's first key; another one should be sealed anew."""
    return sealed.startswith(f"v1.{ring.current}.")


def _bind(key_id: str, identity: str) -> bytes:
    return f"v1\0{key_id}\0{identity}".encode()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
