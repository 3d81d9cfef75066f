"""Where a route's source becomes something that matches: the one place that knows the regex engines.

Sources are written as JavaScript's, the way the Build Output API v3 spells them, and match a whole path. Whatever they
say, a visitor's path can't make them slow:

- what templates (`/blog/:slug`, `/news/*`) become has nothing to try twice, and runs on `re`, the fastest for it;
- other expressions run on RE2, whose time is linear in the path;
- one look-ahead behind plain text, `/((?!api/).*)`, is two expressions for RE2;
- other look-around and back-references, which RE2 can't have, run on `regex` for `LIMIT_S` at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

import re2

from vclone_core.errors import Invalid

LONGEST: Final = 4096
# How long one look-around pattern may think about one text, and how large one linear pattern's program may be: RE2's
# time is text times program.
LIMIT_S: Final = 0.01
PROGRAM_LIMIT: Final = 5_000

_ESCAPED: Final = re.compile(r"\\([^A-Za-z0-9])")
_SPECIAL: Final = re.compile(r"[\\.^$*+?()\[\]{}|]")


class TooSlow(Exception):
    """A look-around pattern did not come to an end within `LIMIT_S`."""


class Pattern(Protocol):
    """What tells whether a text is meant, and what of it was captured."""

    @property
    def names(self) -> frozenset[str]:
        """The captures' names, and their numbers as texts."""

    def match(self, text: str) -> Mapping[str, str] | None:
        """Return what the whole text's captures hold, by name and number; None when it isn't meant.

        Raises `TooSlow`.
        """


@dataclass(frozen=True, slots=True)
class TemplatePattern:
    """A pattern that `re` can't be slow at."""

    compiled: re.Pattern[str]

    @property
    def names(self) -> frozenset[str]:
        return _name(self.compiled)

    def match(self, text: str) -> Mapping[str, str] | None:
        return _read(self.compiled.fullmatch(text))


@dataclass(frozen=True, slots=True)
class LinearPattern:
    """A pattern on RE2. `spelled` is its text with its case rule inside, as `PatternSet` needs it; `size` its steps."""

    compiled: Any
    spelled: str
    size: int

    @property
    def names(self) -> frozenset[str]:
        return _name(self.compiled)

    def match(self, text: str) -> Mapping[str, str] | None:
        return _read(self.compiled.fullmatch(text))


@dataclass(frozen=True, slots=True)
class GuardedPattern:
    """A pattern that counts only where another one, the guard, matches, or where it does not."""

    main: LinearPattern
    guard: Any
    is_wanted: bool

    @property
    def names(self) -> frozenset[str]:
        return self.main.names

    def match(self, text: str) -> Mapping[str, str] | None:
        if (self.guard.fullmatch(text) is not None) is not self.is_wanted:
            return None
        return self.main.match(text)


@dataclass(frozen=True, slots=True)
class LookingPattern:
    """A pattern with look-around or back-references, under a time limit."""

    compiled: Any

    @property
    def names(self) -> frozenset[str]:
        return _name(self.compiled)

    def match(self, text: str) -> Mapping[str, str] | None:
        try:
            return _read(self.compiled.fullmatch(text, timeout=LIMIT_S))
        except TimeoutError as error:
            raise TooSlow from error


def _name(compiled: Any) -> frozenset[str]:
    return frozenset((*compiled.groupindex, *map(str, range(compiled.groups + 1))))


def _read(found: Any) -> Mapping[str, str] | None:
    if found is None:
        return None
    captured = {str(number): text or "" for number, text in enumerate(found.groups(), 1)}
    captured.update({name: text or "" for name, text in found.groupdict().items()})
    return captured


def find_literal(source: str) -> tuple[str, bool] | None:
    r"""Return the one path that `source` matches, and whether it also matches with a `/` behind; None for a pattern.

    >>> find_literal(r"^/a\.html$"), find_literal("^/a/?$"), find_literal("/a/(.*)")
    (('/a.html', False), ('/a', True), None)
    """
    bare = _strip_anchors(source)
    is_open = len(bare) > 2 and bare.endswith("/?")
    if is_open:
        bare = bare[:-2]
    if "\\" not in bare:
        return None if _SPECIAL.search(bare) else (bare, is_open)
    if _SPECIAL.search(_ESCAPED.sub("", bare)):
        return None
    return _ESCAPED.sub(r"\1", bare), is_open


