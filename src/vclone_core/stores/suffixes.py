"""The Public Suffix List as the package `publicsuffixlist` brings it along: which name below a suffix one owner has."""

from __future__ import annotations

import asyncio
from functools import cache

from publicsuffixlist import PublicSuffixList


async def find_apex(host: str) -> str | None:
    """Return the registrable domain of a host in A-labels (`example.co.uk` of `www.example.co.uk`).

    None: the host is a public suffix itself. Of a top-level domain that the list doesn't know (`.internal`) every name
    of two labels is one. The first call reads the list, a tenth of a second beside the event loop.
    """
    suffixes = await asyncio.to_thread(_read_list)
    found: str | None = suffixes.privatesuffix(host)
    return found


@cache
def _read_list() -> PublicSuffixList:
    return PublicSuffixList()
