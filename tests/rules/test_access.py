from __future__ import annotations

from itertools import pairwise

import pytest

from vclone_core.errors import Forbidden
from vclone_core.models import Actor
from vclone_core.rules.access import PERMISSIONS, ROLES, SCOPES, may, may_give, require

ONES_OWN = {"see one's account", "change one's account", "create a team", "leave the team", "make tokens"}
READS = {"see a project", "see a deployment", "see the team", "see variables", "see domains", "see events"}
KEEPS = {
    "delete a project",
    "change the team",
    "see the audit log",
    "collect storage",
    "change git access",
    "change webhooks",
}
OWNS = {"delete the team"}
ALLOWED = {
    "owner": set(PERMISSIONS),
    "admin": set(PERMISSIONS) - OWNS,
    "developer": set(PERMISSIONS) - OWNS - KEEPS,
    "viewer": READS | ONES_OWN,
    "nobody": set(),
}


@pytest.mark.parametrize("role", ALLOWED)
def test_each_role_may_do_what_the_table_says(role: str) -> None:
    actor = Actor("usr_1", "tem_1", role)
    assert {action for action in PERMISSIONS if may(actor, action)} == ALLOWED[role]


def test_a_refusal_says_who_can_not_do_what() -> None:
    with pytest.raises(Forbidden, match="a viewer can't deploy"):
        require(Actor("usr_1", "tem_1", "viewer"), "deploy")


def test_a_restricted_member_makes_no_project_and_sees_no_team() -> None:
    actor = Actor("usr_1", "tem_1", "developer", projects=("prj_1",))
    assert may(actor, "deploy") and may(actor, "see a project")
    with pytest.raises(Forbidden, match="a member of single projects can't create a project"):
        require(actor, "create a project")
    assert not may(actor, "see the team")


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_never_allows_more_than_the_role_nor_reaches_the_account(scope: str) -> None:
    for role in ROLES:
        by_token = {action for action in PERMISSIONS if may(Actor("usr_1", "tem_1", role, scopes=(scope,)), action)}
        assert by_token <= ALLOWED[role]
        assert not by_token & {"change one's account", "create a team"}


def test_scopes_are_nested() -> None:
    allowed = [
        {action for action in PERMISSIONS if may(Actor("u", "t", "owner", (scope,)), action)} for scope in SCOPES
    ]
    assert all(less < more for less, more in pairwise(allowed))
    assert not any(may(Actor("u", "t", "owner", scopes=("nonsense",)), action) for action in PERMISSIONS)


def test_nobody_gives_a_role_above_their_own() -> None:
    given = {role: [other for other in ROLES if may_give(Actor("u", "t", role), other)] for role in ROLES}
    assert given == {"owner": [*ROLES], "admin": ["admin", "developer", "viewer"], "developer": [], "viewer": []}
