"""Which deployments go, as a table and as laws; and what differs between two of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import InvalidFields
from vclone_core.models import EarlierFile, FileEntry, Manifest, SourceFile, State, Target, Variant
from vclone_core.rules.diffs import FileChange, diff_manifests, pick_next, sum_changes
from vclone_core.rules.lifecycle import FINAL
from vclone_core.rules.retention import Retention, Standing, decide_removals, list_needed, parse_retention

NOW = datetime(2026, 6, 1, tzinfo=UTC)
RULES = Retention(preview_days=30, preview_count=3, production_days=100, production_count=2)


def standing(sequence: int, kind: str, days: int, *marks: str) -> Standing:
    target = Target.PRODUCTION if kind.startswith("production") else Target.PREVIEW
    state = State(kind.partition(" ")[2] or "ready")
    ended_at = NOW - timedelta(days=days)
    return Standing(str(sequence), target, state, sequence, ended_at, "pinned" in marks, "shown" in marks)


@pytest.mark.parametrize(
    ("standings", "gone"),
    [
        ([], {}),
        ([(1, "preview", 29)], {}),
        ([(1, "preview", 31)], {"1": "age"}),
        ([(1, "preview", 31, "pinned"), (2, "preview", 31, "shown")], {}),
        ([(n, "preview", 1) for n in range(1, 6)], {"1": "count", "2": "count"}),
        ([(1, "preview", 1), (2, "preview", 1, "pinned"), *((n, "preview", 1) for n in (3, 4, 5))], {"1": "count"}),
        ([(1, "production", 1000)], {}),
        ([(n, "production", 1000) for n in (1, 2, 3)], {"1": "age"}),
        ([(1, "production", 99), (2, "production", 1), (3, "production", 1)], {}),
        ([(1, "production", 1000, "shown"), (2, "production", 1), (3, "production", 1)], {}),
        # What never became ready is nothing to go back to, whatever it was meant for.
        ([(1, "production failed", 31), (2, "preview cancelled", 31)], {"1": "age", "2": "age"}),
        ([(1, "production failed", 1), *((n, "production", 1000) for n in (2, 3))], {}),
        ([(1, "preview queued", 500), (2, "production building", 500)], {}),
    ],
)  # fmt: skip
def test_what_goes(standings: list[tuple[int, str, int]], gone: dict[str, str]) -> None:
    removals = decide_removals([standing(*one) for one in standings], RULES, now=NOW)
    assert {one.id: one.reason for one in removals} == gone
    assert [int(one.id) for one in removals] == sorted(int(one.id) for one in removals)


STANDINGS = st.lists(
    st.builds(
        Standing,
        id=st.uuids().map(str),
        target=st.sampled_from(Target),
        state=st.sampled_from(State),
        sequence=st.integers(1, 50),
        ended_at=st.integers(0, 500).map(lambda days: NOW - timedelta(days=days)),
        is_pinned=st.booleans(),
        is_shown=st.booleans(),
    ),
    max_size=30,
    unique_by=lambda one: one.sequence,
)
RETENTIONS = st.builds(Retention, *[st.integers(1, 400) if n % 2 == 0 else st.integers(1, 8) for n in range(4)])


@given(STANDINGS, RETENTIONS)
def test_what_always_stays(standings: list[Standing], rules: Retention) -> None:
    gone = {one.id for one in decide_removals(standings, rules, now=NOW)}
    for one in standings:
        if one.is_pinned or one.is_shown or one.state not in FINAL:
            assert one.id not in gone
    production = [one for one in standings if (one.target, one.state) == (Target.PRODUCTION, State.READY)]
    newest = sorted(production, key=lambda one: one.sequence)[-rules.production_count :]
    assert gone.isdisjoint(one.id for one in newest)


@given(STANDINGS, RETENTIONS)
def test_deciding_again_changes_nothing_more(standings: list[Standing], rules: Retention) -> None:
    gone = {one.id for one in decide_removals(standings, rules, now=NOW)}
    left = [one for one in standings if one.id not in gone]
    assert decide_removals(left, rules, now=NOW) == ()


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        ({"preview_days": 0}, ["retention.preview_days"]),
        ({"preview_days": True}, ["retention.preview_days"]),
        ({"production_count": "3", "x": 1}, ["retention.production_count", "retention.x"]),
        ({"preview_count": 10**9}, ["retention.preview_count"]),
    ],
)
def test_rules_that_are_none(raw: dict[str, object], fields: list[str]) -> None:
    with pytest.raises(InvalidFields) as caught:
        parse_retention(raw)
    assert [problem.field for problem in caught.value.problems] == fields


def test_rules_that_are_left_out_are_the_defaults() -> None:
    assert parse_retention({}) == Retention()
    assert parse_retention({"preview_days": 7}) == Retention(preview_days=7)


def entry(sha256: str, size: int = 1, **variants: str) -> FileEntry:
    return FileEntry(sha256, size, "text/html", variants={name: Variant(one, 1) for name, one in variants.items()})


def manifest(files: dict[str, FileEntry], earlier: dict[str, FileEntry] | None = None) -> Manifest:
    return Manifest("dep", "prj", None, files, (), earlier={p: EarlierFile(e, 0) for p, e in (earlier or {}).items()})


def test_what_is_needed() -> None:
    served = manifest({"/a": entry("a", br="a-br", gzip="a-gz"), "/b": entry("b")}, {"/old": entry("o", br="o-br")})
    needed = list_needed([served, manifest({"/b": entry("b")})], [[SourceFile("x", "s", 1)], []])
    assert needed == {"a", "a-br", "a-gz", "b", "o", "o-br", "s"}


def test_a_diff() -> None:
    before = manifest({"/same": entry("1"), "/gone": entry("2", 5), "/other": entry("3", 7), "/type": entry("4", 9)})
    after = manifest({"/same": entry("1", br="x"), "/new": entry("5", 6), "/other": entry("6", 4),
                      "/type": FileEntry("4", 9, "text/plain")})  # fmt: skip
    changes = diff_manifests(before, after)
    assert changes == (
        FileChange("/gone", "removed", 5, None),
        FileChange("/new", "added", None, 6),
        FileChange("/other", "changed", 7, 4),
        FileChange("/type", "changed", 9, 9),
    )
    assert [one.bytes for one in changes] == [-5, 6, -3, 0]
    assert sum_changes(changes) == {"added": 1, "changed": 2, "removed": 1}


FILES = st.dictionaries(st.sampled_from("abcdef"), st.builds(entry, st.sampled_from("123"), st.integers(0, 9)))


@given(FILES, FILES)
def test_a_diff_turned_around(one: dict[str, FileEntry], other: dict[str, FileEntry]) -> None:
    there, back = diff_manifests(manifest(one), manifest(other)), diff_manifests(manifest(other), manifest(one))
    assert [change.path for change in there] == [change.path for change in back]
    assert sum(change.bytes for change in there) == -sum(change.bytes for change in back)
    assert diff_manifests(manifest(one), manifest(one)) == ()


@given(st.integers(2, 5000), st.data())
def test_halving_finds_the_first_bad_one(count: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, count - 1))
    good, bad, looks = 0, count - 1, 0
    while (place := pick_next(good, bad)) is not None:
        looks += 1
        good, bad = (place, bad) if place < first else (good, place)
    assert bad == first
    assert looks <= (count - 1).bit_length()
