"""names: project names, and host names that always fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import InvalidFields
from vclone_core.ids import build_id
from vclone_core.rules.names import (
    branch_host,
    deployment_host,
    parse_project_name,
    production_host,
    suggest_project_name,
)

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?", fullmatch=True)


@pytest.mark.parametrize("name", ["a", "shop", "my-shop-2", "a" * 53])
def test_good_names(name: str) -> None:
    assert parse_project_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a.b", "a" * 54, "www", "ä", "a\n", "../a"])
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidFields) as caught:
        parse_project_name(name)
    assert [problem.field for problem in caught.value.problems] == ["name"]


@given(st.text(max_size=200))
def test_a_suggestion_is_always_allowed(text: str) -> None:
    assert parse_project_name(suggest_project_name(text))


@given(LABEL, st.text(min_size=1, max_size=200))
def test_hosts_are_always_one_label_below_the_base(project: str, branch: str) -> None:
    deployment = build_id("deployment", unix_ms=1_700_000_000_000, random=7)
    for host in (
        production_host(project, "example.com"),
        deployment_host(project, deployment, "example.com"),
        branch_host(project, branch, "example.com"),
    ):
        label, _, base = host.partition(".")
        assert base == "example.com"
        assert 0 < len(label) <= 63 and not label.startswith("-") and not label.endswith("-")


def test_branches_that_slug_alike_get_different_hosts() -> None:
    names = ["feat/cart", "feat-cart", "Feat/Cart", "feat_cart"]
    assert len({branch_host("shop", name, "x.test") for name in names}) == len(names)


def test_long_branches_that_differ_at_their_end_get_different_hosts() -> None:
    assert branch_host("shop", "b" * 100 + "1", "x.test") != branch_host("shop", "b" * 100 + "2", "x.test")
