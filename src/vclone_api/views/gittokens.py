"""Tokens for private repositories: kept, listed without their values, and forgotten."""

from __future__ import annotations

from vclone_core.actions import gittokens

from ..bodies import NewGitToken
from ..guard import Call
from ..paging import slice_page
from .shapes import GitTokenList, GitTokenShape, shape_git_token


async def list_git_tokens(call: Call) -> GitTokenList:
    """The hosts whose private repositories the team's builds can read."""
    found = await gittokens.list_tokens(call.platform, call.actor)
    page, cursor = slice_page(call, found, key=lambda token: token["host"])
    return {"items": [shape_git_token(one) for one in page], "next_cursor": cursor}


async def save_git_token(call: Call, host: str) -> GitTokenShape:
    """Keep a token for a host, in place of an earlier one; it is never shown again."""
    body: NewGitToken = call.body
    saved = await gittokens.save_token(call.platform, call.actor, host, body.token, account=body.account)
    return shape_git_token(saved)


async def delete_git_token(call: Call, host: str) -> None:
    """Forget a host's token."""
    await gittokens.delete_token(call.platform, call.actor, host)
