"""Which faults are retried: every error that can end a build has a row, and the worker keeps to it."""

from __future__ import annotations

import pytest

from vclone_core.errors import (
    AttemptsExhausted,
    BuildFailed,
    Cancelled,
    InstallFailed,
    MissingScript,
    OutputRefused,
    StoreBusy,
    VcloneError,
    every_error,
)
from vclone_core.rules.faults import FAULTS, find_fault


@pytest.mark.parametrize("error", list(every_error()), ids=lambda error: error.code)
def test_every_error_has_a_row(error: type[VcloneError]) -> None:
    assert issubclass(error, find_fault(error).error)


def test_no_row_is_there_twice_and_each_says_why() -> None:
    assert len({fault.error for fault in FAULTS}) == len(FAULTS)
    assert all(fault.why.endswith(".") for fault in FAULTS)


@pytest.mark.parametrize(
    "error", [BuildFailed, InstallFailed, MissingScript, OutputRefused, AttemptsExhausted, Cancelled]
)
def test_what_a_project_can_mend_is_told_at_once(error: type[VcloneError]) -> None:
    assert not find_fault(error).is_retried


def test_a_finer_error_is_judged_like_its_kind() -> None:
    assert find_fault(StoreBusy).is_retried
