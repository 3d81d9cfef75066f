"""A client that keeps what a git host's plugin asks, and answers from a table: for what is asked, not for who answers.

The real client is tried against a server in tests/stores/test_githosts.py and tests/api/test_git_reports.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vclone_core import HostAnswer


class Asked(NamedTuple):
    method: str
    path: str
    body: Any


@dataclass
class Calls:
    """`answers` by method and path without its query; else 200 for a GET, and 201 with an id."""

    repository: str
    answers: Mapping[tuple[str, str], tuple[int, Any]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    _ids: Any = field(default_factory=lambda: itertools.count(31))

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        accept: Collection[int] = (),
        headers: Mapping[str, str] | None = None,
    ) -> HostAnswer:
        self.asked.append(Asked(method, path.partition("?")[0], body))
        default = (200, None) if method == "GET" else (201, {"id": next(self._ids)})
        status, answer = self.answers.get((method, self.asked[-1].path), default)
        assert status < 300 or status in accept
        return HostAnswer(status, answer)

    def made(self) -> list[str]:
        return [f"{one.method} {one.path}" for one in self.asked]
