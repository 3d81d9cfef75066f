"""Who may see a project's sites: the switch, the password, automation's secret, share links."""

from __future__ import annotations

from typing_extensions import TypedDict  # pydantic reads these, and needs this one before Python 3.12

from vclone_core.actions import projects, protection
from vclone_core.models import Covers, EdgeReceipt, Policy, ShareLink

from ..bodies import NewShareLink, ProtectionChange, SitePassword
from ..guard import Call
from ..paging import slice_page
from .shapes import ReceiptShape, moment, optional_moment, shape_receipts


class ProtectionShape(TypedDict):
    """How a project's sites are protected; `receipts`: what the edges said of a change."""

    covers: str
    has_password: bool
    has_bypass: bool
    bypass_made_at: str | None
    receipts: list[ReceiptShape]


class BypassShape(TypedDict):
    secret: str
    receipts: list[ReceiptShape]


class ShareLinkShape(TypedDict):
    id: str
    host: str
    name: str
    created_at: str
    expires_at: str


class NewShareLinkShape(ShareLinkShape):
    url: str


class ShareLinkList(TypedDict):
    items: list[ShareLinkShape]
    next_cursor: str | None


async def show_protection(call: Call, project: str) -> ProtectionShape:
    """Which of a project's hosts are protected, and by what."""
    found = await projects.find_project(call.platform, call.actor, project)
    return shape_policy(await protection.show_policy(call.platform, call.actor, found))


async def change_protection(call: Call, project: str) -> ProtectionShape:
    """Say which of a project's hosts are protected; answers what the edges said of it."""
    body: ProtectionChange = call.body
    found = await projects.find_project(call.platform, call.actor, project)
    call.change.facts["covers"] = body.covers
    return shape_policy(*await protection.set_covers(call.platform, call.actor, found, Covers(body.covers)))


async def set_site_password(call: Call, project: str) -> ProtectionShape:
    """Let in who knows a password, besides members; whoever came in by the one before is out."""
    body: SitePassword = call.body
    found = await projects.find_project(call.platform, call.actor, project)
    return shape_policy(*await protection.set_password(call.platform, call.actor, found, body.password))


async def remove_site_password(call: Call, project: str) -> ProtectionShape:
    """Let nobody in by password any more."""
    found = await projects.find_project(call.platform, call.actor, project)
    return shape_policy(*await protection.set_password(call.platform, call.actor, found, None))


async def end_passes(call: Call, project: str) -> ProtectionShape:
    """Have everybody who was let in ask anew; share links and automation's secret stay."""
    found = await projects.find_project(call.platform, call.actor, project)
    return shape_policy(*await protection.end_passes(call.platform, call.actor, found))


async def make_bypass(call: Call, project: str) -> BypassShape:
    """Make automation's secret, in the place of the one before; it is answered this once."""
    found = await projects.find_project(call.platform, call.actor, project)
    secret, receipts = await protection.make_bypass(call.platform, call.actor, found)
    return {"secret": secret, "receipts": shape_receipts(receipts)}


async def remove_bypass(call: Call, project: str) -> None:
    """Take automation's secret away, and what it opened."""
    found = await projects.find_project(call.platform, call.actor, project)
    await protection.remove_bypass(call.platform, call.actor, found)


async def list_share_links(call: Call, project: str) -> ShareLinkList:
    """The share links that hold, newest first."""
    found = await projects.find_project(call.platform, call.actor, project)
    links = await protection.list_links(call.platform, call.actor, found)
    page, cursor = slice_page(call, links, key=lambda link: link.id, newest_first=True)
    return {"items": [shape_link(one) for one in page], "next_cursor": cursor}


async def create_share_link(call: Call, project: str) -> NewShareLinkShape:
    """Make a link that opens one protected host; answers its URL, this once."""
    body: NewShareLink = call.body
    found = await projects.find_project(call.platform, call.actor, project)
    link, url = await protection.create_link(
        call.platform, call.actor, found, of=body.of, name=body.name, days=body.days
    )
    call.change.facts |= {"link": link.id, "host": link.host, "days": body.days}
    return {**shape_link(link), "url": url}


async def revoke_share_link(call: Call, project: str, link: str) -> None:
    """Revoke a share link, and what it opened."""
    found = await projects.find_project(call.platform, call.actor, project)
    host, _ = await protection.delete_link(call.platform, call.actor, found, link)
    call.change.facts["host"] = host


def shape_policy(policy: Policy, receipts: tuple[EdgeReceipt, ...] = ()) -> ProtectionShape:
    return {
        "covers": policy.covers.value,
        "has_password": policy.has_password,
        "has_bypass": policy.bypass is not None,
        "bypass_made_at": optional_moment(policy.bypass_made_at),
        "receipts": shape_receipts(receipts),
    }


def shape_link(link: ShareLink) -> ShareLinkShape:
    return {
        "id": link.id,
        "host": link.host,
        "name": link.name,
        "created_at": moment(link.created_at),
        "expires_at": moment(link.expires_at),
    }
