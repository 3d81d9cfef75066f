"""The keys that secrets in the database are sealed with, and sealing everything anew beside those who write.

The keys are read for each use: a new one counts at once, in every process that reads the same file.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vclone_core.errors import BadSettings, Invalid
from vclone_core.rules.sealing import NONCE_BYTES, KeyRing, is_current, parse_ring, seal, unseal
from vclone_core.rules.variables import seal_identity
from vclone_core.settings import Settings
from vclone_core.stores.postgres import Database

PAGE: Final = 200
# A pass that finds nothing to do ends a rotation; more of them than these means that somebody seals with an old key.
PASSES: Final = 10


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """Where sealed values are: the queries that list and replace them, and what each row's value is bound to."""

    table: str
    listing: str
    replacing: str
    identity: Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True, slots=True)
class Rotation:
    """What came of sealing anew: how many values were, and the rows whose values no key opens."""

    sealed: int
    unreadable: tuple[str, ...]


def variable_identity(row: Mapping[str, Any]) -> str:
    """Return what the value in a row of `list_sealed_variables` is bound to."""
    names = ("team_id", "project_id", "target", "branch", "key", "version")
    return seal_identity(**{name: row[name] for name in names})


def git_token_identity(token_id: str) -> str:
    """Return what a git token's value is bound to."""
    return f"git_tokens/{token_id}/value"


def deploy_key_identity(key_id: str) -> str:
    """Return what a deploy key's private half is bound to."""
    return f"deploy_keys/{key_id}/value"


def git_secret_identity(secret_id: str) -> str:
    """Return what a secret of a connection or an App is bound to."""
    return f"git_secrets/{secret_id}/value"


def webhook_identity(webhook_id: str) -> str:
    """Return what a webhook's secret is bound to."""
    return f"webhooks/{webhook_id}/secret"


def signing_key_identity(project_id: str) -> str:
    """Return what the key is bound to that signs a project's passes."""
    return f"project_protection/{project_id}/signing_key"


SEALED: Final = (
    SealedColumn("webhooks", "list_sealed_webhooks", "replace_sealed_webhook", lambda row: webhook_identity(row["id"])),
    SealedColumn(
        "deploy_keys",
        "list_sealed_deploy_keys",
        "replace_sealed_deploy_key",
        lambda row: deploy_key_identity(row["id"]),
    ),
    SealedColumn(
        "git_secrets",
        "list_sealed_git_secrets",
        "replace_sealed_git_secret",
        lambda row: git_secret_identity(row["id"]),
    ),
    SealedColumn(
        "git_tokens", "list_sealed_git_tokens", "replace_sealed_git_token", lambda row: git_token_identity(row["id"])
    ),
    SealedColumn("environment_variables", "list_sealed_variables", "replace_sealed_variable", variable_identity),
    SealedColumn(
        "project_protection",
        "list_sealed_signing_keys",
        "replace_sealed_signing_key",
        lambda row: signing_key_identity(row["id"]),
    ),
)


def ring_of(settings: Settings) -> KeyRing:
    """Return the keys as they are now. Raises `BadSettings` for a file that can't be read, `Invalid` for bad keys."""
    text = settings.encryption_keys.get_secret_value()
    if settings.secrets_path is not None:
        try:
            text = str(json.loads(settings.secrets_path.read_text(encoding="utf-8")).get("encryption_keys") or text)
        except (OSError, ValueError, AttributeError) as error:
            raise BadSettings(
                problems=f"VCLONE_SECRETS_PATH: {settings.secrets_path} can't be read ({type(error).__name__})."
            ) from error
    return parse_ring(text, fallback=settings.secret_key.get_secret_value())


async def seal_anew(db: Database, ring: KeyRing) -> Rotation:
    """Seal every value with the ring's first key that isn't, while others go on writing; none is ever unreadable.

    A value that is changed meanwhile is left to whoever changed it, and looked at again in the next pass.
    """
    done, unreadable = 0, set[str]()
    for _ in range(PASSES):
        left = 0
        async for column, row in _list_sealed(db):
            sealed = bytes(row["value"]).decode()
            if is_current(ring, sealed) or row["id"] in unreadable:
                continue
            identity = column.identity(row)
            try:
                secret = unseal(ring, sealed, identity=identity)
            except Invalid:
                unreadable.add(row["id"])
                continue
            left += 1
            fresh = seal(ring, secret, identity=identity, nonce=os.urandom(NONCE_BYTES))
            done += await db.execute(column.replacing, row["id"], row["value"], fresh.encode())
        if not left:
            break
    return Rotation(done, tuple(sorted(unreadable)))


async def count_by_key(db: Database) -> Counter[str]:
    """Return how many values are sealed with each key, by its id."""
    found: Counter[str] = Counter()
    async for _, row in _list_sealed(db):
        found[bytes(row["value"]).decode().split(".")[1]] += 1
    return found


async def _list_sealed(db: Database) -> AsyncIterator[tuple[SealedColumn, Mapping[str, Any]]]:
    for column in SEALED:
        after = ""
        while rows := await db.fetch(column.listing, after, PAGE):
            for row in rows:
                yield column, row
            after = rows[-1]["id"]
