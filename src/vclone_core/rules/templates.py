"""The places in a route's destination and headers where what was matched is put in: `$1`, `$name`, `${name}`.

`$$` is a dollar sign.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

_PLACE: Final = re.compile(r"\$(?:(\$)|([0-9]+)|([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
# Kept as they are inside a path segment sequence (RFC 3986 §3.3); `%` is kept where it already starts an escape.
PATH_SAFE: Final = "/:@!$&'()*+,;=-._~"
# In a query, what is put in must not end its value.
QUERY_SAFE: Final = "/:@!$'()*,;-._~?"
_SLASH: Final = re.compile("%2F", re.IGNORECASE)
_BEHIND_PATH: Final = re.compile(r"[?#]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_IN_HOST: Final = re.compile(r"(?:https?:)?//[^/?#]*", re.IGNORECASE)
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

    def fill_path(self, values: Mapping[str, str]) -> str:
        """Return the text as a path of the deployment: decoded, as files are named, and without query and fragment."""
        pieces: list[str] = []
        for index, part in enumerate(self.parts):
            if index % 2:
                pieces.append(values.get(part, ""))
                continue
            path = _BEHIND_PATH.split(part, maxsplit=1)[0]
            pieces.append(decode_text(path))
            if len(path) < len(part):
                break
        text = "".join(pieces)
        return text if text.startswith("/") else f"/{text}"

    def fill_quoted(self, values: Mapping[str, str]) -> str:
        """Return the text as part of a URL: what is put in can't leave its place, what is written is kept."""
        pieces: list[str] = []
        written = ""
        for index, part in enumerate(self.parts):
            if index % 2 == 0:
                written += part
                pieces.append(quote_url(part))
                continue
            value = values.get(part, "")
            if not _IN_HOST.fullmatch(written):
                pieces.append(quote(value, safe=QUERY_SAFE) if "?" in written else quote_path(value))
            elif value.startswith("/") and self.parts[index + 1][:1] in ("", "/", "?", "#"):
                pieces.append(quote_path(value))  # The host was whole before it: `https://api.example$1`.
                written += "/"
            else:
                pieces.append(quote(value, safe=""))
        text = "".join(pieces)
        # `//host` would send the visitor elsewhere: only a rule that says so may do that.
        return "/" + text.lstrip("/") if text.startswith("//") and not self.parts[0].startswith("//") else text


def parse_template(text: str) -> Template:
    """Return the template in `text`; every text is one."""
    if "$" not in text:
        return Template((text,))
    parts: list[str] = [""]
    end = 0
    for match in _PLACE.finditer(text):
        parts[-1] += text[end : match.start()]
        end = match.end()
        if match[1]:
            parts[-1] += "$"
        else:
            parts += [match[2] or match[3] or match[4], ""]
    parts[-1] += text[end:]
    return Template(tuple(parts))


def escape_template(text: str) -> str:
    """Return the template that is `text`, whatever dollar signs it has."""
    return text.replace("$", "$$")


def decode_text(text: str) -> str:
    """Return a path written by a person decoded like a request's; what can't be decoded stays.

    >>> decode_text("/caf%C3%A9/a%2Fb/100%")
    '/café/a%2Fb/100%'
    """
    if "%" not in text:
        return text
    try:
        decoded = unquote(_SLASH.sub("%252F", text), errors="strict")
    except UnicodeDecodeError:
        return text
    return text if _CONTROL.search(decoded) else decoded


def quote_path(path: str) -> str:
    """Return a decoded path as it is written in a URL; the `%2F` that decoding kept stays one.

    >>> quote_path("/café/a%2Fb?")
    '/caf%C3%A9/a%2Fb%3F'
    """
    return quote(path, safe=PATH_SAFE).replace("%252F", "%2F")


def quote_url(text: str) -> str:
    """Return a URL written by a person with everything quoted that can't stand in one."""
    return _LOOSE_PERCENT.sub("%25", quote(text, safe=PATH_SAFE + "?#[]%"))
