"""Custom host names: where a claim of one stands, and the DNS records that its owner sets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class DomainState(StrEnum):
    """Where a project's claim of a host name stands. Transitions are the table in `rules/domains.py`."""

    PENDING = "pending"  # nobody has proved yet that the name is theirs
    MISROUTED = "misrouted"  # proved and served, but its DNS doesn't lead to the edges
    ACTIVE = "active"  # proved, and it leads here
    FAILING = "failing"  # was proved; neither proof nor way holds any more; served until the grace is over
    LAPSED = "lapsed"  # over: not served; checking it again begins with a new token


HELD = frozenset({DomainState.MISROUTED, DomainState.ACTIVE, DomainState.FAILING})


@dataclass(frozen=True, slots=True)
class Domain:
    """A project's claim of a host name.

    `token` is what its TXT record proves it by; `problem` says in words what is wrong with it, empty: nothing is.
    `since` is when it came into its state. `next_check_at` None: it isn't looked at any more by itself.
    """

    id: str
    project_id: str
    project_name: str
    host: str
    token: str
    state: DomainState
    redirect_to: str | None
    branch: str | None
    problem: str
    created_at: datetime
    since: datetime
    verified_at: datetime | None
    checked_at: datetime | None
    next_check_at: datetime | None

    @property
    def is_held(self) -> bool:
        """Whether the name is this project's: its ownership was proved."""
        return self.state in HELD


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """One record to set: `type` as in a zone file (`ALIAS`: whatever the DNS host calls a CNAME at the apex).

    `purpose` is `ownership` or `routing`.
    """

    type: str
    name: str
    value: str
    purpose: str
