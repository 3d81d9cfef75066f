"""The JSON shapes of custom domains."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import TypedDict  # pydantic reads these, and needs this one before Python 3.12

from vclone_core.actions.domains import Resolved
from vclone_core.models import DnsRecord, Domain
from vclone_core.settings import Settings

from .shapes import AliasShape, ReceiptShape, moment, optional_moment


class AliasSwitch(TypedDict):
    """What pointing a host at a deployment answers; `receipts` are empty where it showed that already."""

    alias: AliasShape
    receipts: list[ReceiptShape]


class RecordShape(TypedDict):
    type: str
    name: str
    value: str
    purpose: str


class DomainShape(TypedDict):
    id: str
    host: str
    url: str
    project: str
    project_id: str
    state: str
    problem: str
    redirect_to: str | None
    branch: str | None
    records: list[RecordShape]
    created_at: str
    since: str
    verified_at: str | None
    checked_at: str | None
    next_check_at: str | None


class DomainList(TypedDict):
    items: list[DomainShape]
    next_cursor: str | None


class ResolvedShape(TypedDict):
    host: str
    url: str
    kind: str
    project: str
    project_id: str
    deployment: str
    redirect_to: str | None
    version: int


def shape_domain(one: Domain, records: Sequence[DnsRecord], settings: Settings) -> DomainShape:
    return {
        "id": one.id,
        "host": one.host,
        "url": settings.site_url(one.host),
        "project": one.project_name,
        "project_id": one.project_id,
        "state": one.state.value,
        "problem": one.problem,
        "redirect_to": one.redirect_to,
        "branch": one.branch,
        "records": [{"type": it.type, "name": it.name, "value": it.value, "purpose": it.purpose} for it in records],
        "created_at": moment(one.created_at),
        "since": moment(one.since),
        "verified_at": optional_moment(one.verified_at),
        "checked_at": optional_moment(one.checked_at),
        "next_check_at": optional_moment(one.next_check_at),
    }


def shape_resolved(one: Resolved, settings: Settings) -> ResolvedShape:
    return {
        "host": one.host,
        "url": settings.site_url(one.host),
        "kind": one.kind.value,
        "project": one.project_name,
        "project_id": one.project_id,
        "deployment": one.deployment_id,
        "redirect_to": one.redirect_to,
        "version": one.version,
    }
