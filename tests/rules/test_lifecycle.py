"""Every pair of state and event."""

from __future__ import annotations

from itertools import product

import pytest

from vclone_core.errors import WrongState
from vclone_core.models import State
from vclone_core.rules.lifecycle import FINAL, TABLE, Event, Loss, decide_loss, decide_state, decide_wait

Q, B, R, F, C, S = State.QUEUED, State.BUILDING, State.READY, State.FAILED, State.CANCELLED, State.SKIPPED

# One row per state, one column per event; None: it can't happen.
EXPECTED = {
    #  claim publish fail cancel retry exhaust give_back skip
    Q: (B, None, None, C, None, None, None, S),
    B: (None, R, F, C, Q, F, Q, S),
    R: (None,) * 8,
    F: (None,) * 8,
    C: (None,) * 8,
    S: (None,) * 8,
}
EVENTS = (
    Event.CLAIM,
    Event.PUBLISH,
    Event.FAIL,
    Event.CANCEL,
    Event.RETRY,
    Event.EXHAUST,
    Event.GIVE_BACK,
    Event.SKIP,
)


@pytest.mark.parametrize(("state", "event"), [*product(State, Event)])
def test_every_pair(state: State, event: Event) -> None:
    expected = EXPECTED[state][EVENTS.index(event)]
    if expected is None:
        with pytest.raises(WrongState) as caught:
            decide_state(state, event)
        assert caught.value.facts["state"] == state.value
    else:
        assert decide_state(state, event) is expected


def test_a_final_state_has_no_way_out() -> None:
    assert {state for state in State if not any(start is state for start, _ in TABLE)} == FINAL


def test_an_event_leads_to_one_state_from_wherever_it_happens() -> None:
    assert all(len({end for (_, known), end in TABLE.items() if known is event}) == 1 for event in Event)


@pytest.mark.parametrize(
    ("lost", "most", "cancelled", "loss"),
    [
        (1, 3, False, Loss(Event.RETRY, 2)),
        (2, 3, False, Loss(Event.RETRY, 4)),
        (3, 3, False, Loss(Event.EXHAUST)),
        (1, 1, False, Loss(Event.EXHAUST)),
        (9, 10, False, Loss(Event.RETRY, 60)),
        (1, 3, True, Loss(Event.CANCEL)),
        (3, 3, True, Loss(Event.CANCEL)),
    ],
)
def test_what_becomes_of_a_lost_attempt(lost: int, most: int, cancelled: bool, loss: Loss) -> None:
    assert decide_loss(lost_attempts=lost, max_attempts=most, is_cancel_requested=cancelled) == loss


@pytest.mark.parametrize(
    ("rest_s", "builds", "slots", "word"),
    [(3, 0, 1, "3 s"), (0, 1, 1, "project"), (0, 1, 2, "worker"), (0, 0, 1, "worker"), (3, 1, 1, "3 s")],
)
def test_what_a_queued_deployment_waits_for(rest_s: float, builds: int, slots: int, word: str) -> None:
    assert word in decide_wait(rest_s=rest_s, project_builds=builds, project_slots=slots)
