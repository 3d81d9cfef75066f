"""`_headers`: a path, and below it the header fields of what is served there.

    /assets/*
      Cache-Control: public, max-age=604800
      ! X-Frame-Options

Every block whose path matches counts. A field said twice in a block has both values; one that a later block says again
has the later value; `!` takes away what earlier blocks said. A line that can't be used is left out and told.
https://docs.netlify.com/routing/headers/, https://developers.cloudflare.com/pages/configuration/headers/
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from vclone_core.errors import Invalid
from vclone_core.models import Route
from vclone_core.rules.patterns import LONGEST
from vclone_core.rules.splatpaths import SplatPath, compile_splat, fill_splat
from vclone_core.rules.tables import RESERVED_HEADERS, compile_rule

NAME: Final = "_headers"
# Each is tried for every path.
BLOCK_LIMIT: Final = 2_048
SPLATS: Final = 4
_PATH: Final = re.compile(r"/|[a-z]+://", re.IGNORECASE)
_DETACH: Final = re.compile(r"!\s+(?P<name>[^\s:]+)")


@dataclass(frozen=True, slots=True)
class HeaderRules:
    """What a `_headers` says, and what of it could not be used."""

    routes: tuple[Route, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(slots=True)
class _Block:
    place: str
    path: SplatPath
    headers: dict[str, str] = field(default_factory=dict)


def parse_headers(text: str) -> HeaderRules:
    """Return the rules of a file. Every text is one: what can't be used is in `problems`, by line."""
    lines = enumerate((line.strip() for line in text.removeprefix("\ufeff").split("\n")), 1)
    return make_headers(NAME, ((f"line {number}", line) for number, line in lines if line and not line.startswith("#")))


def make_headers(file: str, lines: Iterable[tuple[str, str]]) -> HeaderRules:
    """Return the rules that are spelt as lines, each with its place in `file`."""
    return _Reader(file).read(lines)


def join_headers(first: HeaderRules, then: HeaderRules) -> HeaderRules:
    """Return the rules of two files; what `then` says again stands."""
    return HeaderRules(first.routes + then.routes, first.problems + then.problems)


class _Reader:
    """Reads a file line by line. Below a path that can't be used nothing is read, and nothing more is told."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.routes: list[Route] = []
        self.problems: list[str] = []
        self.block: _Block | None = None
        self.is_skipping = False

    def read(self, lines: Iterable[tuple[str, str]]) -> HeaderRules:
        for place, line in lines:
            try:
                self.take(place, line)
            except Invalid as error:
                self.tell(place, str(error.facts.get("what", error)))
        self.close()
        return HeaderRules(tuple(self.routes), tuple(self.problems))

    def take(self, place: str, line: str) -> None:
        if _PATH.match(line):
            self.close()
            self.is_skipping = True
            if len(line) > LONGEST:
                raise Invalid(what=f"the line is longer than {LONGEST} characters")
            if len(self.routes) >= BLOCK_LIMIT:
                raise Invalid(what=f"there are more than {BLOCK_LIMIT:,} paths")
            self.block = _Block(place, compile_splat(line, splats=SPLATS))
            self.is_skipping = False
        elif self.is_skipping:
            return
        elif self.block is None:
            raise Invalid(what="a path must come before its header fields")
        elif found := _DETACH.fullmatch(line):
            self.add(self.block, found["name"], "")
        else:
            name, colon, value = line.partition(":")
            if not colon:
                raise Invalid(what="this is neither a path nor a field with a colon")
            if not value.strip():
                raise Invalid(what="the field has no value")
            self.add(self.block, name.strip(), fill_splat(value.strip(), self.block.path.names))

    def add(self, block: _Block, name: str, value: str) -> None:
        key = name.lower()
        if key == "basic-auth":
            # It is no header but a password, and must not be sent to visitors.
            raise Invalid(what="Basic-Auth is not supported")
        if key in RESERVED_HEADERS or key == "location":
            raise Invalid(what=f"{name} is said by the platform itself")
        if key == "set-cookie" and value and block.headers.get(key):
            raise Invalid(what="a block can set one cookie")
        compile_rule(0, Route(src="/", headers={key: value}))
        before = block.headers.get(key)
        block.headers[key] = f"{before}, {value}" if before and value else value or before or ""

    def close(self) -> None:
        block, self.block = self.block, None
        if block is None:
            return
        if not block.headers:
            self.tell(block.place, "the path has no header fields")
            return
        route = Route(
            src=block.path.source,
            headers=block.headers,
            has=block.path.has,
            is_continue=True,
            origin=f"{self.file} {block.place}",
        )
        try:
            compile_rule(0, route)
        except Invalid as error:
            self.tell(block.place, str(error.facts.get("what", error)))
        else:
            self.routes.append(route)

    def tell(self, place: str, what: str) -> None:
        self.problems.append(f"{self.file} {place}: {what} (left out)")
