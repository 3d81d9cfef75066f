"""What a page's view gets and what it gives back; `vclone_api.app` turns the one into the other and into HTTP."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from vclone_core.actions.audit import Change
from vclone_core.actions.platform import Platform
from vclone_core.errors import Unauthorised, VcloneError
from vclone_core.models import Actor, Team, User
from vclone_core.rules.access import may


@dataclass(frozen=True, slots=True)
class Visit:
    """One request for a page. `form_token` goes into every form; `form` and `query` are the fields that were sent."""

    platform: Platform
    signed_in: Actor | None
    form_token: str
    session: str | None
    query: Mapping[str, str]
    form: Mapping[str, str]
    user_agent: str = ""
    address: str = ""
    attempt: str = ""  # the cookie of a try to sign in with a provider
    user: User | None = None
    team: Team | None = None
    entry_id: str = ""  # the session's
    change: Change = field(default_factory=Change)

    @property
    def actor(self) -> Actor:
        """The one who looks; raises `Unauthorised` on an open page that nobody has signed in to."""
        if self.signed_in is None:
            raise Unauthorised()
        return self.signed_in

    def may(self, action: str) -> bool:
        """Say whether whoever looks is allowed `action`, for what a page offers."""
        return self.signed_in is not None and may(self.signed_in, action)


@dataclass(frozen=True, slots=True)
class Show:
    """Answer with a template; with `error` the page says what went wrong, in its place and with its status.

    `form_action`: an address of another site that a form of this page goes to.
    """

    template: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: VcloneError | None = None
    form_action: str = ""


@dataclass(frozen=True, slots=True)
class Go:
    """Answer with "see there". `session` signs the browser in; `signs_out` ends what it had.

    `attempt` binds a try to sign in with a provider to this browser, an empty one ends it.
    """

    path: str
    session: str | None = None
    signs_out: bool = False
    attempt: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One address of the dashboard. `needs` is a permission or `open`, as for the API's routes."""

    method: str
    path: str
    view: Callable[..., Coroutine[Any, Any, Show | Go]]
    needs: str
    action: str = ""  # what the audit log calls it; empty: the view's name
    is_audited: bool | None = None  # None: by its method
    rate: str | None = None  # how often it may be asked for: a class of the API's, None: by its method and need
