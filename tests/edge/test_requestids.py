"""Request ids: many of them at once, all different, in the order of time."""

from __future__ import annotations

import time

import pytest

from vclone_core.ids import parse_id
from vclone_edge.requestids import RequestIds


def test_ids_differ_and_sort_by_time() -> None:
    source, other = RequestIds(), RequestIds()
    found = []
    for _ in range(5):
        found += [source.next().decode() for _ in range(3_000)]
        time.sleep(0.002)
    assert all(parse_id("request", one) == one for one in found[::100])
    assert len({*found, *(other.next().decode() for _ in range(3_000))}) == len(found) + 3_000
    firsts = found[::3_000]
    assert firsts == sorted(firsts)


def test_a_clock_that_stands_or_goes_back_repeats_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [1_700_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now_s[0])
    source = RequestIds()
    found = [source.next() for _ in range(5_000)]
    now_s[0] -= 3600
    found += [source.next() for _ in range(5_000)]
    assert len(set(found)) == 10_000
