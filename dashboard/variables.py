"""The page of a project's environment variables: list, add one, paste a `.env` file, delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vclone_core.actions import projects, variables
from vclone_core.errors import FieldProblem, Invalid, InvalidFields, VcloneError
from vclone_core.models import Project
from vclone_core.rules.access import may
from vclone_core.rules.dotenv import parse_dotenv
from vclone_core.rules.variables import TARGETS, NewVariable

from .visit import Go, Page, Show, Visit

# For whom a variable is: what the form says -> build, run.
USES: Final[Mapping[str, tuple[bool, bool]]] = {"both": (True, True), "build": (True, False), "run": (False, True)}
SEE: Final = "see variables"
CHANGE: Final = "change variables"


async def show_variables(visit: Visit, project: str) -> Show:
    """Every variable of a project; values where they may be read."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    return Show("variables.html", await facts_of(visit, found))


async def create_variables(visit: Visit, project: str) -> Show | Go:
    """Keep one variable, or all of a pasted `.env` file."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    pasted = "text" in visit.form
    try:
        asked = read_pasted(visit.form) if pasted else [read_variable(visit.form)]
        try:
            await variables.save_variables(visit.platform, visit.actor, found, asked, replaces="replace" in visit.form)
        except InvalidFields as error:
            raise InvalidFields(tuple(name_problem(one, asked) for one in error.problems)) from error
    except VcloneError as error:
        failed = {"failed": "paste" if pasted else "add", "form": visit.form}
        return Show("variables.html", {**await facts_of(visit, found), **failed}, error)
    visit.change.facts["keys"] = [one.key for one in asked]
    return Go(f"/projects/{found.name}/env")


async def delete_variable(visit: Visit, project: str, variable: str) -> Go:
    """Forget a variable."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    visit.change.facts["key"] = await variables.delete_variable(visit.platform, visit.actor, found, variable)
    return Go(f"/projects/{found.name}/env")


async def facts_of(visit: Visit, project: Project) -> dict[str, Any]:
    return {
        "project": project,
        "variables": await variables.list_variables(visit.platform, visit.actor, project),
        "targets": TARGETS,
        "may_change": may(visit.actor, CHANGE),
        "may_read": may(visit.actor, "read values of variables"),
        "failed": "",
        "form": {},
    }


def read_variable(form: Mapping[str, str]) -> NewVariable:
    """Return the variable that a form describes."""
    # A browser sends every line of a text area with CRLF.
    value = form.get("value", "").replace("\r\n", "\n")
    return NewVariable(form.get("key", "").strip(), value, **read_kind(form))


def read_pasted(form: Mapping[str, str]) -> list[NewVariable]:
    """Return the variables in a pasted file; raise `InvalidFields` with every line that can't be read."""
    found = parse_dotenv(form.get("text", ""))
    if found.problems:
        raise InvalidFields(found.problems)
    if not found.values:
        raise Invalid(what="there is no variable in what was pasted")
    kind = read_kind(form)
    return [NewVariable(key, value, **kind) for key, value in found.values.items()]


def read_kind(form: Mapping[str, str]) -> dict[str, Any]:
    """Return what both forms say of targets and use."""
    is_build, is_run = USES.get(form.get("use", ""), USES["both"])
    return {
        "targets": tuple(target for target in TARGETS if f"target:{target}" in form),
        "branch": form.get("branch", "").strip() or None,
        "is_sensitive": "is_sensitive" in form,
        "is_build": is_build,
        "is_run": is_run,
    }


def name_problem(problem: FieldProblem, asked: list[NewVariable]) -> FieldProblem:
    """Return a problem under the variable's name, where several are asked for, else under the field's."""
    _, number, part = (*problem.field.split("."), "", "")[:3]
    if not number.isdecimal():
        return problem
    shown = {"key": "name"}.get(part, part)
    return FieldProblem(shown if len(asked) == 1 else f"{asked[int(number)].key}: {shown}", problem.message)


PAGES: Final[tuple[Page, ...]] = (
    Page("GET", "/projects/<project>/env", show_variables, SEE),
    Page("POST", "/projects/<project>/env", create_variables, CHANGE),
    Page("POST", "/projects/<project>/env/<variable>/delete", delete_variable, CHANGE),
)
