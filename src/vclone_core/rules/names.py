"""Project names and the host names made from them. Hosts are made here and never taken apart again."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from vclone_core.errors import FieldProblem, InvalidFields
from vclone_core.ids import short_id

LABEL_LENGTH: Final = 63  # RFC 1035 §2.3.4
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,51}[a-z0-9])?")
RESERVED: Final = frozenset({"www", "api", "admin", "mail", "ftp", "ns", "smtp", "dashboard", "localhost", "internal"})


def parse_project_name(text: str) -> str:
    """Return `text` if a project may have that name; raise `InvalidFields` otherwise.

    At most 53 characters, so that `{short id}-{name}` is one label of a host name.
    """
    if not _NAME.fullmatch(text):
        message = "use 1 to 53 lower-case letters, digits and hyphens, with no hyphen at either end"
    elif text in RESERVED:
        message = f"{text} is reserved"
    else:
        return text
    raise InvalidFields((FieldProblem("name", message),))


def suggest_project_name(text: str) -> str:
    """Return the nearest allowed project name for a folder's or a repository's name.

    >>> suggest_project_name("My Site_2")
    'my-site-2'
    """
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:53].strip("-")
    return f"{name or 'site'}-site" if name in RESERVED or not name else name


def slug_of(text: str) -> str:
    """Return the slug that a team of this name gets; empty where no letter of it can stand in one.

    >>> slug_of("Ann & Co.")
    'ann-co'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")


def parse_team_slug(text: str) -> str:
    """Return `text` if a team may have that slug; raise `InvalidFields` otherwise."""
    if len(text) <= 48 and _NAME.fullmatch(text) and not text.startswith("tem_"):
        return text
    message = "use 1 to 48 lower-case letters, digits and hyphens, with no hyphen at either end"
    raise InvalidFields((FieldProblem("slug", message),))


def production_host(project: str, base_domain: str) -> str:
    """Return the host that always shows a project's production deployment."""
    return f"{project}.{base_domain}"


def deployment_host(project: str, deployment_id: str, base_domain: str) -> str:
    """Return the host that shows one deployment for ever."""
    return f"{fit_label(f'{short_id(deployment_id)}-{project}')}.{base_domain}"


def branch_host(project: str, branch: str, base_domain: str) -> str:
    """Return the host that shows the newest deployment of a branch.

    >>> branch_host("shop", "feat/New_Cart", "example.com")
    'shop-git-feat-new-cart-415898.example.com'
    """
    slug = re.sub(r"[^a-z0-9]+", "-", branch.lower()).strip("-")
    # Two branches must not share a host: what the slug lost comes back as a hash.
    mark = "" if slug == branch else "-" + hashlib.sha256(branch.encode()).hexdigest()[:6]
    return f"{fit_label(f'{project}-git-{slug}{mark}')}.{base_domain}"


def fit_label(label: str) -> str:
    """Cut a label to 63 characters; one that was cut ends in a stable hash of the whole."""
    if len(label) <= LABEL_LENGTH:
        return label
    digest = hashlib.sha256(label.encode()).hexdigest()[:8]
    return f"{label[: LABEL_LENGTH - 9].rstrip('-')}-{digest}"
