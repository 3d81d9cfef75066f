"""What the routing table can say of a request: four shapes, and no others."""

from __future__ import annotations

from dataclasses import dataclass

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Serve:
    """Answer with the file at `file`, a key of the manifest's files."""

    file: str
    status: int = 200
    headers: Headers = ()
    rules: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Redirect:
    """Answer with a redirect. The request's query is already part of `location`."""

    location: str
    status: int
    headers: Headers = ()
    rules: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Answer with what another server says at `url`, which has the request's query; `status` in place of its 200."""

    url: str
    status: int | None = None
    headers: Headers = ()
    rules: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with a status and nothing of the deployment's."""

    status: int
    headers: Headers = ()
    rules: tuple[int, ...] = ()


Decision = Serve | Redirect | Rewrite | Refuse
"""What to do with a request. `rules` are the numbers of the routes that had a part in it, for `vclone explain`."""
