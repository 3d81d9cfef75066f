"""Environment variables of projects. Values of sensitive ones go in here, and never out."""

from __future__ import annotations

from vclone_core.actions import projects, variables
from vclone_core.rules.variables import NewVariable

from ..bodies import NewVariables, VariableChange
from ..guard import Call
from ..paging import slice_page
from .variable_shapes import VariableList, VariablePage, VariableShape, VariableValues, shape_variable


async def list_variables(call: Call, project: str) -> VariablePage:
    """The variables of a project; values where they aren't sensitive and the caller may read them."""
    found = await projects.find_project(call.platform, call.actor, project)
    listed = await variables.list_variables(call.platform, call.actor, found)
    page, cursor = slice_page(call, listed, key=lambda one: (one.key, one.target, one.branch or ""))
    return {"items": [shape_variable(one) for one in page], "next_cursor": cursor}


async def show_values(call: Call, project: str) -> VariableValues:
    """The values that a target, and a branch, gets; `withheld` are the keys of the sensitive ones."""
    found = await projects.find_project(call.platform, call.actor, project)
    values, withheld = await variables.read_values(
        call.platform, call.actor, found, target=call.query.target, branch=call.query.branch
    )
    return {"values": values, "withheld": withheld}


async def create_variables(call: Call, project: str) -> VariableList:
    """Keep variables, all or none."""
    body: NewVariables = call.body
    found = await projects.find_project(call.platform, call.actor, project)
    asked = [NewVariable(**{**one.model_dump(), "targets": tuple(one.targets)}) for one in body.variables]
    call.change.facts["keys"] = [one.key for one in asked]
    saved = await variables.save_variables(call.platform, call.actor, found, asked, replaces=body.replace)
    return {"items": [shape_variable(one) for one in saved]}


async def change_variable(call: Call, project: str, variable: str) -> VariableShape:
    """Change what is given of a variable."""
    body: VariableChange = call.body
    found = await projects.find_project(call.platform, call.actor, project)
    changes = body.model_dump(exclude_none=True)
    changed = await variables.change_variable(call.platform, call.actor, found, variable, **changes)
    call.change.facts |= {"key": changed.key, "target": changed.target, "changed": sorted(changes)}
    return shape_variable(changed)


async def delete_variable(call: Call, project: str, variable: str) -> None:
    """Forget a variable; deployments made with it stay as they are."""
    found = await projects.find_project(call.platform, call.actor, project)
    call.change.facts["key"] = await variables.delete_variable(call.platform, call.actor, found, variable)
