"""Deploy keys: one key pair for a project, its private half sealed in the database and read by builds alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypedDict
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from vclone_core.actions.keys import deploy_key_identity, ring_of
from vclone_core.actions.newids import new_id
from vclone_core.actions.platform import Platform
from vclone_core.errors import FieldProblem, InvalidFields, NotFound
from vclone_core.models import Actor, Project, Source
from vclone_core.rules.access import require
from vclone_core.rules.deploykeys import DeployKey, check_known_hosts, normal_git_url
from vclone_core.rules.sealing import NONCE_BYTES, seal, unseal

PRIVATE_KEY_CHARS: Final = 16_384


class DeployKeyInfo(TypedDict):
    """A key without its private half."""

    public_key: str
    known_hosts: str
    created_at: datetime


async def create_key(
    platform: Platform, actor: Actor, project: Project, *, private_key: str | None = None, known_hosts: str = ""
) -> DeployKeyInfo:
    """Make a key pair for a project, or take one, in place of an earlier one; return its public half.

    `private_key` is in OpenSSH's form and not encrypted. Without `known_hosts` the repository's host is believed when
    it is met first. Raises `InvalidFields`.
    """
    require(actor, "change a project")
    problems = []
    if problem := check_known_hosts(known_hosts):
        problems.append(FieldProblem("known_hosts", problem))
    pair = _make_pair() if private_key is None else _read_pair(private_key)
    if pair is None:
        problems.append(FieldProblem("private_key", "must be a private key of OpenSSH, without a passphrase"))
    if problems:
        raise InvalidFields(tuple(problems))
    assert pair is not None
    private, public = pair
    key_id = new_id("deploy_key")
    sealed = seal(
        ring_of(platform.settings), private, identity=deploy_key_identity(key_id), nonce=os.urandom(NONCE_BYTES)
    )
    row = await platform.db.fetch_one(
        "save_deploy_key", key_id, project.id, f"{public} vclone-{project.name}", sealed.encode(), known_hosts
    )
    assert row is not None
    return _shape(row)


async def show_key(platform: Platform, actor: Actor, project: Project) -> DeployKeyInfo | None:
    """Return a project's key without its private half; None where it has none."""
    require(actor, "see a project")
    row = await platform.db.fetch_one("fetch_deploy_key", project.id)
    return None if row is None else _shape(row)


async def trust_hosts(platform: Platform, actor: Actor, project: Project, known_hosts: str) -> DeployKeyInfo:
    """Believe these host keys and no others; with an empty text the next host that is met. Raises `NotFound`."""
    require(actor, "change a project")
    if problem := check_known_hosts(known_hosts):
        raise InvalidFields((FieldProblem("known_hosts", problem),))
    row = await platform.db.fetch_one("set_known_hosts", project.id, known_hosts)
    if row is None:
        raise NotFound(what="deploy key")
    return _shape(row)


async def delete_key(platform: Platform, actor: Actor, project: Project) -> None:
    """Forget a project's key, if it has one."""
    require(actor, "change a project")
    await platform.db.execute("delete_deploy_key", project.id)


async def find_key(platform: Platform, project: Project, source: Source) -> DeployKey | None:
    """Return what a build of `source` may show to its host; None for no key, and for another repository's code."""
    if source.kind != "git" or source.url is None or source.fork is not None:
        return None
    if urlsplit(normal_git_url(source.url)).scheme != "ssh":
        return None
    row = await platform.db.fetch_one("fetch_deploy_key", project.id)
    if row is None:
        return None
    sealed = bytes(row["value"]).decode()
    private = unseal(ring_of(platform.settings), sealed, identity=deploy_key_identity(row["id"]))
    return DeployKey(row["id"], private, row["known_hosts"])


async def learn_hosts(platform: Platform, project: Project, key: DeployKey, known_hosts: str) -> None:
    """Keep the host keys that the first connection showed; later ones are compared with them."""
    if check_known_hosts(known_hosts) is None:
        await platform.db.execute("learn_known_hosts", project.id, key.id, known_hosts)


def _make_pair() -> tuple[str, str]:
    return _write_pair(Ed25519PrivateKey.generate())


def _read_pair(text: str) -> tuple[str, str] | None:
    if len(text) > PRIVATE_KEY_CHARS:
        return None
    try:
        # Pasted keys lose the line end that belongs to them.
        return _write_pair(load_ssh_private_key(f"{text.strip()}\n".encode(), password=None))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _write_pair(key: Any) -> tuple[str, str]:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return private, public


def _shape(row: Mapping[str, Any]) -> DeployKeyInfo:
    return DeployKeyInfo(public_key=row["public_key"], known_hosts=row["known_hosts"], created_at=row["created_at"])
