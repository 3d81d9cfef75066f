"""The dashboard's addresses. Each view reads through the same actions as the API and returns what to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vclone_core.actions import deployments, projects
from vclone_core.actions.domains import list_domains
from vclone_core.models import Actor, Alias, AliasKind, Deployment, Project, State, Step
from vclone_core.rules.access import may
from vclone_core.rules.lifecycle import FINAL
from vclone_core.rules.names import deployment_host, production_host

from . import domains, git, people, protection, teams, variables, webhooks
from .visit import Go, Page, Show, Visit

PROJECTS_SHOWN: Final = 60
DEPLOYMENTS_SHOWN: Final = 25
LINES_SHOWN: Final = 2000


@dataclass(frozen=True, slots=True)
class ProjectCard:
    project: Project
    production_url: str
    latest: Deployment | None


@dataclass(frozen=True, slots=True)
class DeploymentRow:
    deployment: Deployment
    can_be_promoted: bool


@dataclass(frozen=True, slots=True)
class Address:
    url: str
    kind: str


@dataclass(frozen=True, slots=True)
class StepMark:
    """One step on the time line: `progress` is `done`, `now`, `broken` or `ahead`."""

    name: str
    progress: str
    seconds: str


async def show_projects(visit: Visit) -> Show:
    """The front page: projects, the newest first, and how the newest deployment of each fares."""
    rows = await projects.list_projects(
        visit.platform, visit.actor, limit=PROJECTS_SHOWN + 1, before=visit.query.get("before")
    )
    found = rows[:PROJECTS_SHOWN]
    newest: dict[str, Deployment] = {}
    for deployment in await deployments.list_deployments(visit.platform, visit.actor, limit=200):
        newest.setdefault(deployment.project_id, deployment)
    cards = []
    for project in found:
        latest = newest.get(project.id)
        if latest is None:
            one = await deployments.list_deployments(visit.platform, visit.actor, project=project, limit=1)
            latest = one[0] if one else None
        cards.append(ProjectCard(project, production_url(visit, project), latest))
    return Show("projects.html", {"projects": cards, "older": found[-1].id if len(rows) > len(found) else None})


async def show_project(visit: Visit, project: str) -> Show:
    """One project: what production shows, and its deployments."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    rows = await deployments.list_deployments(
        visit.platform,
        visit.actor,
        project=found,
        limit=DEPLOYMENTS_SHOWN + 1,
        before=visit.query.get("before"),
    )
    aliases = await deployments.list_aliases(visit.platform, visit.actor, found)
    current = in_production(aliases)
    shown = rows[:DEPLOYMENTS_SHOWN]
    return Show(
        "project.html",
        {
            "project": found,
            "production_url": production_url(visit, found),
            "domains": [one for one in await list_domains(visit.platform, visit.actor, project=found) if one.is_held],
            "site_url": visit.platform.settings.site_url,
            "current": current,
            "deployments": [DeploymentRow(row, can_be_promoted(visit.actor, row, current)) for row in shown],
            "older": shown[-1].id if len(rows) > len(shown) else None,
            "may_roll_back": may(visit.actor, "roll back"),
        },
    )


async def roll_back(visit: Visit, project: str) -> Go:
    """Show the production deployment before this one again."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    await deployments.rollback(visit.platform, visit.actor, found)
    return Go(f"/projects/{found.name}")


async def show_deployment(visit: Visit, deployment: str) -> Show:
    """One deployment: state, steps, log, addresses; followed live where scripts run."""
    found = await deployments.find_deployment(visit.platform, visit.actor, deployment)
    project = await projects.find_project(visit.platform, visit.actor, found.project_id)
    aliases = await deployments.list_aliases(visit.platform, visit.actor, project)
    lines = await deployments.read_log(visit.platform, visit.actor, found.id, limit=LINES_SHOWN + 1)
    settings = visit.platform.settings
    return Show(
        "deployment.html",
        {
            "deployment": found,
            "project": project,
            "url": settings.site_url(deployment_host(project.name, found.id, settings.base_domain)),
            "aliases": [
                Address(settings.site_url(alias.host), alias.kind.value)
                for alias in aliases
                if alias.deployment_id == found.id
            ],
            "place": await deployments.find_place(visit.platform, found),
            "steps": mark_steps(found),
            "lines": lines[:LINES_SHOWN],
            "is_cut": len(lines) > LINES_SHOWN,
            "is_open": found.state not in FINAL,
            "may_deploy": may(visit.actor, "deploy"),
            "can_be_promoted": can_be_promoted(visit.actor, found, in_production(aliases)),
        },
    )


async def cancel(visit: Visit, deployment: str) -> Go:
    """Call a deployment off."""
    found = await deployments.cancel(visit.platform, visit.actor, deployment)
    return Go(f"/deployments/{found.id}")


async def redeploy(visit: Visit, deployment: str) -> Go:
    """Ask for another deployment of the same source, and show it."""
    found = await deployments.redeploy(visit.platform, visit.actor, deployment)
    return Go(f"/deployments/{found.id}")


async def promote(visit: Visit, deployment: str) -> Go:
    """Show a deployment in production."""
    found = await deployments.find_deployment(visit.platform, visit.actor, deployment)
    await deployments.promote(visit.platform, visit.actor, found.id)
    project = await projects.find_project(visit.platform, visit.actor, found.project_id)
    return Go(f"/projects/{project.name}")


def production_url(visit: Visit, project: Project) -> str:
    settings = visit.platform.settings
    return settings.site_url(production_host(project.name, settings.base_domain))


def in_production(aliases: Sequence[Alias]) -> str | None:
    """Return the id of the deployment that production shows, None while it shows nothing."""
    return next((alias.deployment_id for alias in aliases if alias.kind is AliasKind.PRODUCTION), None)


def can_be_promoted(actor: Actor, deployment: Deployment, current: str | None) -> bool:
    return deployment.state is State.READY and deployment.id != current and may(actor, "promote a deployment")


def mark_steps(deployment: Deployment) -> list[StepMark]:
    """Return the time line of a build, in the order of its steps."""
    failed_in = None if deployment.failure is None else deployment.failure.step
    marks = []
    for step in Step:
        seconds = deployment.step_seconds.get(step.value)
        if step.value == failed_in:
            progress = "broken"
        elif seconds is not None:
            progress = "done"
        elif deployment.state is State.BUILDING and step.value == deployment.step:
            progress = "now"
        else:
            progress = "ahead"
        marks.append(StepMark(step.value, progress, "" if seconds is None else f"{seconds:.1f} s"))
    return marks


PAGES: Final[tuple[Page, ...]] = (
    *people.PAGES,
    *teams.PAGES,
    *variables.PAGES,
    *git.PAGES,
    *domains.PAGES,
    *webhooks.PAGES,
    *protection.PAGES,
    Page("GET", "/", show_projects, "see a project"),
    Page("GET", "/projects/<project>", show_project, "see a project"),
    Page("POST", "/projects/<project>/rollback", roll_back, "roll back"),
    Page("GET", "/deployments/<deployment>", show_deployment, "see a deployment"),
    Page("POST", "/deployments/<deployment>/cancel", cancel, "cancel a deployment", "cancel_deployment"),
    Page("POST", "/deployments/<deployment>/redeploy", redeploy, "deploy", "redeploy_deployment"),
    Page("POST", "/deployments/<deployment>/promote", promote, "promote a deployment", "promote_deployment"),
)
