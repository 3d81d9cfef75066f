"""The rate algorithm against a plain count, and what it tells a client."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vclone_core.rules.limits import Rate, take


def run(rate: Rate, times: list[float]) -> list[bool]:
    kept, answers = None, []
    for at in times:
        verdict, kept = take(rate, kept, at)
        answers.append(verdict.is_allowed)
    return answers


def test_a_burst_then_one_for_each_interval() -> None:
    rate = Rate("x", 5, per_s=60)
    assert run(rate, [0.0] * 7) == [True] * 5 + [False] * 2
    assert run(rate, [0.0] * 5 + [11.9, 12.0, 12.1, 24.0]) == [True] * 5 + [False, True, False, True]


def test_it_says_how_many_are_left_and_how_long_to_wait() -> None:
    rate = Rate("x", 5, per_s=60)
    kept, left = None, []
    for _ in range(5):
        verdict, kept = take(rate, kept, 0.0)
        left.append(verdict.remaining)
    assert left == [4, 3, 2, 1, 0]
    refused, same = take(rate, kept, 2.0)
    assert (refused.is_allowed, refused.retry_after_s, refused.limit) == (False, 10.0, 5)
    assert same == kept, "what is refused isn't counted"
    assert take(rate, kept, 2.0 + refused.retry_after_s)[0].is_allowed


def test_a_cost_above_the_burst_is_never_allowed() -> None:
    assert not take(Rate("x", 5), None, 0.0, cost=6)[0].is_allowed


@given(st.integers(1, 20), st.integers(1, 20), st.lists(st.floats(0, 300), min_size=1, max_size=80).map(sorted))
def test_no_window_ever_holds_more_than_the_rate_and_the_burst(count: int, burst: int, times: list[float]) -> None:
    rate = Rate("x", count, per_s=60, burst=burst)
    allowed = [at for at, is_allowed in zip(times, run(rate, times), strict=True) if is_allowed]
    for index, start in enumerate(allowed):
        for end in allowed[index:]:
            inside = sum(start <= at <= end for at in allowed)
            assert inside <= burst + (end - start) / rate.interval_s + 1e-3
