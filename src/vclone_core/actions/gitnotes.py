"""Notes that deployments changed, for git hosts that are to hear of it; what they are told is in `gitreports`.

A change whose note was lost with its process is found again by `note_missed`.
"""

from __future__ import annotations

import time
from typing import Final

from vclone_core.actions.platform import Platform
from vclone_core.errors import Unavailable
from vclone_core.ids import build_id
from vclone_core.log import get_log
from vclone_core.models import Deployment

log = get_log(__name__)

MISSED_S: Final = 2 * 86_400


async def note_change(platform: Platform, deployment: Deployment) -> None:
    """Note that a deployment came into a new state, for hosts that are to hear of it; a failure is only logged."""
    try:
        await platform.db.execute("note_deployment_reports", deployment.id, "", _listing_hosts(platform))
    except Unavailable as error:
        log.warning("report.unnoted", deployment=deployment.id, why=error.sentence)
    except Exception:
        # A border: no deploy fails because somebody can't be told of it.
        log.exception("report.unnoted", deployment=deployment.id)


async def note_missed(platform: Platform) -> int:
    """Note every change of late that no row speaks of: its process ended between the commit and `note_change`."""
    since_ms = (time.time() - MISSED_S) * 1000
    first = build_id("deployment", unix_ms=int(since_ms), random=0)
    return await platform.db.execute("note_deployment_reports", None, first, _listing_hosts(platform))


def _listing_hosts(platform: Platform) -> list[str]:
    return [name for name, host in platform.git_hosts.items() if host.has_entries]
