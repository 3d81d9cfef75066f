"""Environment variables: names and values that can't be, and which of them a deployment gets."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from vclone_core.errors import InvalidFields
from vclone_core.rules.variables import (
    TOTAL_BYTES,
    NewVariable,
    Variable,
    check_key,
    check_total,
    check_value,
    check_variables,
    seal_identity,
    select_variables,
)

LETTERS = "must be letters, digits and `_`, and not begin with a digit"


@pytest.mark.parametrize("key", ["A", "_A1", "NODE_OPTIONS", "CI", "PATHS", "GIT_TOKEN", "AWS_REGION", "VITE_VCLONE_X"])
def test_keys_that_can_be(key: str) -> None:
    assert check_key(key) is None


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", LETTERS),
        ("1A", LETTERS),
        ("A-B", LETTERS),
        ("A B", LETTERS),
        ("Ä", LETTERS),
        ("A\n", LETTERS),
        ("A" * 257, "is longer than 256 characters"),
        ("VCLONE", "is reserved: the platform sets it"),
        ("VCLONE_URL", "is reserved: the platform sets it"),
        ("PATH", "is reserved: it belongs to the machine that runs the build"),
        ("LD_PRELOAD", "is reserved: it makes every program of a build load other code"),
        ("BASH_ENV", "is reserved: it makes every program of a build load other code"),
        ("_", "is reserved: the runtime of functions sets it"),
    ],
)
def test_keys_that_cannot_be(key: str, why: str) -> None:
    assert check_key(key) == why


def test_values_that_cannot_be() -> None:
    assert check_value("x\0") is not None
    assert check_value("\ud800") is not None
    assert check_value("é" * (TOTAL_BYTES // 2)) is None
    assert check_value("é" * (TOTAL_BYTES // 2 + 1)) == "is larger than 64 KiB"


def test_everything_wrong_is_told_at_once_and_no_value_is_repeated() -> None:
    asked = [
        NewVariable("1", "top-secret\0", ("production", "staging")),
        NewVariable("A", "x", ("production", "preview"), branch="next"),
        NewVariable("A", "x", ("preview",), branch="a..b", is_build=False, is_run=False),
        NewVariable("B", "x", ()),
        NewVariable("C", "x", ("preview",)),
        NewVariable("C", "y", ("production", "preview")),
        NewVariable("C", "y", ("preview",), branch="main"),
    ]
    with pytest.raises(InvalidFields) as caught:
        check_variables(asked)
    assert [one.field for one in caught.value.problems] == [
        "variables.0.key", "variables.0.value", "variables.0.targets", "variables.1.branch", "variables.2.branch",
        "variables.2.is_build", "variables.3.targets", "variables.5.key",
    ]  # fmt: skip
    assert "top-secret" not in str([caught.value, *caught.value.problems])


def variable(
    key: str, target: str = "preview", branch: str | None = None, *, is_build: bool = True, value: str = ""
) -> Variable:
    name = f"{key}/{target}/{branch}"
    return Variable(name, key, target, branch, False, is_build, True, 1, datetime(2026, 1, 1, tzinfo=UTC), value)


@pytest.mark.parametrize(
    ("target", "branch", "chosen"),
    [
        ("preview", "next", ["A/preview/next", "B/preview/None", "C/preview/next"]),
        ("preview", "other", ["A/preview/None", "B/preview/None"]),
        ("preview", None, ["A/preview/None", "B/preview/None"]),
        ("production", "next", ["A/production/None"]),
        ("development", None, []),
    ],
)
def test_branch_before_target(target: str, branch: str | None, chosen: list[str]) -> None:
    kept = [
        variable("C", branch="next"), variable("A", branch="next"), variable("A"), variable("B"),
        variable("A", "production"),
    ]  # fmt: skip
    for listed in (kept, kept[::-1]):
        found = select_variables(listed, target=target, branch=branch)
        assert [one.id for one in found.values()] == chosen


def test_phases() -> None:
    listed = [variable("A", is_build=False), variable("B")]
    assert list(select_variables(listed, target="preview", branch=None, phase="build")) == ["B"]
    assert list(select_variables(listed, target="preview", branch=None, phase="run")) == ["A", "B"]
    # A branch's variable that isn't for builds doesn't hide the target's that is.
    narrowed = [variable("A", branch="next", is_build=False), variable("A")]
    assert select_variables(narrowed, target="preview", branch="next", phase="build")["A"].branch is None


def test_total_counts_what_one_deployment_gets() -> None:
    half = "x" * (TOTAL_BYTES // 2)
    assert check_total([variable("A", value=half), variable("A", "production", value=half)]) is None
    assert check_total([variable("A", value=half), variable("A", branch="next", value=half)]) is None
    too_much = check_total([variable("A", value=half), variable("B", branch="next", value=half)])
    assert too_much == "come to 65,538 bytes for preview, branch next; a deployment takes 65,536"


def test_identities_differ_where_anything_does() -> None:
    here = {"team_id": "t", "project_id": "p", "target": "preview", "branch": "b", "key": "K", "version": 1}
    other = [
        {"team_id": "u"}, {"project_id": "q"}, {"target": "production"}, {"branch": None}, {"branch": "b|K"},
        {"key": "L"}, {"version": 2},
    ]  # fmt: skip
    found = {seal_identity(**{**here, **change}) for change in ({}, *other)}  # type: ignore[arg-type]
    assert len(found) == 8
