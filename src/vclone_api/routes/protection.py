"""Who may see a project's sites."""

from __future__ import annotations

from typing import Final

from .. import bodies
from ..guard import Route
from ..views import protection

SEE: Final = "see a project"
CHANGE: Final = "change protection"
SHARE: Final = "share a site"
_PATH: Final = "/api/projects/<project>/protection"

# A change waits up to two seconds for receipts.
ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", _PATH, protection.show_protection, SEE, protection.ProtectionShape),
    Route(
        "PATCH", _PATH, protection.change_protection, CHANGE, protection.ProtectionShape, body=bodies.ProtectionChange
    ),
    Route(
        "PUT",
        f"{_PATH}/password",
        protection.set_site_password,
        CHANGE,
        protection.ProtectionShape,
        body=bodies.SitePassword,
    ),
    Route("DELETE", f"{_PATH}/password", protection.remove_site_password, CHANGE, protection.ProtectionShape),
    Route("POST", f"{_PATH}/revoke", protection.end_passes, CHANGE, protection.ProtectionShape),
    Route("POST", f"{_PATH}/bypass", protection.make_bypass, CHANGE, protection.BypassShape, status=201),
    Route("DELETE", f"{_PATH}/bypass", protection.remove_bypass, CHANGE, status=204),
    Route("GET", f"{_PATH}/links", protection.list_share_links, SEE, protection.ShareLinkList, query=bodies.PagedQuery),
    Route(
        "POST",
        f"{_PATH}/links",
        protection.create_share_link,
        SHARE,
        protection.NewShareLinkShape,
        status=201,
        body=bodies.NewShareLink,
    ),
    Route("DELETE", f"{_PATH}/links/<link>", protection.revoke_share_link, SHARE, status=204),
)
