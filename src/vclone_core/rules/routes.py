"""*route*, the third step of a request: the manifest executed as a routing table.

    null -> files -> miss -> filesystem -> rewrite -> resource -> 404 -> error

After every phase that changed the path the files are asked. A rule of phase *null* may redirect, refuse, rewrite or add
headers before that; *hit* adds headers to a file that was found; *error*, else the nearest `404.html`, dresses a
refusal. A rule with `check` counts only where its destination leads to a file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from vclone_core.models import FileEntry
from vclone_core.rules.conditions import try_condition
from vclone_core.rules.decisions import Decision, Headers, Redirect, Refuse, Rewrite, Serve
from vclone_core.rules.patterns import TooSlow
from vclone_core.rules.requests import Request
from vclone_core.rules.tables import Rule, Table
from vclone_core.rules.templates import quote_path

# A table whose rules check and check again ends in a refusal, not in a stalled edge.
CHECK_LIMIT: Final = 64


def match(table: Table, request: Request) -> Decision:
    """Return what the table says of a request. Takes the same time for one literal route as for 100,000."""
    decision = table.memo.get(request.path)
    if decision is None:
        walk = _Walk(table, request)
        try:
            decision = walk.run()
        except TooSlow:
            # Whether the rule refuses or allows is not known: the visitor who sent such a path gets nothing.
            return Refuse(503, (), tuple(walk.rules))
        if walk.is_path_only:
            table.remember(request.path, decision)
    if request.query:
        if isinstance(decision, Redirect):
            return replace(decision, location=_add_query(decision.location, request.query))
        if isinstance(decision, Rewrite):
            return replace(decision, url=_add_query(decision.url, request.query))
    return decision


def _add_query(location: str, query: str) -> str:
    """Return where a redirect or rewrite leads with the request's query; what the rule itself says goes before it."""
    base, mark, fragment = location.partition("#")
    _, has_own, own = base.partition("?")
    if has_own:
        said = {pair.partition("=")[0] for pair in own.split("&")}
        query = "&".join(pair for pair in query.split("&") if pair.partition("=")[0] not in said)
    separator = "" if not query else "&" if own else "" if has_own else "?"
    return f"{base}{separator}{query}{mark}{fragment}"


