"""Who takes which host, and where a rollback leads."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from vclone_core.models import AliasKind, Deployment, Project, ProjectSettings, Source, State, Target
from vclone_core.rules.publishing import PastMove, decide_points, decide_previous, decide_target

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PROJECT = Project("prj_1", "tem_1", "shop", None, ProjectSettings(), False, NOW)
DEPLOYMENT = Deployment(
    id="dep_0123456789abcdefghjk",
    project_id="prj_1",
    target=Target.PRODUCTION,
    state=State.BUILDING,
    source=Source("git", url="https://git.example/x.git", ref="main"),
    sequence=5,
    attempt=1,
    failure=None,
    framework=None,
    file_count=None,
    size_bytes=None,
    created_at=NOW,
    started_at=None,
    finished_at=None,
)
OWN, BRANCH, LIVE = AliasKind.DEPLOYMENT, AliasKind.BRANCH, AliasKind.PRODUCTION


@pytest.mark.parametrize(
    ("kind", "ref", "asked", "has_production", "target"),
    [
        ("git", "main", None, True, Target.PRODUCTION),
        ("git", None, None, True, Target.PRODUCTION),
        ("git", "feat/x", None, False, Target.PREVIEW),
        ("git", "feat/x", Target.PRODUCTION, True, Target.PRODUCTION),
        ("git", "main", Target.PREVIEW, False, Target.PREVIEW),
        ("upload", None, None, False, Target.PRODUCTION),
        ("upload", None, None, True, Target.PREVIEW),
        ("prebuilt", None, None, False, Target.PRODUCTION),
        ("prebuilt", None, Target.PRODUCTION, True, Target.PRODUCTION),
    ],
)
def test_target(kind: Any, ref: str | None, asked: Target | None, has_production: bool, target: Target) -> None:
    source = Source(kind, ref=ref)
    assert decide_target(source, asked=asked, production_branch="main", has_production=has_production) is target


@pytest.mark.parametrize(
    ("change", "paused", "production", "branch", "kinds"),
    [
        ({}, False, None, None, [OWN, BRANCH, LIVE]),
        ({}, False, 4, 4, [OWN, BRANCH, LIVE]),
        ({}, False, 6, 6, [OWN]),
        ({}, False, 6, 4, [OWN, BRANCH]),
        ({}, True, 4, 4, [OWN, BRANCH]),
        ({"target": Target.PREVIEW}, False, None, None, [OWN, BRANCH]),
        ({"source": Source("upload")}, False, None, None, [OWN, LIVE]),
        ({"source": Source("upload"), "target": Target.PREVIEW}, False, None, None, [OWN]),
    ],
)
def test_points(
    change: dict[str, Any], paused: bool, production: int | None, branch: int | None, kinds: list[AliasKind]
) -> None:
    points = decide_points(
        replace(PROJECT, is_publishing_paused=paused),
        replace(DEPLOYMENT, **change),
        base_domain="example.com",
        production_sequence=production,
        branch_sequence=branch,
    )
    assert [point.kind for point in points] == kinds
    assert points[0].host == "abcdefghjk-shop.example.com"


@pytest.mark.product("B1.1")
def test_custom_hosts_go_where_production_goes() -> None:
    points = decide_points(
        PROJECT,
        DEPLOYMENT,
        base_domain="example.com",
        production_sequence=None,
        branch_sequence=None,
        custom_hosts=["shop.example.net"],
    )
    assert [point.host for point in points][-2:] == ["shop.example.com", "shop.example.net"]


@pytest.mark.parametrize(
    ("history", "current", "previous"),
    [
        ("", "a", None),
        ("Pa", "a", None),
        ("Pb Pa", "b", "a"),
        ("Pc Pb Pa", "c", "b"),
        ("Rb Pc Pb Pa", "b", "a"),
        ("Ra Rb Pc Pb Pa", "a", None),
        ("Mc Rb Pc Pb Pa", "c", "b"),
        ("Pd Rb Pc Pb Pa", "d", "b"),
        ("Rx Pb Pa", "x", "b"),
    ],
)
def test_where_a_rollback_leads(history: str, current: str, previous: str | None) -> None:
    reasons = {"P": "publish", "M": "promote", "R": "rollback"}
    moves = [PastMove(word[1], reasons[word[0]]) for word in history.split()]
    assert decide_previous(moves, current) == previous
