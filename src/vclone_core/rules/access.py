"""Who may do what: one table of role and action. Whether a thing is one's own team's is asked of the data."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from vclone_core.errors import Forbidden
from vclone_core.models import Actor

_EVERYBODY: Final = frozenset({"owner", "admin", "developer", "viewer"})
_MAKERS: Final = frozenset({"owner", "admin", "developer"})
_KEEPERS: Final = frozenset({"owner", "admin"})

PERMISSIONS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "see a project": _EVERYBODY,
        "create a project": _MAKERS,
        "change a project": _MAKERS,
        "delete a project": _KEEPERS,
        "see a deployment": _EVERYBODY,
        "deploy": _MAKERS,
        "cancel a deployment": _MAKERS,
        "promote a deployment": _MAKERS,
        "roll back": _MAKERS,
    }
)


def may(actor: Actor, action: str) -> bool:
    """Say whether the actor's role allows `action`, a key of `PERMISSIONS`."""
    return actor.role in PERMISSIONS[action]


def require(actor: Actor, action: str) -> None:
    """Raise `Forbidden` unless the actor's role allows `action`."""
    if not may(actor, action):
        raise Forbidden(what=f"a {actor.role} can't {action}")
