"""The places in a route's destination and headers where what was matched is put in: `$1`, `$name`, `${name}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

_PLACE: Final = re.compile(r"\$(?:([0-9]+)|([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
# Kept as they are inside a path segment sequence (RFC 3986 §3.3); `%` is kept where it already starts an escape.
PATH_SAFE: Final = "/:@!$&'()*+,;=-._~"
_LOOSE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Template:
    """A text with named places. `parts` alternates: text, place name, text, …; a plain text has one part."""

    parts: tuple[str, ...]

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the text with every place filled; a place that nothing fills becomes empty."""
        if len(self.parts) == 1:
            return self.parts[0]
        return "".join(values.get(p, "") if i % 2 else p for i, p in enumerate(self.parts))

    def fill_quoted(self, values: Mapping[str, str]) -> str:
        """Return the text as part of a URL: what is put in can't leave its path, what is written is kept."""
        text = "".join(
            quote_path(values.get(part, "")) if index % 2 else quote_url(part) for index, part in enumerate(self.parts)
        )
        # `//host` would send the visitor elsewhere: only a rule that says so may do that.
        return "/" + text.lstrip("/") if text.startswith("//") and not self.parts[0].startswith("//") else text


def parse_template(text: str) -> Template:
    """Return the template in `text`; every text is one."""
    parts: list[str] = []
    end = 0
    for match in _PLACE.finditer(text):
        parts += [text[end : match.start()], match[1] or match[2] or match[3]]
        end = match.end()
    return Template((*parts, text[end:]))


def quote_path(path: str) -> str:
    """Return a decoded path as it is written in a URL; the `%2F` that decoding kept stays one.

    >>> quote_path("/café/a%2Fb?")
    '/caf%C3%A9/a%2Fb%3F'
    """
    return quote(path, safe=PATH_SAFE).replace("%252F", "%2F")


def quote_url(text: str) -> str:
    """Return a URL written by a person with everything quoted that can't stand in one."""
    return _LOOSE_PERCENT.sub("%25", quote(text, safe=PATH_SAFE + "?#[]%"))
