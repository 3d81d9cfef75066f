"""Environment variables of projects: kept sealed, listed, and opened for builds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from vclone_core.actions.keys import ring_of
from vclone_core.actions.newids import new_id
from vclone_core.actions.platform import Platform
from vclone_core.errors import BadSettings, FieldProblem, Invalid, InvalidFields, NotFound, VariablesUnreadable
from vclone_core.models import Actor, Claim, Project
from vclone_core.rules.access import may, require
from vclone_core.rules.sealing import NONCE_BYTES, KeyRing, seal, unseal
from vclone_core.rules.variables import (
    TARGETS,
    VARIABLES_LIMIT,
    NewVariable,
    Variable,
    check_total,
    check_value,
    check_variables,
    seal_identity,
    select_variables,
)
from vclone_core.stores.postgres import Queries

_FLAGS: Final = ("is_sensitive", "is_build", "is_run")


async def list_variables(platform: Platform, actor: Actor, project: Project) -> list[Variable]:
    """Return a project's variables by key, with the values that the actor may read."""
    require(actor, "see variables")
    listed = await _fetch(platform.db, project)
    if not listed or not may(actor, "read values of variables"):
        return [one for one, _ in listed]
    return [_shown(one) for one in _open_readable(ring_of(platform.settings), project, listed)]


async def read_values(
    platform: Platform, actor: Actor, project: Project, *, target: str, branch: str | None = None
) -> tuple[dict[str, str], list[str]]:
    """Return the values that a deployment of `target` and `branch` gets, and the keys of the sensitive ones."""
    require(actor, "read values of variables")
    if target not in TARGETS:
        raise InvalidFields((FieldProblem("target", f"must be one of {', '.join(TARGETS)}"),))
    chosen = select_variables(await list_variables(platform, actor, project), target=target, branch=branch)
    values = {key: one.value for key, one in chosen.items() if one.value is not None}
    return values, [key for key, one in chosen.items() if one.is_sensitive]


async def save_variables(
    platform: Platform, actor: Actor, project: Project, asked: Sequence[NewVariable], *, replaces: bool = False
) -> list[Variable]:
    """Keep variables, all or none, and return them; with `replaces` in the place of those that are there.

    Raises `InvalidFields` with everything that is wrong.
    """
    require(actor, "change variables")
    check_variables(asked)
    ring = ring_of(platform.settings)
    async with platform.db.transaction() as tx:
        kept = {(one.key, one.target, one.branch): one for one, _ in await _lock(tx, project)}
        if not replaces:
            _refuse_present(asked, kept.keys())
        wanted = set()
        for one in asked:
            for target in one.targets:
                present = kept.get((one.key, target, one.branch))
                await _write(tx, ring, project, one, target, present)
                wanted.add((one.key, target, one.branch))
        found = await _check_limits(ring, tx, project)
    return [one for one in found if (one.key, one.target, one.branch) in wanted]


async def change_variable(
    platform: Platform,
    actor: Actor,
    project: Project,
    variable_id: str,
    *,
    value: str | None = None,
    **flags: bool | None,
) -> Variable:
    """Change what is given of a variable: its value, `is_sensitive`, `is_build`, `is_run`.

    A sensitive one stays so unless a new value comes with it: else anybody could have it shown.
    """
    require(actor, "change variables")
    ring = ring_of(platform.settings)
    async with platform.db.transaction() as tx:
        found = next((pair for pair in await _lock(tx, project) if pair[0].id == variable_id), None)
        if found is None:
            raise NotFound(what="variable")
        present = found[0]
        kinds = {name: getattr(present, name) if flags.get(name) is None else bool(flags[name]) for name in _FLAGS}
        problems = []
        if value is not None and (problem := check_value(value)):
            problems.append(FieldProblem("value", problem))
        if not kinds["is_build"] and not kinds["is_run"]:
            problems.append(FieldProblem("is_build", "and is_run can't both be false"))
        if present.is_sensitive and not kinds["is_sensitive"] and value is None:
            problems.append(FieldProblem("is_sensitive", "can be taken away only together with a new value"))
        if problems:
            raise InvalidFields(tuple(problems))
        if value is None:
            value = _open_value(ring, project, *found)
        asked = NewVariable(present.key, value, (present.target,), present.branch, **kinds)
        await _write(tx, ring, project, asked, present.target, present)
        listed = await _check_limits(ring, tx, project)
    return next(one for one in listed if one.id == variable_id)


