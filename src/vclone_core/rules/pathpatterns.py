"""The path templates of `vercel.json`: `/blog/:slug`, `/docs/:path*`, `/:id(\\d+)`, `/feature-{:name}?`.

They are path-to-regexp's (version 6, with `/` as the only delimiter): a name takes one segment or what its brackets
say; `?`, `*` and `+` make it optional, any number of segments, or at least one; braces group what comes and goes
together; a backslash takes a character as it is. https://vercel.com/docs/project-configuration#redirects
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from vclone_core.errors import Invalid
from vclone_core.rules.templates import decode_text

# One segment, or as little of it as the rest of the template asks for.
SEGMENT: Final = "[^/]+?"
_NAME: Final = re.compile(r"[A-Za-z0-9_]+")
_MODIFIERS: Final = "?*+"
# What a name takes along when it is left out.
_PREFIXES: Final = "/."


@dataclass(frozen=True, slots=True)
class Parameter:
    """One place of a template: what must stand before and behind it, and the expression for itself.

    Without an expression it is only text that may be left out or repeated.
    """

    name: str | None
    expression: str
    prefix: str = ""
    suffix: str = ""
    modifier: str = ""


Piece = str | Parameter


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A template as a regular expression. `names` are its captures in their order, None for those without a name."""

    source: str
    names: tuple[str | None, ...]


def compile_path(template: str) -> PathPattern:
    r"""Return the expression for a template; raise `Invalid` with the character where it can't be understood.

    >>> compile_path("/blog/:slug/(.*)")
    PathPattern(source='^/blog/([^/]+?)/(.*)$', names=('slug', None))
    """
    pieces = parse_path(template)
    names = tuple(piece.name for piece in pieces if isinstance(piece, Parameter) and piece.expression)
    named = [name for name in names if name]
    if len(named) != len(set(named)):
        raise Invalid(what=f"{template!r} uses a name twice")
    text = "".join(_quote(piece) if isinstance(piece, str) else _spell(piece) for piece in pieces)
    return PathPattern(f"^{text}$", names)


def parse_path(template: str) -> tuple[Piece, ...]:
    """Return a template's pieces: texts, and the places between them; raise `Invalid`."""
    return tuple(_Reader(template).read())


def fill_template(text: str, places: Mapping[str, str]) -> str:
    """Return a part of a destination with its names replaced by the `$` places that hold them.

    What is no template keeps everything but the names that `places` knows.
    """
    try:
        pieces = parse_path(text)
    except Invalid:
        return fill_names(text, places)
    filled = []
    for piece in pieces:
        if isinstance(piece, str):
            filled.append(piece)
        elif piece.name is not None and piece.name in places:
            filled.append(f"{piece.prefix}{places[piece.name]}{piece.suffix}")
        elif piece.modifier not in ("?", "*"):
            return fill_names(text, places)
    return "".join(filled)


def fill_names(text: str, places: Mapping[str, str]) -> str:
    """Return a text with the names that `places` knows replaced, and nothing else touched.

    >>> fill_names("img-src https: :host", {"host": "$1"})
    'img-src https: $1'
    """
    return _NAMED_PLACE.sub(lambda found: places.get(found[1], found[0]), text)


def list_names(text: str) -> frozenset[str]:
    """Return the names that a destination asks for; none where it is no template."""
    try:
        pieces = parse_path(text)
    except Invalid:
        return frozenset()
    return frozenset(piece.name for piece in pieces if isinstance(piece, Parameter) and piece.name)


_NAMED_PLACE: Final = re.compile(r":([A-Za-z0-9_]+)[?*+]?")


def _quote(text: str) -> str:
    return re.escape(decode_text(text)).replace(r"\/", "/").replace(r"\-", "-")