class _Walk:
    """One request's way through the phases."""

    __slots__ = ("checks", "headers", "is_path_only", "path", "request", "rules", "status", "table")

    def __init__(self, table: Table, request: Request) -> None:
        self.table = table
        self.request = request
        self.path = request.path
        self.headers: dict[str, bytes] = {}
        self.rules: list[int] = []
        self.status: int | None = None
        self.is_path_only = True
        self.checks = 0

    def run(self) -> Decision:
        decision = self.phase("") or self.serve()
        if decision is None and self.status is not None and self.status >= 400:
            decision = self.refuse(self.status)
        for name in () if decision else ("miss", "filesystem", "rewrite", "resource"):
            decision = self.phase(name) or self.serve()
            if decision:
                break
        if decision is None:
            decision = self.refuse(self.status if self.status is not None and self.status >= 400 else 404)
        return self.dress(decision) if isinstance(decision, Refuse) else decision

    def phase(self, name: str) -> Decision | None:
        """Apply a phase's rules to the path; None: the request goes on to the files and the next phase."""
        phase = self.table.phases[name]
        after, path = -1, ""
        kept = frozenset(self.headers) if name == "miss" else ()
        while path != self.path:
            path = self.path
            for rule in phase.candidates(path, after):
                values = self.try_rule(rule)
                if values is None:
                    continue
                after = rule.number
                decision, is_final = self.apply(rule, values, name, kept)
                if is_final:
                    return decision
                if self.path != path:
                    break  # The rules behind this one are asked for the new path.
        return None

    def try_rule(self, rule: Rule) -> dict[str, str] | None:
        """Return the rule's parameters when it matches."""
        values = {"0": self.path}
        if rule.pattern is not None:
            found = rule.pattern.match(self.path)
            if found is None:
                return None
            values.update(found)
        elif rule.is_case_sensitive and rule.literal not in (self.path, self.path[:-1]):
            return None
        if rule.is_conditional:
            self.is_path_only = False
            if rule.methods and self.request.method not in rule.methods:
                return None
            for condition in rule.has:
                captured = try_condition(condition, self.request)
                if captured is None:
                    return None
                values.update(captured)
            if any(try_condition(condition, self.request) is not None for condition in rule.missing):
                return None
        return values

    def apply(
        self, rule: Rule, values: Mapping[str, str], phase: str, kept: Collection[str]
    ) -> tuple[Decision | None, bool]:
        """Return (decision, whether the phase ends here)."""
        self.rules.append(rule.number)
        location = self.take_headers(rule, values, kept)
        if rule.status is not None and 300 <= rule.status <= 399 and location is not None:
            # How long a page may be kept says nothing of a redirect in its place.
            if not any(name == "cache-control" for name, _ in rule.headers):
                self.headers.pop("cache-control", None)
            return Redirect(location, rule.status, *self.said()), True
        if rule.is_continue:
            self.path = self.path if rule.dest is None else rule.dest.fill_path(values)
            self.status = rule.status or self.status
            return None, False
        if rule.dest is None:
            return (self.refuse(rule.status) if rule.status is not None and rule.status >= 400 else None), True
        if _EXTERNAL.match(rule.dest.parts[0]):
            return Rewrite(rule.dest.fill_quoted(values), rule.status, *self.said()), True
        path = rule.dest.fill_path(values)
        if rule.is_check:
            decision = self.check(rule, path, phase)
            return decision, decision is not None
        self.path = path
        self.status = rule.status or self.status
        return None, True

    def take_headers(self, rule: Rule, values: Mapping[str, str], kept: Collection[str]) -> str | None:
        """Take a rule's headers, and return its location. Only an important one may replace those that are `kept`."""
        location = None
        for name, template in rule.headers:
            if name == "location":
                location = template.fill_quoted(values)
            elif name in kept and not rule.is_important:
                continue
            elif template.parts == ("",):
                self.headers.pop(name, None)
            else:
                text = template.fill(values)
                self.headers[name] = _encode_header(_narrow_cookie(text) if name == "set-cookie" else text)
        return location

    def check(self, rule: Rule, path: str, phase: str) -> Decision | None:
        """Take the rule's destination where it leads to a file, at once or through the phases for misses."""
        before = self.status
        self.path, self.status = path, rule.status or before
        decision = self.serve()
        if decision is None and rule.status is not None and rule.status >= 400:
            return self.refuse(rule.status)
        self.checks += 1
        if decision is None and phase not in ("miss", "rewrite") and self.checks <= CHECK_LIMIT:
            for name in ("miss", "rewrite"):
                decision = decision or self.phase(name) or self.serve()
        if decision is None:
            self.path, self.status = path, before
        return decision

    def serve(self) -> Decision | None:
        """Return the file at the path, with the headers of phase *hit*; None when there is none."""
        file = find_file(self.table.files, self.path)
        if file is None:
            return None
        # What the phases before said of this path stands: a hit only adds to it.
        kept = frozenset(self.headers)
        for rule in self.table.phases["hit"].candidates(self.path, -1):
            values = self.try_rule(rule)
            if values is not None:
                self.rules.append(rule.number)
                self.take_headers(rule, values, kept)
        return Serve(file, self.status if self.status in _WITH_BODY else 200, *self.said())

    def refuse(self, status: int) -> Refuse:
        return Refuse(status, *self.said())

    def dress(self, refusal: Refuse) -> Decision:
        """Return the deployment's own page for a refusal, where it has one."""
        self.path = self.request.path
        for rule in self.table.phases["error"].candidates(self.path, -1):
            if rule.status not in (None, refusal.status) or rule.dest is None:
                continue
            values = self.try_rule(rule)
            file = None if values is None else find_page(self.table.files, rule.dest.fill_path(values))
            if file is not None:
                self.rules.append(rule.number)
                return Serve(file, refusal.status, *self.said())
        file = find_nearest_404(self.table.files, self.request.path) if refusal.status == 404 else None
        return refusal if file is None else Serve(file, 404, *self.said())

    def said(self) -> tuple[Headers, tuple[int, ...]]:
        return tuple((name.encode(), value) for name, value in self.headers.items()), tuple(self.rules)


# Statuses a file can be sent with; a rule's others are for answers without one.
_WITH_BODY: Final = frozenset(range(200, 600)) - frozenset({204, 205, 206}) - frozenset(range(300, 400))
_EXTERNAL: Final = re.compile(r"(?:https?:)?//", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def _narrow_cookie(cookie: str) -> str:
    """Return a rule's cookie for its own host only: with a Domain it could reach other people's deployments.

    >>> _narrow_cookie("a=1; Path=/; Domain=apps.example; Secure")
    'a=1; Path=/; Secure'
    """
    first, *attributes = cookie.split(";")
    kept = (part for part in attributes if part.partition("=")[0].strip().lower() != "domain")
    return ";".join((first, *kept))


def _encode_header(text: str) -> bytes:
    # What was captured from a visitor's query or header may be any text.
    return (quote_path(text) if _CONTROL.search(text) else text).encode()


def find_file(files: Mapping[str, FileEntry], path: str) -> str | None:
    """Return the key of the file that `path` names: itself, or the index of its folder."""
    if path in files:
        return path
    if not path.endswith("/"):
        index = f"{path}/index.html"
        return index if index in files else None
    index = f"{path}index.html"
    if index in files:
        return index
    # A page with a clean address (`/about`) is also there with a slash; `/logo.png/` is nothing.
    page = path[:-1]
    return page if page in files and "." not in page.rpartition("/")[2] else None


def find_page(files: Mapping[str, FileEntry], path: str) -> str | None:
    """Return the key of an error page named with or without `.html`."""
    return find_file(files, path) or (f"{path}.html" if f"{path}.html" in files else None)


def find_nearest_404(files: Mapping[str, FileEntry], path: str) -> str | None:
    """Return the `404.html` in the folder of `path`, or in the nearest one above it.

    >>> find_nearest_404({"/docs/404.html": ..., "/404.html": ...}, "/docs/a/b")
    '/docs/404.html'
    """
    folder = path
    while folder:
        folder = folder.rpartition("/")[0]
        page = f"{folder}/404.html"
        if page in files:
            return page
    return None
