"""Bitbucket as a git host: `POST /api/webhooks/bitbucket`."""

from __future__ import annotations

from collections.abc import Mapping

from vclone_core import GitHost, GitHostFactory, hookimpl


def make_host() -> GitHost:
    """Return Bitbucket; one object serves every server of it."""
    from vclone_git_bitbucket.host import Bitbucket

    return Bitbucket()


@hookimpl
def register_git_hosts() -> Mapping[str, GitHostFactory]:
    return {"bitbucket": make_host}
