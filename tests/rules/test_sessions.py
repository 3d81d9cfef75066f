from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from vclone_core.rules.passwords import normalise_email, password_problem
from vclone_core.rules.sessions import Refresh, derive_keys, judge_refresh, sliding_end

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("expires", "used_s_ago", "session_ends", "is_revoked", "fate"),
    [
        (DAY, None, DAY, False, Refresh.ROTATE),
        (DAY, 0, DAY, False, Refresh.ROTATE),
        (DAY, 10, DAY, False, Refresh.ROTATE),
        (DAY, 10.001, DAY, False, Refresh.REUSED),
        (DAY, 99, DAY, True, Refresh.REFUSE),
        (DAY, None, DAY, True, Refresh.REFUSE),
        (timedelta(0), None, DAY, False, Refresh.REFUSE),
        (DAY, None, timedelta(0), False, Refresh.REFUSE),
    ],
)
def test_what_a_refresh_token_gets(
    expires: timedelta, used_s_ago: float | None, session_ends: timedelta, is_revoked: bool, fate: Refresh
) -> None:
    used_at = None if used_s_ago is None else NOW - timedelta(seconds=used_s_ago)
    found = judge_refresh(
        now=NOW, expires_at=NOW + expires, used_at=used_at, session_ends_at=NOW + session_ends, is_revoked=is_revoked
    )
    assert found is fate


def test_a_session_slides_up_to_its_longest_life() -> None:
    assert sliding_end(NOW, made_at=NOW, days=30, max_days=90) == NOW + 30 * DAY
    assert sliding_end(NOW, made_at=NOW - 80 * DAY, days=30, max_days=90) == NOW + 10 * DAY


def test_keys_have_ids_of_their_own_and_the_newest_is_first() -> None:
    keys = derive_keys("n" * 40, "o" * 40)
    assert list(keys) == [*derive_keys("n" * 40), *derive_keys("o" * 40)] and len(keys) == 2
    assert all(len(key) == 32 for key in keys.values())
    assert list(derive_keys("n" * 40, "")) == list(derive_keys("n" * 40))


@pytest.mark.parametrize(
    ("password", "is_taken"),
    [
        ("correct horse", True),
        ("elevenchars", False),
        ("aaaaaaaaaaaaaaaa", False),
        ("ann@example.com", False),
        ("ünïcödé-pässwörd", True),
        ("x" * 1025, False),
        ("é" * 600, False),  # characters are not bytes
        ("abcd" * 256, True),
    ],
)
def test_which_passwords_are_taken(password: str, is_taken: bool) -> None:
    assert (password_problem(password, email="ann@example.com") is None) is is_taken


@pytest.mark.parametrize("text", ["", "@", "a@", "@b", "a b@c.d", "a@b@c", "a\n@b.c", "a@b\x00", "x" * 65 + "@b.c"])
def test_what_is_no_address(text: str) -> None:
    assert normalise_email(text) is None
