"""The paths of `_redirects` and `_headers`: `/news/*`, `/blog/:year/:slug`, `https://shop.example/*`.

`:name` takes one segment or a part of it, `*` everything that follows, and is called `:splat` in a destination. As on
Netlify a path means itself with and without a slash at its end, and `/news/*` means `/news`, too.
https://docs.netlify.com/routing/redirects/redirect-options/, https://developers.cloudflare.com/pages/configuration/headers/
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vclone_core.errors import Invalid
from vclone_core.rules.templates import decode_text, escape_template

SPLAT: Final = "splat"
_TOKEN: Final = re.compile(r":([A-Za-z][A-Za-z0-9_]*)|(\*)")
_ADDRESS: Final = re.compile(
    r"https?://(?P<host>(?:[^/?#:@]|:(?=[A-Za-z]))+)(?::[0-9]{1,5})?(?P<path>/[^?#]*)?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class SplatPath:
    """A path as a regular expression, the names it captures, and the condition on the host where it has one."""

    source: str
    names: frozenset[str]
    has: tuple[Mapping[str, Any], ...] = ()


def compile_splat(path: str, *, splats: int = 1, is_exact: bool = False) -> SplatPath:
    """Return the expression for a path; raise `Invalid` where it can't be understood.

    It may have as many `splats`; the first is `:splat`. An exact path means nothing but itself.

    >>> compile_splat("/news/*").source, compile_splat("/blog/:slug").source
    ('^/news(?:/(?<splat>.*))?$', '^/blog/(?<slug>[^/]+?)/?$')
    """
    if path.count("*") > splats:
        raise Invalid(what=f"a path may have {'one *' if splats == 1 else f'at most {splats} *'}")
    found = _ADDRESS.fullmatch(path)
    has: tuple[Mapping[str, Any], ...] = ()
    names: list[str] = []
    if found is not None:
        host, path = found["host"].lower(), found["path"] or "/"
        if _TOKEN.search(host):
            has = ({"type": "host", "value": _spell(host, "[^/.]+", names)},)
        else:
            has = ({"type": "host", "value": {"eq": host}},)
    if not path.startswith("/"):
        raise Invalid(what="the path must start with / (or with http:// or https:// and a host)")
    path = path.partition("?")[0].partition("#")[0]
    if path.endswith("/*") and path != "/*":
        text = f"{_spell(path[:-2], '[^/]+?', names)}(?:/{_spell('*', '', names)})?"
    else:
        bare = path if is_exact or path == "/" else path.rstrip("/") or "/"
        text = _spell(bare, "[^/]+?", names) + ("" if is_exact or bare in ("/", "/*") else "/?")
    return SplatPath(f"^{text}$", frozenset(names) - {"*"}, has)


def fill_splat(text: str, names: Collection[str]) -> str:
    """Return a destination or value with `:name` made the place that holds it; other names are text.

    >>> fill_splat("https://a.example:80/:splat?cost=$1", ["splat"])
    'https://a.example:80/${splat}?cost=$$1'
    """

    def replace(found: re.Match[str]) -> str:
        return f"${{{found[1]}}}" if found[1] in names else found[0]

    return _PLACE.sub(replace, escape_template(text))


_PLACE: Final = re.compile(r":([A-Za-z][A-Za-z0-9_]*)")


def _spell(text: str, one: str, names: list[str]) -> str:
    """Return a text as an expression, and add the names in it, and `*` for the first splat."""
    parts: list[str] = []
    end = 0
    for found in _TOKEN.finditer(text):
        parts += [_quote(text[end : found.start()])]
        end = found.end()
        if found[1]:
            parts.append(_name(found[1], one, names))
        else:
            parts.append("(.*)" if "*" in names else _name(SPLAT, ".*", names))
            names.append("*")
    return "".join((*parts, _quote(text[end:])))


def _name(name: str, expression: str, names: list[str]) -> str:
    if name in names:
        raise Invalid(what=f"the path has :{name} twice")
    names.append(name)
    return f"(?<{name}>{expression})"


def _quote(text: str) -> str:
    return re.escape(decode_text(text)).replace(r"\/", "/").replace(r"\-", "-")
