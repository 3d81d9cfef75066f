"""`vclone bisect` and `diff`: the search, and a check that is a real program."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from vclone_core.cli import run
from vclone_core.cli.compare import run_check, search
from vclone_core.errors import Invalid

PATH = [{"id": f"dep_{n}", "url": f"http://{n}-shop.localhost"} for n in range(20)]


@pytest.mark.parametrize("first", [1, 7, 19])
def test_the_first_bad_one_is_found_by_halves(first: int) -> None:
    seen: list[str] = []

    def is_good(deployment: Any) -> bool:
        seen.append(deployment["id"])
        return PATH.index(deployment) < first

    assert search(PATH, is_good)["id"] == f"dep_{first}"
    assert len(seen) <= 5


CHECK = "import os, sys; sys.exit(int(sys.argv[1].split('//')[1][0]) if os.environ['VCLONE_URL'] == sys.argv[1] else 9)"


@pytest.mark.parametrize(("number", "is_good"), [(0, True), (1, False), (7, False)])
def test_a_checks_exit_code_decides(number: int, is_good: bool) -> None:
    assert run_check([sys.executable, "-c", CHECK, "{url}"], PATH[number]) is is_good


@pytest.mark.parametrize("code", [125, 126, 127, 200])
def test_a_check_that_could_not_tell_ends_the_search(code: int) -> None:
    with pytest.raises(Invalid, match=f"ended with {code} for dep_0"):
        run_check([sys.executable, "-c", f"raise SystemExit({code})"], PATH[0])


def test_a_check_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Invalid, match="can't be run"):
        run_check(["/no/such/check"], PATH[0])
    assert run(["bisect", "dep_1", "dep_2", "--fly"]) != 0
    assert "'--fly' is not --run with a command" in capsys.readouterr().err
