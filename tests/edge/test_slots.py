"""Places for reads of the object store: turns, shares, and nothing lost when somebody gives up waiting."""

from __future__ import annotations

import asyncio
import random

import pytest

from vclone_core.errors import StoreBusy
from vclone_edge.slots import Slots


async def test_owners_take_turns_whoever_has_more_waiting() -> None:
    slots = Slots(2, share=2, busy=lambda: StoreBusy(limit=2, is_passing=False))
    assert slots.try_take("a") and slots.try_take("a")
    served: list[str] = []

    async def read(owner: str) -> None:
        await slots.take(owner, within_s=5)
        served.append(owner)
        await asyncio.sleep(0)
        slots.give_back(owner)

    waiting = [asyncio.create_task(read(owner)) for owner in "aaaaaabc"]
    await asyncio.sleep(0)
    slots.give_back("a")
    slots.give_back("a")
    await asyncio.gather(*waiting)
    assert served[:4] == ["a", "b", "c", "a"]
    assert (slots.used, slots.waiting, slots._held, slots._queues) == (0, 0, {}, {})


async def test_one_owner_alone_has_its_share_and_no_more() -> None:
    slots = Slots(4, share=2, busy=lambda: StoreBusy(limit=4, is_passing=False))
    assert [slots.try_take("a") for _ in range(3)] == [True, True, False]
    with pytest.raises(StoreBusy, match="4 reads are under way"):
        await slots.take("a", within_s=0.01)
    assert [slots.try_take("b"), slots.try_take("c"), slots.try_take("d")] == [True, True, False]
    assert slots.refused == 1


async def test_newcomer_passes_those_who_have_their_share_but_never_its_own() -> None:
    slots = Slots(4, share=2, busy=lambda: StoreBusy(limit=4, is_passing=False))
    assert slots.try_take("a") and slots.try_take("a")
    first = asyncio.create_task(slots.take("a", within_s=5))
    await asyncio.sleep(0)
    assert slots.try_take("b")
    assert not slots.try_take("a")
    assert slots.would_help("a") and not slots.would_help("b")
    slots.give_back("a")
    await first


async def test_no_place_is_lost_whatever_happens() -> None:
    """Readers come, are refused, or are cancelled at any moment: in the end every place is free."""
    dice = random.Random(7)
    slots = Slots(5, share=3, busy=lambda: StoreBusy(limit=5, is_passing=False))
    most = 0

    async def read() -> None:
        nonlocal most
        owner = dice.choice("abcd")
        await slots.take(owner, within_s=dice.uniform(0, 0.02))
        try:
            most = max(most, slots.used)
            assert slots._held[owner] <= 3
            await asyncio.sleep(dice.uniform(0, 0.01))
        finally:
            slots.give_back(owner)

    tasks = []
    for _ in range(2_000):
        tasks.append(asyncio.create_task(read()))
        if dice.random() < 0.2:
            asyncio.get_running_loop().call_later(dice.uniform(0, 0.02), dice.choice(tasks).cancel)
        if dice.random() < 0.3:
            await asyncio.sleep(0.001)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {type(None), StoreBusy, asyncio.CancelledError}
    assert most == 5
    assert (slots.used, slots.waiting, slots._held, slots._queues) == (0, 0, {}, {})
