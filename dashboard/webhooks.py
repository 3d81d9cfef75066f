"""The pages of a team's webhooks: list, make, switch, try, and what each was sent."""

from __future__ import annotations

from typing import Any, Final

from vclone_core.actions import webhooks
from vclone_core.errors import VcloneError
from vclone_core.rules.access import may
from vclone_core.rules.outgoing import EVENTS

from .visit import Go, Page, Show, Visit

SEE: Final = "see webhooks"
CHANGE: Final = "change webhooks"
DELIVERIES_SHOWN: Final = 50


async def show_webhooks(visit: Visit) -> Show:
    """Every webhook of the team."""
    return Show("webhooks.html", await facts_of(visit))


async def create_webhook(visit: Visit) -> Show:
    """Make a webhook, and show its secret this once."""
    asked = [event for event in EVENTS if f"event:{event}" in visit.form]
    try:
        hook, secret = await webhooks.create_webhook(
            visit.platform,
            visit.actor,
            url=visit.form.get("url", "").strip(),
            events=asked,
            project=visit.form.get("project", "").strip() or None,
        )
    except VcloneError as error:
        return Show("webhooks.html", {**await facts_of(visit), "form": visit.form}, error)
    visit.change.subject, visit.change.facts = hook.id, {"events": asked}
    return Show("webhooks.html", {**await facts_of(visit), "made": hook, "secret": secret})


async def show_webhook(visit: Visit, webhook: str) -> Show:
    """One webhook, and what it was sent lately."""
    hook = await webhooks.find_webhook(visit.platform, visit.actor, webhook)
    sends = await webhooks.list_sends(
        visit.platform, visit.actor, webhook, limit=DELIVERIES_SHOWN + 1, before=read_before(visit)
    )
    shown = sends[:DELIVERIES_SHOWN]
    facts = {
        "hook": hook,
        "sends": shown,
        "older": shown[-1].id if len(sends) > len(shown) else None,
        "may_change": may(visit.actor, CHANGE),
    }
    return Show("webhook.html", facts)


async def enable_webhook(visit: Visit, webhook: str) -> Go:
    """Switch a webhook on."""
    await webhooks.change_webhook(visit.platform, visit.actor, webhook, is_enabled=True)
    return Go(f"/webhooks/{webhook}")


async def disable_webhook(visit: Visit, webhook: str) -> Go:
    """Switch a webhook off."""
    await webhooks.change_webhook(visit.platform, visit.actor, webhook, is_enabled=False)
    return Go(f"/webhooks/{webhook}")


async def ping_webhook(visit: Visit, webhook: str) -> Go:
    """Send an event that means nothing."""
    await webhooks.send_ping(visit.platform, visit.actor, webhook)
    return Go(f"/webhooks/{webhook}")


async def delete_webhook(visit: Visit, webhook: str) -> Go:
    """Take a webhook away."""
    await webhooks.delete_webhook(visit.platform, visit.actor, webhook)
    return Go("/webhooks")


async def redeliver(visit: Visit, webhook: str, delivery: str) -> Go:
    """Send the event of a delivery again."""
    await webhooks.redeliver(visit.platform, visit.actor, webhook, delivery)
    return Go(f"/webhooks/{webhook}")


def read_before(visit: Visit) -> int | None:
    text = visit.query.get("before", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


async def facts_of(visit: Visit) -> dict[str, Any]:
    return {
        "webhooks": await webhooks.list_webhooks(visit.platform, visit.actor),
        "events": EVENTS,
        "may_change": may(visit.actor, CHANGE),
        "made": None,
        "secret": "",
        "form": {},
    }


PAGES: Final[tuple[Page, ...]] = (
    Page("GET", "/webhooks", show_webhooks, SEE),
    Page("POST", "/webhooks", create_webhook, CHANGE),
    Page("GET", "/webhooks/<webhook>", show_webhook, SEE),
    Page("POST", "/webhooks/<webhook>/enable", enable_webhook, CHANGE),
    Page("POST", "/webhooks/<webhook>/disable", disable_webhook, CHANGE),
    Page("POST", "/webhooks/<webhook>/ping", ping_webhook, CHANGE),
    Page("POST", "/webhooks/<webhook>/delete", delete_webhook, CHANGE),
    Page("POST", "/webhooks/<webhook>/deliveries/<delivery>/redeliver", redeliver, CHANGE),
)
