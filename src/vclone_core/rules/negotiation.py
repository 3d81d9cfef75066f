"""Which precompressed copy of a file a request gets: Accept-Encoding with weights (RFC 9110 §12.5.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from vclone_core.models import Variant

IDENTITY: Final = "identity"
_ITEM: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*(?:;[ \t]*[qQ][ \t]*=[ \t]*([0-9.]+)[ \t]*)?")
_WEIGHT: Final = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
# Where the sizes and weights are equal; also the names whose older spelling is still sent.
_ORDER: Final = ("br", "zstd", "gzip", IDENTITY)
_ALIASES: Final = {"x-gzip": "gzip"}


@lru_cache(maxsize=1024)
def parse_weights(header: bytes) -> Mapping[str, int]:
    """Return the weight, 0 to 1000, of each coding that an Accept-Encoding names. What is malformed is left out.

    >>> dict(parse_weights(b"br;q=0.9, gzip, *;q=0"))
    {'br': 900, 'gzip': 1000, '*': 0}
    """
    weights: dict[str, int] = {}
    for item in header.decode("latin-1").split(","):
        match = _ITEM.fullmatch(item.strip(" \t"))
        if match is None or (match[2] is not None and not _WEIGHT.fullmatch(match[2])):
            continue
        coding = match[1].lower()
        weights.setdefault(_ALIASES.get(coding, coding), 1000 if match[2] is None else round(float(match[2]) * 1000))
    return weights


def choose_coding(header: bytes | None, size: int, variants: Mapping[str, Variant]) -> str | None:
    """Return the coding to send, a key of `variants` or `identity`; None when the request accepts none of them.

    A file without variants is sent as it is, whatever was asked: a default is better than a refusal (§15.5.7). The
    highest weight wins; among equals the smallest, since any of them is as good to the client.
    """
    if header is None or not variants or not (weights := parse_weights(header)):
        return IDENTITY
    anything = weights.get("*", 0)
    best: tuple[int, int, int] | None = None
    chosen = None
    for coding in (*variants, IDENTITY):
        # Identity is acceptable unless excluded, but anything that was named with a weight comes before it.
        weight = weights.get(coding, anything if coding != IDENTITY or "*" in weights else 1)
        if weight == 0:
            continue
        bytes_sent = size if coding == IDENTITY else variants[coding].size
        rank = (weight, -bytes_sent, -_ORDER.index(coding) if coding in _ORDER else -len(_ORDER))
        if best is None or rank > best:
            best, chosen = rank, coding
    return chosen
