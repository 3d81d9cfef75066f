"""Who may do what: one table of actions, by role and scope. Whether a thing is one's own team's is asked of the data.

docs/reference.md shows the table; tests/api/test_matrix.py calls every route as everybody and compares.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from vclone_core.errors import Forbidden
from vclone_core.models import Actor

ROLES: Final = ("owner", "admin", "developer", "viewer")
# What a token may be for; each includes those before it.
SCOPES: Final = ("read", "deploy", "manage", "admin")
# What no scope includes: only a person who signed in, by whatever means, changes their account. A token of one team
# could else make itself a sign-in to all of them.
ACCOUNT: Final = "account"

_EVERYBODY: Final = frozenset(ROLES)
_MAKERS: Final = frozenset({"owner", "admin", "developer"})
_KEEPERS: Final = frozenset({"owner", "admin"})
_OWNERS: Final = frozenset({"owner"})


@dataclass(frozen=True, slots=True)
class Permission:
    """Who is allowed an action: which roles, and with a token of which scope. `for_restricted`: also members who may
    see only some of the projects; what they touch is narrowed to those by every query.
    """

    roles: frozenset[str]
    scope: str
    for_restricted: bool = True


PERMISSIONS: Final[Mapping[str, Permission]] = MappingProxyType(
    {
        "see a project": Permission(_EVERYBODY, "read"),
        "create a project": Permission(_MAKERS, "deploy", for_restricted=False),
        "change a project": Permission(_MAKERS, "manage"),
        "delete a project": Permission(_KEEPERS, "manage"),
        "see a deployment": Permission(_EVERYBODY, "read"),
        "deploy": Permission(_MAKERS, "deploy"),
        "cancel a deployment": Permission(_MAKERS, "deploy"),
        "promote a deployment": Permission(_MAKERS, "deploy"),
        "roll back": Permission(_MAKERS, "deploy"),
        "pin a deployment": Permission(_MAKERS, "deploy"),
        "see variables": Permission(_EVERYBODY, "read"),
        # Of those that aren't sensitive: nobody is shown these.
        "read values of variables": Permission(_MAKERS, "manage"),
        "change variables": Permission(_MAKERS, "manage"),
        "connect a repository": Permission(_MAKERS, "manage"),
        # Of another repository's code, which nobody of the team has written.
        "approve a pull request": Permission(_MAKERS, "deploy"),
        "see domains": Permission(_EVERYBODY, "read"),
        "change domains": Permission(_MAKERS, "manage"),
        # One host of one's own, or of a proved domain; production's own hosts move by promoting.
        "change aliases": Permission(_MAKERS, "deploy"),
        "change protection": Permission(_MAKERS, "manage"),
        "share a site": Permission(_MAKERS, "deploy"),
        "collect storage": Permission(_KEEPERS, "manage"),
        "see git access": Permission(_MAKERS, "manage", for_restricted=False),
        "change git access": Permission(_KEEPERS, "admin", for_restricted=False),
        "see webhooks": Permission(_MAKERS, "manage", for_restricted=False),
        "change webhooks": Permission(_KEEPERS, "manage", for_restricted=False),
        "see events": Permission(_EVERYBODY, "read"),
        "see one's account": Permission(_EVERYBODY, "read"),
        "change one's account": Permission(_EVERYBODY, ACCOUNT),
        "create a team": Permission(_EVERYBODY, ACCOUNT),
        "see the team": Permission(_EVERYBODY, "read", for_restricted=False),
        "change the team": Permission(_KEEPERS, "admin", for_restricted=False),
        "delete the team": Permission(_OWNERS, "admin", for_restricted=False),
        "leave the team": Permission(_EVERYBODY, "admin"),
        "make tokens": Permission(_EVERYBODY, "admin"),
        "see the audit log": Permission(_KEEPERS, "admin", for_restricted=False),
    }
)


def may(actor: Actor, action: str) -> bool:
    """Say whether the actor is allowed `action`, a key of `PERMISSIONS`."""
    return _reason_against(actor, action) is None


def require(actor: Actor, action: str) -> None:
    """Raise `Forbidden` unless the actor is allowed `action`."""
    if reason := _reason_against(actor, action):
        raise Forbidden(what=reason)


def may_give(actor: Actor, role: str) -> bool:
    """Say whether the actor may make somebody `role`, or take it from them: nobody gives more than they have."""
    return may(actor, "change the team") and ROLES.index(actor.role) <= ROLES.index(role)


def covers(held: Collection[str] | None, scope: str) -> bool:
    """Say whether scopes (None: all) include `scope`.

    >>> covers(("deploy",), "read"), covers(("deploy",), "admin"), covers(None, "admin"), covers(("admin",), "account")
    (True, False, True, False)
    """
    if held is None or scope not in SCOPES:
        return held is None
    return any(SCOPES.index(scope) <= SCOPES.index(one) for one in held if one in SCOPES)


def _reason_against(actor: Actor, action: str) -> str | None:
    permission = PERMISSIONS[action]
    if actor.role not in permission.roles:
        return f"a {actor.role} can't {action}"
    if actor.projects is not None and not permission.for_restricted:
        return f"a member of single projects can't {action}"
    if not covers(actor.scopes, permission.scope):
        needed = "somebody who signed in" if permission.scope == ACCOUNT else f"the scope {permission.scope}"
        return f"this token can't {action}: that needs {needed}"
    return None