@lru_cache(maxsize=1024)
def compile_pattern(source: str, *, is_case_sensitive: bool = False) -> Pattern:
    """Return a pattern for whole texts; raise `Invalid` where `source` is none, or none that can be run safely."""
    text = _anchor_alternatives(_strip_anchors(source))
    if is_template(text):
        flags = re.DOTALL if is_case_sensitive else re.DOTALL | re.IGNORECASE
        return TemplatePattern(re.compile(_NAMED.sub("(?P<", text), flags))
    if _LOOKING.search(text):
        guarded = _compile_guarded(source, text, is_case_sensitive=is_case_sensitive)
        return guarded or _compile_looking(source, text, is_case_sensitive=is_case_sensitive)
    return _compile_linear(source, text, is_case_sensitive=is_case_sensitive)


def _compile_guarded(source: str, text: str, *, is_case_sensitive: bool) -> Pattern | None:
    """Return the pattern with one look-ahead whose place is certain; None for any other."""
    found = _GUARD.fullmatch(text)
    if found is None or _LOOKING.search(found["guard"] + found["rest"]):
        return None
    # What is opened before the look-ahead is closed behind it, and must be neither optional nor one of several.
    if _VARIABLE.search(found["rest"]):
        return None
    plain = _OPENINGS.sub("", found["before"])
    guard = f"{plain}(?:{found['guard']}).*"
    main = _compile_linear(source, found["before"] + found["rest"], is_case_sensitive=is_case_sensitive)
    asked = _compile_linear(source, guard, is_case_sensitive=is_case_sensitive)
    return GuardedPattern(main, asked.compiled, found["kind"] == "=")


def _compile_linear(source: str, text: str, *, is_case_sensitive: bool) -> LinearPattern:
    spelled = _UNICODE.sub(_spell_unicode, text).replace("[^]", r"[\x00-\x{10FFFF}]")
    if not is_case_sensitive:
        spelled = f"(?i:{spelled})"
    try:
        compiled = re2.compile(spelled, _OPTIONS)
        size = compiled.programsize
    except (re2.error, UnicodeEncodeError, RecursionError) as error:
        reason = error.args[0].decode("utf-8", "replace") if isinstance(error, re2.error) else "it can't be read"
        raise Invalid(what=f"the pattern {source!r} can't be used ({reason})") from error
    if size > PROGRAM_LIMIT:
        raise Invalid(what=f"the pattern {source!r} can't be used (it is too large: {size} > {PROGRAM_LIMIT} steps)")
    return LinearPattern(compiled, spelled, size)


def _compile_looking(source: str, text: str, *, is_case_sensitive: bool) -> Pattern:
    import regex  # Few deployments need it, and it takes longer to load than all of this.

    flags = regex.VERSION0 | regex.ASCII | (0 if is_case_sensitive else regex.IGNORECASE)
    try:
        return LookingPattern(regex.compile(_REFERENCE.sub(r"(?P=\1)", text), flags))
    except (regex.error, RecursionError, OverflowError, ValueError) as error:
        raise Invalid(what=f"the pattern {source!r} can't be used ({error})") from error


def _make_options() -> Any:
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    # The most that one pattern, or one set of them, may come to hold as visitors ask for ever other paths.
    options.max_mem = 1024**2
    return options


_OPTIONS: Final = _make_options()
_UNICODE: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u(?:([0-9A-Fa-f]{4})|\{([0-9A-Fa-f]{1,6})\})")
_NAMED: Final = re.compile(r"\(\?<(?=[A-Za-z_])")
_REFERENCE: Final = re.compile(r"\\k<([A-Za-z_][A-Za-z0-9_]*)>")
# Look-ahead, look-behind, atomic groups, back-references by number and name.
_LOOKING: Final = re.compile(r"\(\?(?:[=!>]|<[=!])|(?<!\\)(?:\\\\)*\\(?:[1-9]|k[<{])")


def _spell_unicode(found: re.Match[str]) -> str:
    return f"{found[1]}\\x{{{found[2] or found[3]}}}"


# The shapes that templates become. A group for one segment is followed by a slash or by the end, so it can end in one
# place only; what reaches over several segments comes once, last, and has little behind it.
_LITERAL: Final = r"(?:[^\\.^$*+?()\[\]{}|]|\\[^A-Za-z0-9])"
_OPENING: Final = r"\((?:\?<[A-Za-z_][A-Za-z0-9_]*>)?"
_ONE: Final = rf"{_OPENING}\[\^\\?/\]\+\??\)"
_MANY: Final = rf"(?:{_OPENING}(?:\.[*+]|\[\^/\]\+\(\?:/\[\^/\]\+\)\*)\)|\.\*)"
_NEXT: Final = r"(?=\\?/|\(\?:\\?/|\Z)"
_TEMPLATE: Final = re.compile(
    rf"(?:{_LITERAL}|{_ONE}{_NEXT}|\(\?:\\?/{_ONE}\)\?{_NEXT})*"
    rf"(?:(?:{_MANY}|\(\?:\\?/{_MANY}\)\?){_LITERAL}{{0,64}})?(?:/\?)?"
)
_OPTIONALS: Final = 2
# Sources of the platform's own (`route_sources.py`, `vercel_config.py`), which are as safe.
_KNOWN: Final = frozenset(
    {
        "/(?:.*/)?[^/.]*",
        "/(?:(.+)/)?index(?:\\.html)?/?",
        "/(?!\\.well-known(?:/|$))((?:[^/]+/)*[^/.]+)",
        "/(?!\\.well-known/)((?:[^/]+/)*[^/]+\\.[A-Za-z0-9_]+)/",
    }
)


