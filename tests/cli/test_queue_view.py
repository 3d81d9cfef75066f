"""`vclone queue`: the order and the figures it shows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from vclone_core.cli.queue import summarise

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def deployment(name: str, **more: Any) -> dict[str, Any]:
    return {
        "id": name, "project": "shop", "target": "preview", "state": "queued", "step": None, "started_at": None,
        "created_at": "2026-01-01T11:59:00Z", "queue_position": None, "queue_reason": None, **more,
    }  # fmt: skip


def test_running_ones_come_first_then_the_waiting_by_their_places() -> None:
    building = [deployment("b", started_at="2026-01-01T11:59:30Z", step="install", state="building")]
    queued = [
        deployment("second", queue_position=2, queue_reason="It waits for a free worker."),
        deployment("first", queue_position=1, created_at="2026-01-01T11:58:00Z"),
    ]
    found = summarise(building, queued, now=NOW)
    assert [(one["place"], one["id"], one["why"]) for one in found["items"]] == [
        ("-", "b", "step install"), ("1", "first", ""), ("2", "second", "It waits for a free worker."),
    ]  # fmt: skip
    assert (found["building"], found["queued"], found["oldest_s"]) == (1, 2, 120.0)


def test_an_empty_queue() -> None:
    assert summarise([], [], now=NOW) == {"building": 0, "queued": 0, "oldest_s": 0.0, "items": []}
