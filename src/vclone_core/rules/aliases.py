"""Which hosts a team may point at a deployment itself: free ones below the base domain, besides its own domains."""

from __future__ import annotations

from collections.abc import Collection

from vclone_core.errors import FieldProblem, InvalidFields
from vclone_core.rules.domains import parse_domain
from vclone_core.rules.names import LABEL_LENGTH, RESERVED


def parse_alias(text: str, base_domain: str) -> str:
    """Return the host that somebody means; a name without a dot is one below the base domain.

    >>> parse_alias("Try-Me", "example.com"), parse_alias("www.shop.example.", "example.com")
    ('try-me.example.com', 'www.shop.example')
    """
    text = text.strip()
    return parse_domain(f"{text}.{base_domain}" if "." not in text.rstrip(".") else text)


def is_below(host: str, base_domain: str) -> bool:
    """Say whether a host is the platform's to give."""
    return host == base_domain or host.endswith(f".{base_domain}")


def read_label(host: str, *, base_domain: str, own_hosts: Collection[str]) -> str:
    """Return the label of a host below the base domain that can be chosen; raise `InvalidFields` for one that can't.

    Whether it is free is asked of the data: it may be a project's name.
    """
    label = host.removesuffix(f".{base_domain}") if host != base_domain else ""
    if not label or label in RESERVED or host in own_hosts:
        problem = "belongs to the platform"
    elif "." in label:
        problem = f"has more than one label before {base_domain}, where no name leads to"
    elif len(label) > LABEL_LENGTH or "-git-" in label:
        problem = "has the form of a branch's host"
    else:
        return label
    raise InvalidFields((FieldProblem("host", problem),))