_GUARD: Final = re.compile(
    rf"(?P<before>(?:{_LITERAL}|\((?!\?)|\(\?:|\(\?<[A-Za-z_][A-Za-z0-9_]*>)*)"
    r"\(\?(?P<kind>[=!])(?P<guard>(?:[^\\()\[\]]|\\.|\[[^\]\\]*\]|\(\?:[^()\[\]\\]*\))*)\)(?P<rest>.*)",
    re.DOTALL,
)
_OPENINGS: Final = re.compile(r"(?<!\\)\((?:\?:|\?<[A-Za-z_][A-Za-z0-9_]*>)?")
_VARIABLE: Final = re.compile(r"\||\)[?*+{]")


def is_template(text: str) -> bool:
    r"""Say whether `re` can't be slow at an expression, because nothing in it can be tried in two ways.

    >>> is_template(r"/blog/([^/]+?)/(.*)"), is_template("/(a+)+")
    (True, False)
    """
    if text in _KNOWN:
        return True
    return _TEMPLATE.fullmatch(text) is not None and text.count(")?") <= _OPTIONALS


def _strip_anchors(source: str) -> str:
    start = 1 if source.startswith("^") else 0
    # `\$` at the end is a dollar sign, `\\$` is a backslash and an anchor.
    tail = source[:-1]
    is_anchor = source.endswith("$") and (len(tail) - len(tail.rstrip("\\"))) % 2 == 0
    return source[start : len(source) - 1 if is_anchor else len(source)]


def _anchor_alternatives(text: str) -> str:
    """Return `a|b` as what `^a|b$` means: whatever starts with a, or ends with b."""
    if "|" not in text or len(parts := list(_split_alternatives(text))) == 1:
        return text
    first, *middle, last = parts
    return "|".join((f"{first}.*", *(f".*?{part}.*" for part in middle), f".*?{last}"))


def _split_alternatives(text: str) -> Iterator[str]:
    start = depth = 0
    is_class = is_escaped = False
    for place, letter in enumerate(text):
        if is_escaped:
            is_escaped = False
        elif letter == "\\":
            is_escaped = True
        elif is_class:
            is_class = letter != "]"
        elif letter == "[":
            is_class = True
        elif letter in "()":
            depth += 1 if letter == "(" else -1
        elif letter == "|" and depth == 0:
            yield text[start:place]
            start = place + 1
    yield text[start:]


class PatternSet:
    """Linear patterns asked all at once: which of them a text may match."""

    # The patterns of one set share its memory: small sets stay far from its end.
    SIZE: Final = 32
    PROGRAM: Final = 4_000

    def __init__(self, patterns: Sequence[LinearPattern]) -> None:
        self._sets: list[tuple[Any, range]] = []
        start = size = 0
        for number, pattern in enumerate(patterns):
            if number - start >= self.SIZE or (size + pattern.size > self.PROGRAM and number > start):
                self._sets.append(self._make(patterns, range(start, number)))
                start, size = number, 0
            size += pattern.size
        self._sets.append(self._make(patterns, range(start, len(patterns))))

    def _make(self, patterns: Sequence[LinearPattern], numbers: range) -> tuple[Any, range]:
        made = re2.Set.FullMatchSet(_OPTIONS)
        for number in numbers:
            made.Add(patterns[number].spelled)
        # A set that ran out of memory says that nothing matches: the one that always does tells the difference.
        made.Add(".*")
        try:
            made.Compile()
        except re2.error:
            return None, numbers
        return made, numbers

    def find(self, text: str) -> list[int]:
        """Return the numbers of the patterns that may match, in order; those that can't are left out."""
        found: list[int] = []
        for made, numbers in self._sets:
            matched = [] if made is None else sorted(made.Match(text))
            if len(numbers) in matched:
                found += [numbers[place] for place in matched[:-1]]
            else:
                found += numbers
        return found
