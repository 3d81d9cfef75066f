"""errors: a problem document read by the CLI renders as the error that the API raised."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vclone_core.errors import (
    Conflict,
    FieldProblem,
    Forbidden,
    InvalidFields,
    MissingScript,
    Unavailable,
    VcloneError,
    every_error,
)
from vclone_core.renderings import parse_problem, render_cli, render_problem


def make(error: type[VcloneError]) -> VcloneError:
    return InvalidFields((FieldProblem("files.0.path", "is absolute"),)) if error is InvalidFields else error()


@pytest.mark.parametrize("error", list(every_error()), ids=lambda error: error.__name__)
def test_every_error_survives_the_way_through_the_api(error: type[VcloneError]) -> None:
    sent = make(error)
    read = parse_problem(json.loads(json.dumps(render_problem(sent, "req_1"))))
    assert type(read) is error
    assert (read.exit_code, render_cli(read)) == (sent.exit_code, render_cli(sent))


def test_facts_and_hints_with_braces_stay_as_they_are() -> None:
    sent = MissingScript(script="build:{prod}", hint="Add {{ to it")
    assert render_cli(parse_problem(render_problem(sent, "req_1"))) == render_cli(sent)


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        ({"code": "from_the_future", "status": 409, "title": "Not now."}, Conflict),
        ({"code": "from_the_future", "status": 403, "title": "No."}, Forbidden),
        ({"status": 503}, Unavailable),
        ({"title": "Tea."}, VcloneError),
    ],
)
def test_an_unknown_code_becomes_the_family_of_its_status(problem: dict[str, Any], kind: type[VcloneError]) -> None:
    assert type(parse_problem(problem)) is kind


def test_a_deployments_failure_is_read_like_a_problem() -> None:
    failure = {"code": "missing_script", "sentence": "No script.", "advice": "Add one.", "step": "build"}
    read = parse_problem(failure)
    assert (read.exit_code, read.sentence, read.advice) == (41, "No script.", "Add one.")
