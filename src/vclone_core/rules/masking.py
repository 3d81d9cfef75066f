"""Keeps secret values out of logs: every common spelling of each, wherever chunks of output end.

secrets -> spellings -> patterns of at most `PIECE` bytes -> a `Mask`, and per stream of output a `Masker` over it.

It is best effort: who writes a build can always print a secret in a way that nobody has thought of.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote, urlsplit

from vclone_core.rules.logtext import strip_colours

MASK: Final = "***"
# Shorter values are found in innocent words too often.
MIN_CHARS: Final = 8
# Longer spellings are looked for in pieces: what is held back, and the work for one byte, stay bounded.
PIECE: Final = 64
# Text is looked up every `_STRIDE` bytes, by `_GRAM` of them; so each pattern's first `MIN_CHARS` are met once.
_GRAM: Final = 4
_STRIDE: Final = MIN_CHARS - _GRAM + 1
# Values that programs say all the time.
_WORDS: Final = frozenset({"production", "development", "localhost", "undefined"})
_PEM_EDGE: Final = re.compile(r"-----(?:BEGIN|END) [A-Z ]+-----")
_SEGMENTS: Final = re.compile(rb"[^\r\n]+")


class Mask:
    """The patterns of some secrets. Values of fewer than `MIN_CHARS` characters are left out."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        found: set[bytes] = set()
        for secret in set(secrets):
            for spelling in spell(secret):
                found.update(cut_pieces(spelling))
        self.patterns: Final = tuple(sorted(found))
        self.longest: Final = max(map(len, found), default=0)
        self._whole = frozenset(found)
        # Where the first bytes of a pattern are seen, which lengths can follow.
        lengths: dict[bytes, set[int]] = {}
        for pattern in found:
            lengths.setdefault(pattern[:MIN_CHARS], set()).add(len(pattern))
        self._lengths = {head: tuple(sorted(sizes, reverse=True)) for head, sizes in lengths.items()}
        self._grams = frozenset(head[at : at + _GRAM] for head in lengths for at in range(_STRIDE))

    def find(self, data: bytes) -> list[tuple[int, int]]:
        """Return the parts of `data` to be masked, (start, end), in order, without those that overlap or touch."""
        grams, lengths, whole = self._grams, self._lengths, self._whole
        merged: list[tuple[int, int]] = []
        seen = 0
        for sample in range(0, len(data) - _GRAM + 1, _STRIDE):
            if data[sample : sample + _GRAM] not in grams:
                continue
            for start in range(max(seen, sample - _STRIDE + 1), sample + 1):
                for size in lengths.get(data[start : start + MIN_CHARS], ()):
                    if (end := start + size) <= len(data) and data[start:end] in whole:
                        if merged and start <= merged[-1][1]:
                            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
                        else:
                            merged.append((start, end))
                        break
            seen = sample + 1
        return merged

    def find_beginning(self, data: bytes) -> int:
        """Return where the earliest pattern begins that `data` may have only a part of; its length when none does."""
        for start in range(max(0, len(data) - self.longest + 1), len(data)):
            rest = data[start:]
            at = bisect_left(self.patterns, rest)
            # The smallest pattern not below `rest`: if any begins with it, this one does. It itself would be whole.
            while at < len(self.patterns) and self.patterns[at].startswith(rest):
                if len(self.patterns[at]) > len(rest):
                    return start
                at += 1
        return len(data)

    def text(self, text: str) -> str:
        """Return one text masked. A line that a secret is found in loses its colours, which may stand within it."""
        if not self.patterns:
            return text
        data = strip_colours(text).encode("utf-8", "surrogatepass")
        if not self.find(data):
            return text
        masker = Masker(self)
        return (masker.feed(data) + masker.finish()).decode("utf-8", "replace")

    def value(self, value: Any) -> Any:
        """Return a value with every text in it masked: texts, and tuples, lists and mappings of them."""
        match value:
            case str():
                return self.text(value)
            case Mapping():
                return {key: self.value(item) for key, item in value.items()}
            case tuple() | list():
                return type(value)(self.value(item) for item in value)
        return value


