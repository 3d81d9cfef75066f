"""A manifest's routes compiled into a table, once per manifest: what `routes.py` executes.

Literal sources sit in a dict by path, so 100,000 of them cost as much as ten; patterns are tried in their order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from vclone_core.errors import Invalid
from vclone_core.models import FileEntry, Manifest, Route
from vclone_core.rules.conditions import Condition, compile_condition
from vclone_core.rules.decisions import Decision
from vclone_core.rules.patterns import (
    LONGEST,
    GuardedPattern,
    LinearPattern,
    LookingPattern,
    Pattern,
    PatternSet,
    compile_pattern,
    find_literal,
)
from vclone_core.rules.templates import Template, parse_template

PHASES: Final = ("", "filesystem", "rewrite", "miss", "resource", "hit", "error")
MEMO_LIMIT: Final = 2048
MEMO_PATH_LIMIT: Final = 256
# What all raw expressions of a deployment may come to, in RE2's steps, and how many may need look-around.
PROGRAMS_LIMIT: Final = 50_000
LOOKING_LIMIT: Final = 16
# Fewer linear patterns than this are asked one by one: a set costs a call, too.
SET_FROM: Final = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled route; `number` is its place in the manifest. An open literal may have a `/` behind it."""

    number: int
    literal: str | None
    is_open: bool
    pattern: Pattern | None
    methods: frozenset[str]
    has: tuple[Condition, ...]
    missing: tuple[Condition, ...]
    dest: Template | None
    headers: tuple[tuple[str, Template], ...]
    status: int | None
    is_continue: bool
    is_check: bool
    is_case_sensitive: bool
    is_important: bool

    @property
    def is_conditional(self) -> bool:
        return bool(self.methods or self.has or self.missing)


@dataclass(frozen=True, slots=True)
class Phase:
    """The rules of one phase: literals by lower-case path, linear patterns as a set, the other patterns in order."""

    patterns: tuple[Rule, ...] = ()
    literals: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    linear: tuple[Rule, ...] = ()
    linear_set: PatternSet | None = None

    def candidates(self, path: str, after: int) -> Iterator[Rule]:
        """Yield the rules that may match `path`, in the table's order, from the one behind number `after`."""
        key = path.lower()
        literals = self.literals.get(key, ())
        if key[-1:] == "/" and (closed := self.literals.get(key[:-1])):
            literals = (*literals, *(rule for rule in closed if rule.is_open))
        rules = literals or self.patterns
        if self.linear_set is not None:
            linear = (self.linear[number] for number in self.linear_set.find(path))
            rules = tuple(sorted((*literals, *self.patterns, *linear), key=_number))
        elif literals and (self.patterns or len(literals) > 1):
            rules = tuple(sorted((*literals, *self.patterns), key=_number))
        for rule in rules:
            if rule.number > after:
                yield rule


def _number(rule: Rule) -> int:
    return rule.number


@dataclass(frozen=True, slots=True)
class Table:
    """A manifest's routes, ready to be matched; remembers what depended on the path alone."""

    files: Mapping[str, FileEntry]
    phases: Mapping[str, Phase]
    memo: dict[str, Decision] = field(default_factory=dict, compare=False, repr=False)

    def remember(self, path: str, decision: Decision) -> None:
        """Keep a decision that depends on the path alone; bounded whatever visitors ask for."""
        if len(path) > MEMO_PATH_LIMIT:
            return
        if len(self.memo) >= MEMO_LIMIT:
            # Emptied rather than trimmed: hot paths come back at once, and a look-up stays one dict access.
            self.memo.clear()
        self.memo[path] = decision


def compile_table(manifest: Manifest) -> Table:
    """Return the manifest's routing table; raise `Invalid` that names the route which can't be used."""
    rules: dict[str, list[Rule]] = {phase: [] for phase in PHASES}
    costs = _Costs()
    phase = ""
    for number, route in enumerate(manifest.routes):
        if route.handle is not None:
            if route.handle not in rules:
                raise Invalid(what=f"route {number} starts the unknown phase {route.handle!r}")
            phase = route.handle
            continue
        try:
            rule = compile_rule(number, route)
            if rule.pattern is not None:
                costs.add(rule.pattern)
            rules[phase].append(rule)
        except Invalid as error:
            where = f"{route.origin}: " if route.origin else ""
            raise Invalid(what=f"{where}route {number}: {error.facts.get('what', error)}") from error
    return Table(manifest.files, {name: _compile_phase(listed) for name, listed in rules.items()})


