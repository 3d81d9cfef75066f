"""errors: every leaf says what happened in all four renderings, and codes are unique."""

from __future__ import annotations

import json

import pytest

from vclone_core.errors import (
    FieldProblem,
    InvalidFields,
    NoSuchSite,
    VcloneError,
    every_error,
)
from vclone_core.renderings import (
    render_cli,
    render_html,
    render_log_line,
    render_problem,
)

LEAVES = [error for error in every_error() if error is not VcloneError]


def make(error: type[VcloneError]) -> VcloneError:
    return InvalidFields((FieldProblem("files.0.path", "is absolute"),)) if error is InvalidFields else error()


@pytest.mark.parametrize("error", LEAVES, ids=lambda error: error.__name__)
def test_every_error_renders_four_times(error: type[VcloneError]) -> None:
    made = make(error)
    problem = render_problem(made, "req_1")
    assert json.loads(json.dumps(problem))["code"] == error.code
    assert 400 <= problem["status"] < 600 and problem["title"]
    for text in (render_html(made, "req_1"), render_log_line(made), render_cli(made)):
        assert problem["title"].split("{")[0] in text.replace("&quot;", '"').replace("&#x27;", "'")
    assert made.exit_code != 0


def test_codes_are_unique() -> None:
    codes = [error.code for error in every_error()]
    assert len(codes) == len(set(codes))


def test_every_step_has_its_own_exit_code() -> None:
    codes = [e.exit_code for e in every_error() if e.exit_code >= 20 and "exit_code" in vars(e)]
    assert len(codes) == len(set(codes))


def test_what_a_stranger_sent_is_escaped() -> None:
    page = render_html(NoSuchSite(hint="<script>{x}</script>", x="<b>"), "<id>")
    assert "<script>" not in page and "<b>" not in page and "<id>" not in page


def test_a_hint_with_braces_from_a_user_does_not_break() -> None:
    assert "{" in render_cli(VcloneError(hint="{{"))