class Masker:
    """Masks one stream of bytes. However the stream is cut into chunks, the same comes out.

    It holds back what may be the beginning of a secret, less than `PIECE` bytes, until the next bytes decide. Line ends
    are never masked, and a line is held back only where a secret of several lines may have begun in it.
    """

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._held = b""
        # How much of what is held is known to be masked, and whether the mask for it was written.
        self._covered = 0
        self._is_written = False

    def feed(self, data: bytes) -> bytes:
        """Return what can be shown by now."""
        if not self._mask.patterns:
            return data
        data = self._held + data
        return self._take(data, self._mask.find_beginning(data))

    def finish(self) -> bytes:
        """Return the rest: nothing follows."""
        return self._take(self._held, len(self._held))

    def _take(self, data: bytes, until: int) -> bytes:
        shown: list[bytes] = []
        at, covered = 0, self._covered
        found = self._mask.find(data)
        if covered:
            found.insert(0, (0, covered))
        for start, end in found:
            if start >= until:
                break
            if start > at:
                shown.append(data[at:start])
                self._is_written = False
            stop = min(end, until)
            shown += self._cover(data[max(start, at) : stop])
            at, covered = max(at, stop), max(covered, end)
        if at < until:
            shown.append(data[at:until])
            self._is_written = False
        self._held, self._covered = data[until:], max(0, covered - until)
        return b"".join(shown)

    def _cover(self, part: bytes) -> Iterator[bytes]:
        at = 0
        for segment in _SEGMENTS.finditer(part):
            if segment.start() > at:
                yield part[at : segment.start()]
                self._is_written = False
            if not self._is_written:
                yield MASK.encode()
                self._is_written = True
            at = segment.end()
        if at < len(part):
            yield part[at:]
            self._is_written = False


def list_secrets(*, environment: Mapping[str, str], settings: Iterable[str]) -> frozenset[str]:
    """Return what must not be seen in a build's log: the values of its own variables, and those of `settings`.

    Of an address with a password the password is one by itself.
    """
    found: set[str] = set()
    for value in (*environment.values(), *settings):
        found.add(value)
        if "://" in value and (password := _password_of(value)):
            found |= {password, unquote(password)}
    return frozenset(value for value in found if value.strip().lower() not in _WORDS)


def _password_of(url: str) -> str | None:
    try:
        return urlsplit(url).password
    except ValueError:
        return None


def spell(secret: str) -> frozenset[bytes]:
    """Return the ways in which programs write a secret, and each of its lines; nothing for a short one."""
    lines = [line for line in secret.splitlines() if not _PEM_EDGE.fullmatch(line.strip())]
    found: set[bytes] = set()
    for value in {secret, secret.strip(), *(line.strip() for line in lines)}:
        if len(value) >= MIN_CHARS and not _PEM_EDGE.fullmatch(value):
            found |= {text.encode("utf-8", "surrogatepass") for text in _spell_text(value)}
            found |= set(_spell_bytes(value.encode("utf-8", "surrogatepass")))
    return frozenset(spelling for spelling in found if len(spelling) >= MIN_CHARS)


def cut_pieces(spelling: bytes) -> Iterator[bytes]:
    """Yield the pieces of at most `PIECE` bytes that together cover a spelling."""
    yield from (spelling[at : at + PIECE] for at in range(0, len(spelling) - PIECE, PIECE))
    yield spelling[-PIECE:]


def _spell_text(value: str) -> Iterator[str]:
    yield value
    data = value.encode("utf-8", "surrogatepass")
    # Python's quote; encodeURIComponent; encodeURI; forms.
    for kept in ("", "/", "!'()*", ";,/?:@&=+$#!'()*"):
        yield from _with_small_hex(quote(data, safe=kept))
    yield from _with_small_hex(quote_plus(data))
    yield html.escape(value)
    for is_ascii in (False, True):
        escaped = json.dumps(value, ensure_ascii=is_ascii)[1:-1]
        yield from (escaped, escaped.replace("/", "\\/"))
        # Go, and JSON within HTML.
        yield re.sub("[<>&]", lambda found: f"\\u{ord(found[0]):04x}", escaped)
        # JSON within JSON.
        yield json.dumps(escaped, ensure_ascii=is_ascii)[1:-1]
    yield repr(value)[1:-1]
    yield shlex.quote(value)
    yield value.replace("'", "'\\''")
    # Within double quotes, by printf %q, and within $'…'.
    yield re.sub(r'([\\"$`])', r"\\\1", value)
    yield re.sub(r"([^\w@%+=:,./\-\n])", r"\\\1", value)
    yield value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\t", "\\t")


def _with_small_hex(quoted: str) -> tuple[str, str]:
    return quoted, re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), quoted)


def _spell_bytes(data: bytes) -> Iterator[bytes]:
    yield data.hex().encode()
    yield data.hex().upper().encode()
    for shift in range(3):
        # What comes before and after a secret changes the letters at its edges; those in between depend on it alone.
        encoded = base64.b64encode(b"\0" * shift + data)
        first, last = (0, 2, 3)[shift], (shift + len(data)) * 8 // 6
        for standard in (encoded[first:last], encoded[first:].rstrip(b"=")):
            yield standard
            yield standard.replace(b"+", b"-").replace(b"/", b"_")
    # Programs break the lines of Base64 after 76 or 64 letters.
    encoded = base64.b64encode(data)
    yield from (encoded[at : at + 76] for at in range(0, len(encoded), 76))
    yield from (encoded[at : at + 64] for at in range(0, len(encoded), 64))
