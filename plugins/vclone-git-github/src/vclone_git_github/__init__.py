"""GitHub as a git host: `POST /api/webhooks/github`."""

from __future__ import annotations

from collections.abc import Mapping

from vclone_core import GitHost, GitHostFactory, hookimpl


def make_host() -> GitHost:
    """Return GitHub; one object serves github.com and every Enterprise Server."""
    from vclone_git_github.host import GitHub

    return GitHub()


@hookimpl
def register_git_hosts() -> Mapping[str, GitHostFactory]:
    return {"github": make_host}
