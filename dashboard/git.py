"""The page of a project's repository: connect it, see what arrived and was told, approve forks' pull requests."""

from __future__ import annotations

from typing import Any, Final

from vclone_core.actions import gitapps, gitconnections, projects, pullrequests
from vclone_core.actions.gitconnections import Connected
from vclone_core.errors import NotFound, VcloneError
from vclone_core.models import Project
from vclone_core.rules.access import may

from .visit import Go, Page, Show, Visit

SEE: Final = "see a project"
CONNECT: Final = "connect a repository"
APPROVE: Final = "approve a pull request"
SHOWN: Final = 20


async def show_git(visit: Visit, project: str) -> Show:
    """Which repository a project follows, its pull requests, deliveries and reports."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    return Show("git.html", await facts_of(visit, found))


async def connect_git(visit: Visit, project: str) -> Show:
    """Have a project follow a repository; the page shows the webhook's secret, this once."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    form = {name: text.strip() for name, text in visit.form.items()}
    try:
        made = await gitconnections.connect(
            visit.platform,
            visit.actor,
            found,
            host=form.get("host", ""),
            git_url=form.get("git_url") or None,
            api_url=form.get("api_url") or None,
            token=form.get("token") or None,
            account=form.get("account", ""),
            git_app_id=form.get("git_app_id") or None,
            new_secret="new_secret" in form,
        )
    except VcloneError as error:
        return Show("git.html", {**await facts_of(visit, found), "form": form}, error)
    visit.change.facts |= {"host": made.connection.host, "repository": made.connection.repository}
    found = await projects.find_project(visit.platform, visit.actor, project)
    return Show("git.html", {**await facts_of(visit, found), "made": made})


async def disconnect_git(visit: Visit, project: str) -> Go:
    """Have a project follow no repository any more."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    await gitconnections.disconnect(visit.platform, visit.actor, found)
    return Go(f"/projects/{found.name}/git")


async def redeliver(visit: Visit, project: str, delivery: str) -> Go:
    """Handle a delivery once more."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    await gitconnections.repeat_delivery(visit.platform, visit.actor, found, read_number(delivery))
    return Go(f"/projects/{found.name}/git")


async def tell_again(visit: Visit, project: str) -> Go:
    """Tell the host again what it refused."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    await gitconnections.repeat_reports(visit.platform, visit.actor, found)
    return Go(f"/projects/{found.name}/git")


async def approve(visit: Visit, project: str, number: str) -> Go:
    """Deploy the commit of a fork's pull request that the page has shown."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    sha = visit.form.get("sha", "")
    made = await pullrequests.approve(visit.platform, visit.actor, found, read_number(number), sha)
    visit.change.facts |= {"sha": made.source.sha, "deployment": made.id}
    return Go(f"/deployments/{made.id}")


async def facts_of(visit: Visit, project: Project) -> dict[str, Any]:
    platform, actor = visit.platform, visit.actor
    facts: dict[str, Any] = {
        "project": project,
        "hosts": sorted((name, host.label) for name, host in platform.git_hosts.items()),
        "apps": await list_choices(visit),
        "may_connect": may(actor, CONNECT),
        "may_approve": may(actor, APPROVE),
        "connected": None,
        "made": None,
        "deliveries": [],
        "reports": [],
        "pulls": [],
        "form": {},
    }
    try:
        connection = await gitconnections.find_connection(platform, actor, project)
    except NotFound:
        return facts
    reports = await gitconnections.list_reports(platform, actor, project, limit=100)
    return facts | {
        "connected": Connected(connection, gitconnections.webhook_url(platform, connection), None),
        "deliveries": await gitconnections.list_deliveries(platform, actor, project, limit=SHOWN),
        "reports": [one for one in reports if one.problem][:SHOWN],
        "pulls": await gitconnections.list_pull_requests(platform, actor, project),
    }


async def list_choices(visit: Visit) -> list[tuple[str, str]]:
    """Return the Apps to choose among, behind none; nothing where there are none."""
    apps = await gitapps.list_apps(visit.platform, visit.actor) if may(visit.actor, "see git access") else []
    return [("", "none: a webhook of its own"), *((app.id, app.slug or app.id) for app in apps)] if apps else []


def read_number(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise NotFound(what="address")
    return int(text)


async def show_apps(visit: Visit) -> Show:
    """The team's Apps at git hosts, and a form for another one."""
    return Show("git_apps.html", {"apps": await gitapps.list_apps(visit.platform, visit.actor), "form": {}})


async def begin_app(visit: Visit) -> Show:
    """Make an App ready to be made: the page's form goes to the host."""
    form = {name: text.strip() for name, text in visit.form.items()}
    try:
        begun = await gitapps.begin(
            visit.platform,
            visit.actor,
            server=form.get("server") or "https://github.com",
            organisation=form.get("organisation", ""),
            name=form.get("name", ""),
            api_url=form.get("api_url") or None,
        )
    except VcloneError as error:
        facts = {"apps": await gitapps.list_apps(visit.platform, visit.actor), "form": form}
        return Show("git_apps.html", facts, error)
    visit.change.subject = begun.app_id
    return Show("git_app_begun.html", {"begun": begun}, form_action=begun.form_url)


async def finish_app(visit: Visit) -> Go:
    """Take what the host sends back of the App that it made."""
    code, state = visit.query.get("code", ""), visit.query.get("state", "")
    app = await gitapps.finish(visit.platform, visit.actor, code=code, state=state)
    visit.change.subject = app.id
    return Go("/git-apps")


async def delete_app(visit: Visit, app: str) -> Go:
    """Forget an App; the projects that follow repositories by it follow them no more."""
    await gitapps.delete(visit.platform, visit.actor, app)
    return Go("/git-apps")


PAGES: Final[tuple[Page, ...]] = (
    Page("GET", "/projects/<project>/git", show_git, SEE),
    Page("POST", "/projects/<project>/git", connect_git, CONNECT, "connect_repository"),
    Page("POST", "/projects/<project>/git/delete", disconnect_git, CONNECT, "disconnect_repository"),
    Page("POST", "/projects/<project>/git/deliveries/<delivery>/repeat", redeliver, CONNECT, "repeat_delivery"),
    Page("POST", "/projects/<project>/git/reports/repeat", tell_again, CONNECT, "repeat_reports"),
    Page("POST", "/projects/<project>/git/pulls/<number>/approve", approve, APPROVE, "approve_pull_request"),
    Page("GET", "/git-apps", show_apps, "see git access"),
    Page("POST", "/git-apps", begin_app, "change git access", "begin_git_app"),
    Page("GET", "/git-apps/callback", finish_app, "change git access", "finish_git_app", is_audited=True),
    Page("POST", "/git-apps/<app>/delete", delete_app, "change git access", "delete_git_app"),
)
