"""uploads: what never travels, and requests that stay under their limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.models import SourceFile
from vclone_core.rules.uploads import (
    REQUEST_LIMIT_BYTES,
    REQUEST_LIMIT_FILES,
    is_left_out,
    is_secret,
    plan_requests,
)


@pytest.mark.parametrize(
    ("name", "source", "output"),
    [
        (".git", True, True),
        ("node_modules", True, False),
        (".vercel", True, False),
        ("index.html", False, False),
        (".well-known", False, False),
    ],
)
def test_what_is_left_out_depends_on_what_the_folder_is(name: str, source: bool, output: bool) -> None:
    assert (is_left_out(name, is_output=False), is_left_out(name, is_output=True)) == (source, output)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        (".env", True),
        (".env.local", True),
        (".env.production.local", True),
        (".envrc", True),
        (".env.example", False),
        (".environment", False),
        ("app.env", False),
    ],
)
def test_secrets_are_known_by_name(name: str, secret: bool) -> None:
    assert is_secret(name) is secret


@given(st.lists(st.integers(min_value=0, max_value=2 * REQUEST_LIMIT_BYTES), max_size=2000))
def test_requests_hold_every_file_once_in_order_and_stay_small(sizes: list[int]) -> None:
    files = [SourceFile(str(index), "0" * 64, size) for index, size in enumerate(sizes)]
    requests = plan_requests(files)
    assert [file for request in requests for file in request] == files
    for request in requests:
        assert 0 < len(request) <= REQUEST_LIMIT_FILES
        assert len(request) == 1 or sum(file.size for file in request) <= REQUEST_LIMIT_BYTES