async def delete_variable(platform: Platform, actor: Actor, project: Project, variable_id: str) -> str:
    """Forget a variable; return its key. Deployments made with it stay as they are."""
    require(actor, "change variables")
    row = await platform.db.fetch_one("delete_variable", variable_id, project.id)
    if row is None:
        raise NotFound(what="variable")
    return str(row["key"])


async def read_build_variables(platform: Platform, claim: Claim) -> dict[str, str]:
    """Return what a build finds of its project's variables, by key; another repository's code finds none.

    Raises `VariablesUnreadable`.
    """
    deployment, project = claim.deployment, claim.project
    if deployment.source.fork is not None:
        return {}
    branch = deployment.source.ref or project.settings.production_branch
    listed = {one.id: (one, row) for one, row in await _fetch(platform.db, project)}
    chosen = select_variables(
        (one for one, _ in listed.values()), target=deployment.target.value, branch=branch, phase="build"
    )
    try:
        ring = ring_of(platform.settings) if chosen else None
        return {key: _open_value(ring, project, *listed[one.id]) for key, one in chosen.items() if ring}
    except (Invalid, BadSettings) as error:
        why = error.facts.get("what") or error.facts.get("problems") or "they do not open"
        raise VariablesUnreadable(why=why) from error


Row = Mapping[str, Any]


async def _fetch(db: Queries, project: Project) -> list[tuple[Variable, Row]]:
    return [(_variable_from(row), row) for row in await db.fetch("list_variables", project.id)]


async def _lock(tx: Queries, project: Project) -> list[tuple[Variable, Row]]:
    if await tx.fetch_one("lock_variables", project.id) is None:
        raise NotFound(what="project")
    return await _fetch(tx, project)


def _open_value(ring: KeyRing, project: Project, one: Variable, row: Row) -> str:
    return unseal(ring, bytes(row["value"]).decode(), identity=_identity(project, one))


def _open_readable(ring: KeyRing, project: Project, listed: Sequence[tuple[Variable, Row]]) -> list[Variable]:
    """Return variables with their values; one that no key opens has none, and can still be replaced or deleted."""
    opened = []
    for one, row in listed:
        value = None
        with contextlib.suppress(Invalid):
            value = _open_value(ring, project, one, row)
        opened.append(replace(one, value=value))
    return opened


async def _write(
    tx: Queries, ring: KeyRing, project: Project, asked: NewVariable, target: str, present: Variable | None
) -> None:
    version = 1 if present is None else present.version + 1
    identity = seal_identity(
        team_id=project.team_id,
        project_id=project.id,
        target=target,
        branch=asked.branch,
        key=asked.key,
        version=version,
    )
    value = seal(ring, asked.value, identity=identity, nonce=os.urandom(NONCE_BYTES)).encode()
    flags = (asked.is_sensitive, asked.is_build, asked.is_run)
    if present is None:
        made = new_id("variable")
        await tx.execute("insert_variable", made, project.id, asked.key, target, asked.branch or "", value, *flags)
    else:
        await tx.execute("update_variable", present.id, project.id, value, *flags, version)


def _refuse_present(asked: Sequence[NewVariable], kept: Any) -> None:
    problems = [
        FieldProblem(f"variables.{number}.key", f"is there already for {target}")
        for number, one in enumerate(asked)
        for target in one.targets
        if (one.key, target, one.branch) in kept
    ]
    if problems:
        raise InvalidFields(tuple(problems))


async def _check_limits(ring: KeyRing, tx: Queries, project: Project) -> list[Variable]:
    """Return what the project has now; raise `InvalidFields` when that is too much."""
    listed = await _fetch(tx, project)
    problem = f"are more than {VARIABLES_LIMIT:,}" if len(listed) > VARIABLES_LIMIT else None
    opened = _open_readable(ring, project, listed) if problem is None else []
    if problem := problem or check_total(opened):
        raise InvalidFields((FieldProblem("variables", problem),))
    return [_shown(one) for one in opened]


def _shown(one: Variable) -> Variable:
    return replace(one, value=None) if one.is_sensitive else one


def _identity(project: Project, one: Variable) -> str:
    return seal_identity(
        team_id=project.team_id,
        project_id=project.id,
        target=one.target,
        branch=one.branch,
        key=one.key,
        version=one.version,
    )


def _variable_from(row: Row) -> Variable:
    return Variable(
        id=row["id"],
        key=row["key"],
        target=row["target"],
        branch=row["branch"] or None,
        is_sensitive=row["is_sensitive"],
        is_build=row["is_build"],
        is_run=row["is_run"],
        version=row["version"],
        updated_at=row["updated_at"],
    )
