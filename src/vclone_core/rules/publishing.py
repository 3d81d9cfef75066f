"""Which aliases a finished build moves, what a deployment is made for, and where a rollback leads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vclone_core.models import AliasKind, Deployment, Project, Source, Target
from vclone_core.rules.names import branch_host, deployment_host, production_host


@dataclass(frozen=True, slots=True)
class Point:
    """A host that is to point at a deployment, and why."""

    host: str
    kind: AliasKind
    branch: str | None = None


@dataclass(frozen=True, slots=True)
class PastMove:
    """One earlier move of a project's production alias, `reason` as in `alias_history`."""

    deployment_id: str
    reason: str


def decide_target(source: Source, *, asked: Target | None, production_branch: str, has_production: bool) -> Target:
    """Say what a new deployment is made for. What was asked wins.

    A git deployment is for production on the production branch, or where no ref is named. The first upload of a
    project is for production, later ones are previews; `has_production` says that one is there or on its way.
    """
    if asked is not None:
        return asked
    if source.kind == "git":
        return Target.PRODUCTION if source.ref in (None, production_branch) else Target.PREVIEW
    return Target.PREVIEW if has_production else Target.PRODUCTION


def decide_points(
    project: Project,
    deployment: Deployment,
    *,
    base_domain: str,
    production_sequence: int | None,
    branch_sequence: int | None,
    custom_hosts: Sequence[str] = (),
    branch_hosts: Sequence[str] = (),
) -> tuple[Point, ...]:
    """Return the hosts a build that just finished takes.

    Its own host, always. The hosts of its branch and of production, unless they show a newer deployment (a higher
    sequence) already: an older one never overtakes. Production waits while publishing is paused. `custom_hosts` are the
    project's domains that show production, `branch_hosts` those that show the branch.
    """
    points = [Point(deployment_host(project.name, deployment.id, base_domain), AliasKind.DEPLOYMENT)]
    if deployment.source.kind == "git":
        branch = deployment.source.ref or project.settings.production_branch
        if branch_sequence is None or branch_sequence < deployment.sequence:
            points.append(Point(branch_host(project.name, branch, base_domain), AliasKind.BRANCH, branch))
            points += (Point(host, AliasKind.CUSTOM, branch) for host in branch_hosts)
    if (
        deployment.target is Target.PRODUCTION
        and not project.is_publishing_paused
        and (production_sequence is None or production_sequence < deployment.sequence)
    ):
        points += production_points(project, base_domain=base_domain, custom_hosts=custom_hosts)
    return tuple(points)


def production_points(project: Project, *, base_domain: str, custom_hosts: Sequence[str] = ()) -> tuple[Point, ...]:
    """Return every host that shows a project's production deployment."""
    return (
        Point(production_host(project.name, base_domain), AliasKind.PRODUCTION),
        *(Point(host, AliasKind.CUSTOM) for host in custom_hosts),
    )


def decide_previous(history: Sequence[PastMove], current: str) -> str | None:
    """Return the deployment that a rollback from `current` leads to, or None where there is none before it.

    `history` is newest first. It is read from the place where `current` was published or promoted, not where a
    rollback put it: two rollbacks in a row go back two deployments, never to and fro.

    >>> decide_previous([PastMove("b", "rollback"), PastMove("c", "publish"), PastMove("b", "publish"),
    ...                  PastMove("a", "publish")], "b")
    'a'
    """
    put = [index for index, move in enumerate(history) if move.deployment_id == current]
    chosen = [index for index in put if history[index].reason != "rollback"] or put
    if not chosen:
        return None
    return next((move.deployment_id for move in history[chosen[0] :] if move.deployment_id != current), None)