def _spell(piece: Parameter) -> str:
    """Return a place as an expression: one capture, and what surrounds it only where it is there."""
    prefix, suffix, expression = _quote(piece.prefix), _quote(piece.suffix), piece.expression
    if not expression:
        return f"(?:{prefix}{suffix}){piece.modifier}"
    if piece.modifier in ("*", "+") and (prefix or suffix):
        between = f"{suffix}{prefix}"
        if expression == SEGMENT and between == "/":
            # The same in a form that has nothing to try twice.
            repeated = "[^/]+(?:/[^/]+)*"
        else:
            repeated = f"(?:{expression})(?:{between}(?:{expression}))*"
        optional = "?" if piece.modifier == "*" else ""
        whole = f"{prefix}({repeated}){suffix}"
        return f"(?:{whole}){optional}" if optional else whole
    if prefix or suffix:
        return f"(?:{prefix}({expression}){suffix})?" if piece.modifier else f"{prefix}({expression}){suffix}"
    return f"({expression}){piece.modifier}"


class _Reader:
    """Reads a template from left to right."""

    def __init__(self, template: str) -> None:
        self.template = template
        self.at = 0
        # An escaped slash or dot is text, and goes with no name.
        self._is_escaped_end = False

    def read(self) -> Iterator[Piece]:
        text = ""
        while self.at < len(self.template):
            letter = self.template[self.at]
            if letter == ":" or letter == "(":
                taken = text[-1:] if text[-1:] in tuple(_PREFIXES) and not self._is_escaped_end else ""
                if text := text[: len(text) - len(taken)]:
                    yield text
                name = self._read_name()
                expression = self._read_expression()
                yield Parameter(name, expression or SEGMENT, prefix=taken, modifier=self._read_modifier())
                text = ""
            elif letter == "{":
                if text:
                    yield text
                yield self._read_group()
                text = ""
            elif letter == "}" or letter in _MODIFIERS:
                raise self._refuse(f"has a {letter!r} that belongs to nothing")
            else:
                text += self._read_letter()
        if text:
            yield text

    def _read_letter(self) -> str:
        self._is_escaped_end = self.template[self.at] == "\\"
        if self._is_escaped_end:
            self.at += 1
            if self.at >= len(self.template):
                raise self._refuse("ends with a backslash")
        self.at += 1
        return self.template[self.at - 1]

    def _read_name(self) -> str | None:
        if self.template[self.at : self.at + 1] != ":":
            return None
        found = _NAME.match(self.template, self.at + 1)
        if found is None:
            raise self._refuse("has a colon without a name")
        self.at = found.end()
        return found[0]

    def _read_expression(self) -> str:
        """Return what stands in the brackets here; nothing where there are none."""
        if self.template[self.at : self.at + 1] != "(":
            return ""
        start = self.at + 1
        depth = 1
        self.at = start
        while self.at < len(self.template):
            letter = self.template[self.at]
            if letter == "\\":
                self.at += 2
                continue
            if letter == ")":
                depth -= 1
                if depth == 0:
                    break
            elif letter == "(":
                depth += 1
                if self.template[self.at + 1 : self.at + 2] != "?":
                    raise self._refuse("has brackets that capture inside of brackets")
            self.at += 1
        else:
            raise self._refuse("has a bracket that is not closed")
        expression = self.template[start : self.at]
        if not expression or expression.startswith("?"):
            raise self._refuse("has brackets with nothing, or with '?', at their start")
        self.at += 1
        return expression

    def _read_group(self) -> Parameter:
        self.at += 1
        prefix = self._read_plain()
        name = self._read_name()
        expression = self._read_expression()
        suffix = self._read_plain()
        if self.template[self.at : self.at + 1] != "}":
            raise self._refuse("has a brace that is not closed, or holds two names")
        self.at += 1
        expression = expression or (SEGMENT if name else "")
        return Parameter(name, expression, prefix, suffix, self._read_modifier())

    def _read_plain(self) -> str:
        text = ""
        while self.at < len(self.template) and self.template[self.at] not in ":(){}?*+":
            text += self._read_letter()
        return text

    def _read_modifier(self) -> str:
        if self.template[self.at : self.at + 1] not in tuple(_MODIFIERS):
            return ""
        self.at += 1
        return self.template[self.at - 1]

    def _refuse(self, what: str) -> Invalid:
        return Invalid(what=f"{self.template!r} {what} (character {self.at + 1})")
