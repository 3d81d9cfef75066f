"""The domain cache and its snapshot, by the clock."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import BadSettings
from vclone_core.models import AliasKind, Site
from vclone_core.settings import load_settings
from vclone_edge.cache import DomainCache
from vclone_edge.diskfiles import DiskCache, read_checked, write_checked
from vclone_edge.snapshot import Snapshot, encode_snapshot, load_snapshots, save_snapshot, take_snapshot

HOUR = 3600.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> DomainCache:
    return DomainCache(ttl_s=300, negative_ttl_s=5, stale_s=24 * HOUR, limit=100, missing_limit=50, clock=clock)


def site(host: str = "a.example", version: int = 1, deployment: str = "dep_1") -> Site:
    return Site(host, "prj", deployment, f"prj/{deployment}/manifest.json", AliasKind.PRODUCTION, version)


def known(cache: DomainCache, host: str = "a.example") -> Any:
    found = cache.find(host)
    assert found is not None
    return found


@pytest.mark.product("B2.1", "B2.5")
def test_site_is_due_and_stale_after_the_ttl_and_gone_after_the_bound(cache: DomainCache, clock: Clock) -> None:
    cache.put(site())
    clock.now_s += 299
    assert not cache.is_due(known(cache))
    clock.now_s += 2
    assert cache.is_due(known(cache))
    assert cache.is_stale(known(cache))
    clock.now_s += 23.9 * HOUR
    assert cache.find("a.example") is not None
    clock.now_s += HOUR
    assert cache.find("a.example") is None


def test_live_stream_vouches_for_every_site(cache: DomainCache, clock: Clock) -> None:
    cache.put(site())
    clock.now_s += 100 * HOUR
    cache.cover()
    assert not cache.is_stale(known(cache))
    assert cache.is_due(known(cache))  # The look-up stays, as a net below the stream.
    clock.now_s += 301
    assert cache.is_stale(known(cache))


def test_stream_with_a_gap_vouches_only_for_what_was_confirmed_since(cache: DomainCache, clock: Clock) -> None:
    cache.put(site("a.example"))
    clock.now_s += 400
    cache.suspect_all()
    cache.put(site("b.example"))
    clock.now_s += 10
    cache.cover()
    assert cache.suspects() == ["a.example"]
    assert cache.is_stale(known(cache, "a.example"))
    assert not cache.is_stale(known(cache, "b.example"))
    cache.put(site("a.example"))
    assert cache.suspects() == []


@pytest.mark.product("B2.1", "B2.2", "B2.5")
def test_settings_start_where_the_promises_are() -> None:
    settings = load_settings({})
    assert settings.edge_domain_ttl_s == 300
    assert settings.edge_negative_ttl_s <= 10
    assert settings.edge_stale_s >= 86_400
    for name, value in (("EDGE_NEGATIVE_TTL_S", "11"), ("EDGE_STALE_S", "86399")):
        with pytest.raises(BadSettings, match=f"VCLONE_{name}"):
            load_settings({f"VCLONE_{name}": value})


def test_older_version_changes_nothing(cache: DomainCache) -> None:
    cache.put(site(version=5))
    cache.put(site(version=4, deployment="dep_0"))
    assert known(cache).site.version == 5
    cache.forget("a.example", version=4)
    assert known(cache).site.version == 5
    cache.forget("a.example", version=6)
    assert cache.find("a.example") is None
    assert cache.put(site(version=5)) is None
    assert cache.is_missing("a.example")
    assert cache.put(site(version=7)) is not None
    assert not cache.is_missing("a.example")


def test_suspect_site_may_become_an_older_version(cache: DomainCache, clock: Clock) -> None:
    cache.put(site(version=5))
    clock.now_s += 1
    cache.suspect_all()
    cache.put(site(version=2, deployment="dep_0"))
    assert known(cache).site.version == 2


def test_site_before_is_kept_until_the_new_one_is_seen_to_be_good(cache: DomainCache) -> None:
    cache.put(site(version=1, deployment="dep_1"))
    cache.put(site(version=2, deployment="dep_2"))
    assert known(cache).fallback.deployment_id == "dep_1"
    cache.put(site(version=3, deployment="dep_3"))
    assert known(cache).fallback.deployment_id == "dep_1"
    cache.put(site(version=4, deployment="dep_1"))
    assert known(cache).fallback is None


@pytest.mark.product("B2.1", "B2.2")
def test_both_halves_are_bounded_and_missing_ones_are_forgotten(cache: DomainCache, clock: Clock) -> None:
    for n in range(500):
        cache.put(site(f"{n}.example"))
        cache.find("0.example")
        cache.forget(f"missing-{n}.example")
    assert len(cache) == 100
    assert cache.find("0.example") is not None
    assert cache.find("1.example") is None
    assert sum(cache.is_missing(f"missing-{n}.example") for n in range(500)) == 50
    clock.now_s += 6
    assert not any(cache.is_missing(f"missing-{n}.example") for n in range(500))


MOVES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30), st.booleans()), max_size=40)


@given(MOVES)
def test_any_order_of_moves_ends_at_the_newest(moves: list[tuple[str, int, bool]]) -> None:
    """A version is one move: what it does to its host is fixed, however often and late it arrives."""
    cache = DomainCache(clock=Clock())
    fixed: dict[tuple[str, int], bool] = {}
    for host, version, is_there in moves:
        if fixed.setdefault((host, version), is_there):
            cache.put(site(host, version))
        else:
            cache.forget(host, version)
    for host in "abc":
        newest = max((version for other, version in fixed if other == host), default=0)
        found = cache.find(host)
        if newest:
            assert (found is not None) == fixed[host, newest]
            assert found is None or found.site.version == newest


async def test_snapshot_is_read_back_with_its_ages(cache: DomainCache, clock: Clock, tmp_path: Path) -> None:
    for n in range(20):
        cache.put(site(f"{n}.example", version=n))
        clock.now_s += 10
    assert await save_snapshot(tmp_path / "sites", take_snapshot(cache, 19, 5000.0))
    again = DomainCache(ttl_s=300, stale_s=24 * HOUR, clock=clock)
    assert load_snapshots([tmp_path / "sites"], again, 5000.0 + HOUR) == 19
    assert len(again) == 20
    assert again.age_s(known(again, "0.example")) == pytest.approx(200 + HOUR)
    assert again.age_s(known(again, "19.example")) == pytest.approx(10 + HOUR)
    too_late = DomainCache(ttl_s=300, stale_s=24 * HOUR, clock=clock)
    load_snapshots([tmp_path / "sites"], too_late, 5000.0 + 25 * HOUR)
    assert too_late.find("19.example") is None


def test_snapshots_of_several_workers_are_one(cache: DomainCache, tmp_path: Path) -> None:
    """Each knows the hosts that came to it. The oldest version counts; of a host known to both, the newer entry."""

    def write(name: str, version: int | None, saved_s: float, *entries: tuple[Site, float]) -> Path:
        write_checked(tmp_path / name, encode_snapshot(Snapshot(version, saved_s, entries)))
        return tmp_path / name

    ours = write("sites-0", 7, 100.0, (site("a.example", 7), 1.0), (site("both.example", 5), 0.0))
    theirs = write("sites-1", 6, 90.0, (site("b.example", 6), 1.0), (site("both.example", 4, "dep_old"), 0.0))
    for paths in ([ours, theirs], [theirs, ours, tmp_path / "none"]):
        again = DomainCache()
        assert load_snapshots(paths, again, 100.0) == 6
        assert {one.host: one.version for one, _ in again.entries()} == {
            "a.example": 7,
            "b.example": 6,
            "both.example": 5,
        }
    assert load_snapshots([ours, write("sites-2", None, 1.0)], DomainCache(), 100.0) is None


def test_clock_set_back_makes_nothing_younger(cache: DomainCache, clock: Clock, tmp_path: Path) -> None:
    cache.put(site())
    clock.now_s += 100
    write_checked(tmp_path / "sites", encode_snapshot(take_snapshot(cache, 1, 5000.0)))
    again = DomainCache(clock=clock)
    load_snapshots([tmp_path / "sites"], again, 1.0)
    assert again.age_s(known(again)) == pytest.approx(100)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"format": 2}', b'{"format": 1}', b'{"format": 1, "saved_at": "x", "version": 1}',
     b'{"format": 1, "saved_at": 1, "version": "1"}'],
)  # fmt: skip
def test_snapshot_of_another_shape_is_ignored(cache: DomainCache, tmp_path: Path, content: bytes) -> None:
    write_checked(tmp_path / "sites", content)
    assert load_snapshots([tmp_path / "sites"], cache, 1.0) is None
    assert len(cache) == 0


def test_unreadable_entries_are_left_out(cache: DomainCache, tmp_path: Path) -> None:
    cache.put(site())
    content = encode_snapshot(take_snapshot(cache, 1, 1.0)) + b'\n[{"host": "x"}, 1]\nnonsense\n[]'
    write_checked(tmp_path / "sites", content)
    again = DomainCache()
    assert load_snapshots([tmp_path / "sites"], again, 1.0) == 1
    assert len(again) == 1


def test_snapshot_with_too_many_repeated_or_empty_entries_stays_within_bounds(tmp_path: Path) -> None:
    """R3: ten times the rows, hosts twice, null targets."""
    sites = [site(f"{n}.example", version=n + 1) for n in range(500)]
    twice = [site("499.example", version=3, deployment="dep_old"), site("499.example", version=500)]
    snapshot = Snapshot(500, 1.0, tuple((one, 0.0) for one in [*sites, *twice]))
    lines = encode_snapshot(snapshot).decode().split("\n")
    lines += ["null", "[null, 0]", lines[1].replace('"dep_1"', "null"), "[" * 10_000]
    write_checked(tmp_path / "sites", "\n".join(lines).encode())
    small = DomainCache(limit=50)
    assert load_snapshots([tmp_path / "sites"], small, 1.0) == 500
    assert len(small) == 50
    assert known(small, "499.example").site == site("499.example", version=500)


@pytest.mark.product("B2.6")
async def test_snapshot_that_cannot_be_written_leaves_the_one_before(cache: DomainCache, tmp_path: Path) -> None:
    cache.put(site())
    assert await save_snapshot(tmp_path / "sites", take_snapshot(cache, 1, 1.0))
    (tmp_path / "file").write_text("in the way")
    assert not await save_snapshot(tmp_path / "file" / "sites", take_snapshot(cache, 2, 1.0))
    assert load_snapshots([tmp_path / "sites"], DomainCache(), 1.0) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "sites"]


def test_oversized_file_is_ignored(tmp_path: Path) -> None:
    write_checked(tmp_path / "x", b"x" * 1000)
    assert read_checked(tmp_path / "x", limit_bytes=500) is None
    assert read_checked(tmp_path / "x", limit_bytes=5000) == b"x" * 1000


def test_disk_cache_is_bounded_and_keeps_what_is_used(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path, limit_bytes=20_000)
    disk.put("used", b"u" * 1000)
    for n in range(100):
        disk.put(f"key-{n}", bytes([n]) * 1000)
        old_s = time.time() - 1000 + n
        os.utime(disk.path_of(f"key-{n}"), (old_s, old_s))
        assert disk.get("used") == b"u" * 1000
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 20_000
    assert disk.get("key-99") is not None
    assert disk.get("key-0") is None
    disk.put("huge", b"h" * 50_000)
    assert disk.get("huge") is None
