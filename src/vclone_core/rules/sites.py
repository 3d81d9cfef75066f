"""The site and the alias move as JSON values: what the API tells the edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Final

from vclone_core.errors import Invalid
from vclone_core.models import AliasKind, AliasMove, Protection, Site

_FIELDS: Final = tuple(field.name for field in fields(Site))
# A site whose protection can't be read is one that nothing opens: never one that everything does.
CLOSED: Final = Protection("", "")


def encode_site(site: Site) -> dict[str, Any]:
    """Return the site as a JSON object with the field names of `Site`."""
    raw = {name: getattr(site, name) for name in _FIELDS} | {"kind": site.kind.value}
    if site.protection is not None:
        raw["protection"] = asdict(site.protection) | {"links": list(site.protection.links)}
    return raw


def decode_site(raw: Mapping[str, Any]) -> Site:
    """Return the site in `raw`; raise `Invalid` when a field is missing or of a wrong type."""
    try:
        site = Site(
            host=raw["host"],
            project_id=raw["project_id"],
            deployment_id=raw["deployment_id"],
            manifest_key=raw["manifest_key"],
            kind=AliasKind(raw["kind"]),
            version=raw["version"],
            protection=_decode_protection(raw.get("protection")),
            redirect_to=raw.get("redirect_to"),
            previous_deployment_id=raw.get("previous_deployment_id"),
            newest_deployment_id=raw.get("newest_deployment_id"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Invalid(what=f"this is no site ({error})") from error
    texts = (site.host, site.project_id, site.deployment_id, site.manifest_key)
    options = (site.redirect_to, site.previous_deployment_id, site.newest_deployment_id)
    is_typed = all(isinstance(text, str | None) for text in options) and type(site.version) is int
    if not is_typed or not all(isinstance(text, str) and text for text in texts):
        raise Invalid(what="this is no site (a field has a wrong type)")
    return site


def _decode_protection(raw: Any) -> Protection | None:
    if raw is None:
        return None
    try:
        found = Protection(**{**raw, "links": tuple(raw["links"])})
    except (TypeError, KeyError):
        return CLOSED
    texts = (found.key, found.enter_url, found.bypass or "", *found.links)
    generations = (found.members, found.password)
    is_typed = all(isinstance(text, str) for text in texts) and all(
        generation is None or type(generation) is int for generation in generations
    )
    return found if is_typed else CLOSED


def encode_move(move: AliasMove) -> dict[str, Any]:
    """Return the move as a JSON object: `version`, `host`, and `site` (null: the host is gone)."""
    return {"version": move.version, "host": move.host, "site": None if move.site is None else encode_site(move.site)}


def decode_move(raw: Mapping[str, Any]) -> AliasMove:
    """Return the move in `raw`; raise `Invalid` when it isn't one."""
    try:
        version, host, site = raw["version"], raw["host"], raw["site"]
    except (KeyError, TypeError) as error:
        raise Invalid(what=f"this is no alias move ({error})") from error
    if type(version) is not int or not isinstance(host, str):
        raise Invalid(what="this is no alias move (a field has a wrong type)")
    return AliasMove(version=version, host=host, site=None if site is None else decode_site(site))
