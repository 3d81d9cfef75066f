"""Gitea as a git host: `POST /api/webhooks/gitea`."""

from __future__ import annotations

from collections.abc import Mapping

from vclone_core import GitHost, GitHostFactory, hookimpl


def make_host() -> GitHost:
    """Return Gitea; one object serves every server of it."""
    from vclone_git_gitea.host import Gitea

    return Gitea()


@hookimpl
def register_git_hosts() -> Mapping[str, GitHostFactory]:
    return {"gitea": make_host}
