"""GitLab as a git host: `POST /api/webhooks/gitlab`."""

from __future__ import annotations

from collections.abc import Mapping

from vclone_core import GitHost, GitHostFactory, hookimpl


def make_host() -> GitHost:
    """Return GitLab; one object serves every server of it."""
    from vclone_git_gitlab.host import GitLab

    return GitLab()


@hookimpl
def register_git_hosts() -> Mapping[str, GitHostFactory]:
    return {"gitlab": make_host}
