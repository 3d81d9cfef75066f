"""The output of strangers' programs as safe text: colours stay, everything else that could move a terminal goes."""

from __future__ import annotations

import re
from typing import Final

LINE_BYTES: Final = 16 * 1024
CUT: Final = " … (the line was cut)"
_RESET: Final = "\x1b[0m"
_COLOUR: Final = r"\x1b\[[0-9;:]{0,64}m"
# ECMA-48: control sequences (CSI), strings (OSC, DCS, SOS, PM, APC) up to their end or the line's, other escapes,
# then C0 and C1 controls, and what ends lines, turns the direction of text around, or hides within it.
_UNSAFE: Final = re.compile(
    rf"(?P<colour>{_COLOUR})"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x9c|\x1b\\)?"
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x07\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    r"\U000e0000-\U000e007f]"
)
# A colour, which a backspace passes over, or a letter, which it takes back.
_SHOWN: Final = re.compile(rf"{_COLOUR}|.", re.DOTALL)
_COLOURS: Final = re.compile(_COLOUR)
_RESETS: Final = re.compile(r"\x1b\[0*m")
_LAST_COLOUR: Final = re.compile(rf".*({_COLOUR})", re.DOTALL)


def clean_line(data: bytes) -> str:
    r"""Return one line of output, without its end, as text: at most `LINE_BYTES`, its colours closed.

    A carriage return starts the line anew, as on a terminal: of a progress bar the last state stays. A backspace takes
    back the letter before it.

    >>> clean_line(b"10%\r100%\x1b[2K \x1b]0;title\x07done")
    '100% done'
    """
    data = data.rstrip(b"\r")
    data = data[data.rfind(b"\r") + 1 :]
    text = data[: LINE_BYTES + 1].decode("utf-8", "replace")
    text = _UNSAFE.sub(lambda found: found["colour"] or "", text)
    if "\b" in text:
        text = _take_back(text)
    closed = _close(text)
    # Bytes that are no UTF-8 have grown: the limit is that of the text.
    return closed if len(data) <= LINE_BYTES and len(closed.encode()) <= LINE_BYTES else _close(_cut(text))


def _close(text: str) -> str:
    last = _LAST_COLOUR.match(text)
    return text if last is None or _RESETS.fullmatch(last[1]) else f"{text}{_RESET}"


def _take_back(text: str) -> str:
    shown: list[str] = []
    letters: list[int] = []
    for part in _SHOWN.findall(text):
        if part != "\b":
            if len(part) == 1:
                letters.append(len(shown))
            shown.append(part)
        elif letters:
            shown[letters.pop()] = ""
    return "".join(shown)


def _cut(text: str) -> str:
    kept = text.encode()[: LINE_BYTES - len(CUT.encode()) - len(_RESET)].decode("utf-8", "ignore")
    # A colour that was cut through is no colour.
    whole = _UNSAFE.sub(lambda found: found["colour"] or "", kept)
    return f"{whole}{CUT}"


def strip_colours(text: str) -> str:
    """Return a clean line without its colours."""
    return _COLOURS.sub("", text) if "\x1b" in text else text


class LineSplitter:
    """Turns chunks of one stream into lines; keeps no more than `LINE_BYTES` of a line that does not end."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that `data` completes."""
        *whole, rest = data.split(b"\n")
        lines = []
        for piece in whole:
            self._keep(piece)
            lines.append(clean_line(bytes(self._rest)))
            self._rest.clear()
        self._keep(rest)
        return lines

    def finish(self) -> list[str]:
        """Return the unfinished line, if there is one."""
        if not self._rest:
            return []
        line = clean_line(bytes(self._rest))
        self._rest.clear()
        return [line]

    def _keep(self, piece: bytes) -> None:
        # One byte more than the limit, so that the cut is seen. Before the last carriage return nothing is shown.
        if (start := piece.rfind(b"\r", 0, max(len(piece) - 1, 0))) >= 0:
            self._rest.clear()
            piece = piece[start + 1 :]
        self._rest += piece[: max(0, LINE_BYTES + 1 - len(self._rest))]
