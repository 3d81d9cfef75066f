"""The text of a `.env` file -> its variables, and back.

There is no standard. What dotenv (npm), Docker's `env_file` and python-dotenv read alike is read so here; where they
differ, the reading that loses nothing is taken. `$OTHER` stays as it is written: nothing is put in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vclone_core.errors import FieldProblem

_START: Final = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<key>[^=\s#'\"`]*)[ \t]*(?P<sign>=?)[ \t]*")
_COMMENT: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?=\n|\Z)")
_BARE: Final = re.compile(r"[^\n]*")
_QUOTED: Final = {
    "'": re.compile(r"'([^']*)'"),
    "`": re.compile(r"`([^`]*)`"),
    '"': re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL),
}
_ESCAPE: Final = re.compile(r'\\([nrt"\\$])')
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t"}
_REFERENCE: Final = re.compile(r"(?<!\\)\$(?:\{|[A-Za-z_])")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")


@dataclass(frozen=True, slots=True)
class DotEnv:
    """What a file says. `references` are the keys whose values look as if another variable should be put into them.

    Each of `problems` names its line as the field: `line 3`. Of a key that is there twice the last value counts.
    """

    values: Mapping[str, str]
    references: tuple[str, ...] = ()
    problems: tuple[FieldProblem, ...] = ()


def parse_dotenv(text: str) -> DotEnv:
    r"""Return the variables in the text of a `.env` file, and every line that can't be read.

    `KEY=value` with spaces around the sign, and `export` before it, if one likes. A value without quotes ends before
    ` #` or at the end of its line. Values in `'…'` and in backticks are taken as they stand, in `"…"` with `\n`, `\r`,
    `\t`, `\"`, `\\` and `\$` for what they mean; all three may go over several lines.

    >>> parse_dotenv('A=1 # one\nexport B="x\\ny"').values
    {'A': '1', 'B': 'x\ny'}
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    values: dict[str, str] = {}
    references: set[str] = set()
    problems: list[FieldProblem] = []
    at, counted, line = 0, 0, 1
    while at < len(text):
        line, counted = line + text.count("\n", counted, at), at
        start = _START.match(text, at)
        assert start is not None
        key, at, problem = start["key"], start.end(), ""
        if not start["sign"]:
            if key or not _COMMENT.match(text, at):
                problem = "has no `KEY=value`"
        elif not key:
            problem = "has no name before the `=`"
        else:
            value, at, problem = _read_value(text, at)
            if not problem:
                values[key] = value
                references.discard(key)
                quote = text[start.end() : start.end() + 1]
                # Within double quotes as it is written: there `\$` says that none is meant.
                if quote not in ("'", "`") and _REFERENCE.search(text[start.end() : at] if quote == '"' else value):
                    references.add(key)
                if not _COMMENT.match(text, at):
                    problem = "goes on after the closing quote"
        if problem:
            problems.append(FieldProblem(f"line {line}", problem))
        at = _next_line(text, at)
    return DotEnv(values, tuple(key for key in values if key in references), tuple(problems))


def format_dotenv(values: Mapping[str, str]) -> str:
    """Return the text of a `.env` file that `parse_dotenv`, and the libraries programs use, read as `values`."""
    return "".join(f"{key}={_write_value(value)}\n" for key, value in values.items())


def _read_value(text: str, at: int) -> tuple[str, int, str]:
    quote = text[at : at + 1]
    if quote not in _QUOTED or not quote:
        line = _BARE.match(text, at)
        assert line is not None
        # `KEY= # nothing`: the space before the comment was taken for one after the sign.
        if line[0].startswith("#") and text[at - 1] in " \t":
            return "", line.end(), ""
        return re.split(r"[ \t]#", line[0], maxsplit=1)[0].rstrip(" \t"), line.end(), ""
    found = _QUOTED[quote].match(text, at)
    if found is None:
        return "", at, f"has a {quote} that is never closed"
    value = found[1] if quote != '"' else _ESCAPE.sub(lambda sign: _ESCAPED.get(sign[1], sign[1]), found[1])
    return value, found.end(), ""


def _next_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def _write_value(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    # Within single quotes every library takes a value as it stands.
    if "'" not in value and "\r" not in value:
        return f"'{value}'"
    escaped = re.sub(r'([\\"$])', r"\\\1", value).replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
