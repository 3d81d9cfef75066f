"""The page of a project's protection, and the page that strangers to a protected site are sent to.

`/enter` hands a browser back to its site with a page that goes on by itself, and not with a redirect: where a form led
there, browsers hold the whole chain to this page's `form-action`, which names no other host.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from vclone_core.actions import deployments, projects, protection
from vclone_core.errors import BadTarget, Invalid, Unauthorised, VcloneError
from vclone_core.models import Covers, Project
from vclone_core.rules.protection import is_covered, is_local, is_visitor

from .visit import Go, Page, Show, Visit

LIFETIMES: Final = {"1": "1 day", "7": "7 days", "30": "30 days", "365": "1 year"}


async def show_protection(visit: Visit, project: str) -> Show:
    """Who may see a project's sites, and the share links to them."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    return Show("protection.html", await facts_of(visit, found))


async def change_protection(visit: Visit, project: str) -> Go:
    """Say which of a project's hosts are protected."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    wanted = visit.form.get("covers", "")
    if wanted not in tuple(Covers):
        raise Invalid(what="choose which hosts are protected")
    visit.change.facts["covers"] = wanted
    await protection.set_covers(visit.platform, visit.actor, found, Covers(wanted))
    return Go(page_of(found))


async def set_site_password(visit: Visit, project: str) -> Show | Go:
    """Let in who knows a password."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    try:
        await protection.set_password(visit.platform, visit.actor, found, visit.form.get("password", ""))
    except VcloneError as error:
        return Show("protection.html", {**await facts_of(visit, found), "failed": "password"}, error)
    return Go(page_of(found))


async def remove_site_password(visit: Visit, project: str) -> Go:
    """Let nobody in by password any more."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    await protection.set_password(visit.platform, visit.actor, found, None)
    return Go(page_of(found))


async def end_passes(visit: Visit, project: str) -> Go:
    """Have everybody who was let in ask anew."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    await protection.end_passes(visit.platform, visit.actor, found)
    return Go(page_of(found))


async def make_bypass(visit: Visit, project: str) -> Show:
    """Make automation's secret; it is shown this once."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    secret, _ = await protection.make_bypass(visit.platform, visit.actor, found)
    return Show("protection.html", {**await facts_of(visit, found), "secret": secret})


async def remove_bypass(visit: Visit, project: str) -> Go:
    """Take automation's secret away."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    await protection.remove_bypass(visit.platform, visit.actor, found)
    return Go(page_of(found))


async def create_share_link(visit: Visit, project: str) -> Show:
    """Make a share link; its address is shown this once."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    form = visit.form
    try:
        if form.get("days") not in LIFETIMES:
            raise Invalid(what="choose when the link ends")
        link, url = await protection.create_link(
            visit.platform,
            visit.actor,
            found,
            of=form.get("of", "").strip()[:253],
            name=form.get("name", "").strip()[:100],
            days=float(form["days"]),
        )
    except VcloneError as error:
        return Show("protection.html", {**await facts_of(visit, found), "failed": "share", "form": form}, error)
    visit.change.facts |= {"link": link.id, "host": link.host}
    return Show("protection.html", {**await facts_of(visit, found), "made": link, "url": url})


async def revoke_share_link(visit: Visit, project: str, link: str) -> Go:
    """Revoke a share link, and what it opened."""
    found = await projects.find_project(visit.platform, visit.actor, project)
    visit.change.facts["host"], _ = await protection.delete_link(visit.platform, visit.actor, found, link)
    return Go(page_of(found))


async def facts_of(visit: Visit, project: Project) -> dict[str, Any]:
    policy = await protection.show_policy(visit.platform, visit.actor, project)
    aliases = await deployments.list_aliases(visit.platform, visit.actor, project)
    newest_first = sorted(aliases, key=lambda alias: (alias.kind == "deployment", -alias.version))
    return {
        "project": project,
        "policy": policy,
        "links": await protection.list_links(visit.platform, visit.actor, project),
        "hosts": [alias.host for alias in newest_first if is_covered(policy.covers, alias.kind, None)][:50],
        "lifetimes": LIFETIMES,
        "may_change": visit.may("change protection"),
        "may_share": visit.may("share a site"),
        "failed": "",
        "form": {},
    }


def page_of(project: Project) -> str:
    return f"/projects/{project.name}/protection"


async def ask_to_enter(visit: Visit) -> Show:
    """Let a member who is signed in in to a protected site; ask anybody else for the password, or to sign in."""
    asked = read_asked(visit.query)
    entrance = await protection.find_entrance(visit.platform, asked["host"])
    if entrance.is_open:
        url = visit.platform.settings.site_url(entrance.host) + asked["to"]
        return Show("entered.html", {"host": entrance.host, "url": url})
    error = None
    if visit.session is not None:
        try:
            url = await protection.enter_as_member(
                visit.platform, entrance, visit.actor.user_id, visitor=asked["visitor"], path=asked["to"]
            )
            return Show("entered.html", {"host": entrance.host, "url": url})
        except VcloneError as refused:
            error = refused
            if not entrance.takes_password:
                raise
    if not entrance.takes_password:
        raise Unauthorised()  # the page for signing in, which leads back here
    return Show("enter.html", {**facts_to_enter(asked), "failure": error})


async def enter_by_password(visit: Visit) -> Show:
    """Let somebody who knows the password in to a protected site."""
    asked = read_asked(visit.form)
    entrance = await protection.find_entrance(visit.platform, asked["host"])
    try:
        if entrance.is_open or not entrance.takes_password:
            raise Invalid(what="this site takes no password")
        url = await protection.enter_by_password(
            visit.platform,
            entrance,
            visit.form.get("password", ""),
            address=visit.address,
            visitor=asked["visitor"],
            path=asked["to"],
        )
    except VcloneError as error:
        return Show("enter.html", facts_to_enter(asked), error)
    return Show("entered.html", {"host": entrance.host, "url": url})


def read_asked(fields: Any) -> dict[str, str]:
    """Return what an edge asks with; raise `BadTarget` for what none would."""
    host, visitor, to = (fields.get(name, "") for name in ("host", "visitor", "to"))
    if not 0 < len(host) <= 253 or not host.isprintable() or not is_visitor(visitor):
        raise BadTarget(hint="Go to the site itself: it leads here.")
    return {"host": host, "visitor": visitor, "to": to if is_local(to) else "/"}


def facts_to_enter(asked: dict[str, str]) -> dict[str, Any]:
    return {"asked": asked, "next_path": f"/enter?{urlencode(asked)}"}


CHANGE: Final = "change protection"
SHARE: Final = "share a site"
_PATH: Final = "/projects/<project>/protection"

PAGES: Final[tuple[Page, ...]] = (
    Page("GET", _PATH, show_protection, "see a project"),
    Page("POST", _PATH, change_protection, CHANGE),
    Page("POST", f"{_PATH}/password", set_site_password, CHANGE),
    Page("POST", f"{_PATH}/password/remove", remove_site_password, CHANGE),
    Page("POST", f"{_PATH}/revoke", end_passes, CHANGE),
    Page("POST", f"{_PATH}/bypass", make_bypass, CHANGE),
    Page("POST", f"{_PATH}/bypass/remove", remove_bypass, CHANGE),
    Page("POST", f"{_PATH}/links", create_share_link, SHARE),
    Page("POST", f"{_PATH}/links/<link>/revoke", revoke_share_link, SHARE),
    Page("GET", "/enter", ask_to_enter, "open"),
    Page("POST", "/enter", enter_by_password, "open", is_audited=False),
)
