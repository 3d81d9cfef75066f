"""The JSON shapes of environment variables."""

from __future__ import annotations

from typing_extensions import TypedDict  # pydantic reads these, and needs this one before Python 3.12

from vclone_core.rules.variables import Variable

from .shapes import Moment, moment


class VariableShape(TypedDict):
    id: str
    key: str
    target: str
    branch: str | None
    value: str | None
    is_sensitive: bool
    is_build: bool
    is_run: bool
    version: int
    updated_at: Moment


class VariableList(TypedDict):
    items: list[VariableShape]


class VariablePage(VariableList):
    next_cursor: str | None


class VariableValues(TypedDict):
    values: dict[str, str]
    withheld: list[str]


def shape_variable(one: Variable) -> VariableShape:
    return {
        "id": one.id,
        "key": one.key,
        "target": one.target,
        "branch": one.branch,
        "value": one.value,
        "is_sensitive": one.is_sensitive,
        "is_build": one.is_build,
        "is_run": one.is_run,
        "version": one.version,
        "updated_at": moment(one.updated_at),
    }