class _Costs:
    """Adds up what a request may be made to pay for a deployment's patterns."""

    def __init__(self) -> None:
        self.steps = self.looking = 0

    def add(self, pattern: Pattern) -> None:
        """Count one more; raise `Invalid` when they are too much together."""
        if isinstance(pattern, LinearPattern):
            self.steps += pattern.size
        elif isinstance(pattern, GuardedPattern):
            self.steps += 2 * pattern.main.size
        elif isinstance(pattern, LookingPattern):
            self.looking += 1
        if self.steps > PROGRAMS_LIMIT:
            raise Invalid(what="the deployment's regular expressions are too large together")
        if self.looking > LOOKING_LIMIT:
            raise Invalid(what=f"more than {LOOKING_LIMIT} expressions look around or back; write them without")


def _compile_phase(rules: list[Rule]) -> Phase:
    literals: dict[str, tuple[Rule, ...]] = {}
    for rule in rules:
        if rule.literal is not None:
            key = rule.literal.lower()
            literals[key] = (*literals.get(key, ()), rule)
    patterns = tuple(rule for rule in rules if rule.literal is None)
    linear = [(rule, asked) for rule in patterns if (asked := _find_linear(rule.pattern)) is not None]
    if len(linear) < SET_FROM:
        return Phase(patterns, literals)
    others = tuple(rule for rule in patterns if _find_linear(rule.pattern) is None)
    asked_at_once = PatternSet([asked for _, asked in linear])
    return Phase(others, literals, tuple(rule for rule, _ in linear), asked_at_once)


def _find_linear(pattern: Pattern | None) -> LinearPattern | None:
    """Return what must match before the pattern can, where RE2 can say so."""
    if isinstance(pattern, GuardedPattern):
        return pattern.main
    return pattern if isinstance(pattern, LinearPattern) else None


_NO_METHODS: Final[frozenset[str]] = frozenset()
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\uffff]{0,8192}")
# What frames the message or is said by the platform is not a rule's to say.
RESERVED_HEADERS: Final = frozenset(
    {
        "accept-ranges", "age", "connection", "content-encoding", "content-length", "content-range", "date", "etag",
        "keep-alive", "proxy-connection", "server", "te", "trailer", "transfer-encoding", "upgrade", "x-vclone-cache",
        "x-vclone-id",
    }
)  # fmt: skip


def compile_rule(number: int, route: Route) -> Rule:
    """Return one route ready to be tried; raise `Invalid` for one that can't be used."""
    source = "/.*" if route.src is None else route.src
    if not isinstance(source, str) or not isinstance(route.dest, str | None):
        raise Invalid(what="src and dest must be texts")
    if len(source) > LONGEST:
        raise Invalid(what=f"src is longer than {LONGEST} characters")
    if route.status is not None and not (type(route.status) is int and 200 <= route.status <= 599):
        raise Invalid(what=f"{route.status!r} is no status")
    headers = []
    for name, value in route.headers.items():
        if not isinstance(value, str) or not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise Invalid(what=f"the header {name!r} can't be sent")
        if name.lower() not in RESERVED_HEADERS:
            headers.append((name.lower(), parse_template(value)))
    literal, is_open = find_literal(source) or (None, False)
    return Rule(
        number=number,
        literal=literal,
        is_open=is_open,
        pattern=None if literal is not None else compile_pattern(source, is_case_sensitive=route.case_sensitive),
        methods=frozenset(method.upper() for method in route.methods) if route.methods else _NO_METHODS,
        has=tuple(compile_condition(raw) for raw in route.has) if route.has else (),
        missing=tuple(compile_condition(raw) for raw in route.missing) if route.missing else (),
        dest=None if route.dest is None else parse_template(route.dest),
        headers=tuple(headers),
        status=route.status,
        is_continue=route.is_continue,
        is_check=route.check,
        is_case_sensitive=route.case_sensitive,
        is_important=route.important,
    )
