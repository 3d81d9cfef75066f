from __future__ import annotations

import pytest

from vclone_core.errors import Forbidden
from vclone_core.models import Actor
from vclone_core.rules.access import PERMISSIONS, may, require

READS = {"see a project", "see a deployment"}
KEEPS = {"delete a project"}
ALLOWED = {
    "owner": set(PERMISSIONS),
    "admin": set(PERMISSIONS),
    "developer": set(PERMISSIONS) - KEEPS,
    "viewer": READS,
    "nobody": set(),
}


@pytest.mark.parametrize("role", ALLOWED)
def test_each_role_may_do_what_the_table_says(role: str) -> None:
    actor = Actor("usr_1", "tem_1", role)
    assert {action for action in PERMISSIONS if may(actor, action)} == ALLOWED[role]


def test_a_refusal_says_who_can_not_do_what() -> None:
    with pytest.raises(Forbidden, match="a viewer can't deploy"):
        require(Actor("usr_1", "tem_1", "viewer"), "deploy")
