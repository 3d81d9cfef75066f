"""Environment variables of projects: which can be, which of them a deployment gets, what a sealed value is bound to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from vclone_core.errors import FieldProblem, InvalidFields
from vclone_core.rules.clones import check_git_ref

TARGETS: Final = ("production", "preview", "development")
# What Vercel gives a deployment in total, names and values; a process' whole environment has a few times that.
TOTAL_BYTES: Final = 64 * 1024
VARIABLES_LIMIT: Final = 1000
KEY_LENGTH: Final = 256
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_PLATFORM: Final = "the platform sets it"
_MACHINE: Final = "it belongs to the machine that runs the build"
_LOADER: Final = "it makes every program of a build load other code"
_RESERVED: Final = (
    (re.compile(r"VCLONE(_.*)?"), _PLATFORM),
    (re.compile(r"PATH|HOME|USER|LOGNAME|SHELL|PWD|OLDPWD|TMPDIR|HOSTNAME|IFS|XDG_.*"), _MACHINE),
    (re.compile(r"LD_.*|DYLD_.*|GLIBC_TUNABLES|BASH_ENV|ENV|SHELLOPTS|BASHOPTS|PS4"), _LOADER),
    # What AWS Lambda, and so Vercel, keeps for its own: a project that has one of them won't run there either.
    (
        re.compile(r"AWS_(?:LAMBDA_.*|EXECUTION_ENV)|LAMBDA_(?:TASK_ROOT|RUNTIME_DIR)|_HANDLER|_"),
        "the runtime of functions sets it",
    ),
)
Phase = Literal["build", "run"]


@dataclass(frozen=True, slots=True, repr=False)
class Variable:
    """An environment variable of a project, for one target; `branch` narrows a preview's to one branch.

    `value` is None where it isn't shown: of a sensitive one never, of others only to those who may read values.
    """

    id: str
    key: str
    target: str
    branch: str | None
    is_sensitive: bool
    is_build: bool
    is_run: bool
    version: int
    updated_at: datetime
    value: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class NewVariable:
    """What somebody asks to be kept: one value for one or more targets."""

    key: str
    value: str
    targets: tuple[str, ...] = TARGETS
    branch: str | None = None
    is_sensitive: bool = False
    is_build: bool = True
    is_run: bool = True


def check_key(key: str) -> str | None:
    """Say why `key` can't name a variable; None when it can.

    >>> check_key("API_KEY"), check_key("PATH")
    (None, 'is reserved: it belongs to the machine that runs the build')
    """
    if not _KEY.fullmatch(key):
        return "must be letters, digits and `_`, and not begin with a digit"
    if len(key) > KEY_LENGTH:
        return f"is longer than {KEY_LENGTH} characters"
    reason = next((why for pattern, why in _RESERVED if pattern.fullmatch(key)), None)
    return f"is reserved: {reason}" if reason else None


def check_value(value: str) -> str | None:
    """Say why `value` can't be one; None when it can."""
    if "\0" in value:
        return "has a NUL character, which no environment can hold"
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return "is not Unicode text"
    return f"is larger than {TOTAL_BYTES // 1024} KiB" if size > TOTAL_BYTES else None


def check_variables(asked: Iterable[NewVariable]) -> None:
    """Raise `InvalidFields` with everything that is wrong with what is asked for, none of the values repeated."""
    problems: list[FieldProblem] = []
    seen: set[tuple[str, str, str | None]] = set()
    for number, one in enumerate(asked):
        found = {
            "key": check_key(one.key),
            "value": check_value(one.value),
            "targets": _check_targets(one.targets),
            "branch": check_branch(one),
            "is_build": None if one.is_build or one.is_run else "and is_run can't both be false",
        }
        scopes = {(one.key, target, one.branch) for target in one.targets}
        if not found["key"] and scopes & seen:
            found["key"] = "is there twice for the same target"
        seen |= scopes
        problems += [FieldProblem(f"variables.{number}.{name}", why) for name, why in found.items() if why]
    if problems:
        raise InvalidFields(tuple(problems))


def check_branch(one: NewVariable) -> str | None:
    """Say why a variable can't be for its branch; None when it can."""
    if one.branch is None:
        return None
    if tuple(one.targets) != ("preview",):
        return "can be given for the target preview alone"
    return check_git_ref(one.branch)


def _check_targets(targets: tuple[str, ...]) -> str | None:
    if targets and all(target in TARGETS for target in targets) and len(set(targets)) == len(targets):
        return None
    return f"must be one or more of {', '.join(TARGETS)}, each once"


def select_variables(
    variables: Iterable[Variable], *, target: str, branch: str | None, phase: Phase | None = None
) -> dict[str, Variable]:
    """Return the variables that a deployment of `target` and `branch` gets, by key.

    One for the branch comes before one for the whole target. `phase` leaves out those that are for the other one.
    """
    wanted = [
        one
        for one in variables
        if one.target == target
        and one.branch in (None, branch)
        and (phase is None or (one.is_build if phase == "build" else one.is_run))
    ]
    general = {one.key: one for one in wanted if one.branch is None}
    return dict(sorted({**general, **{one.key: one for one in wanted if one.branch is not None}}.items()))


def check_total(variables: Iterable[Variable]) -> str | None:
    """Say which deployments would get more than `TOTAL_BYTES` of these, with their values; None when none would."""
    listed = list(variables)
    for target, branch in sorted({(one.target, one.branch) for one in listed}, key=lambda it: (it[0], it[1] or "")):
        chosen = select_variables(listed, target=target, branch=branch).values()
        total = sum(len(one.key) + len((one.value or "").encode()) for one in chosen)
        if total > TOTAL_BYTES:
            place = f"{target}, branch {branch}" if branch else target
            return f"come to {total:,} bytes for {place}; a deployment takes {TOTAL_BYTES:,}"
    return None


def seal_identity(*, team_id: str, project_id: str, target: str, branch: str | None, key: str, version: int) -> str:
    """Return what a sealed value is bound to. Of the parts only a branch may hold `|`, so no two rows share one."""
    return f"environment_variables|{team_id}|{project_id}|{target}|{branch or ''}|{key}|{version}"
