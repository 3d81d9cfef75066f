"""What a page's view gets and what it gives back; `vclone_api.app` turns the one into the other and into HTTP."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from vclone_core.actions.platform import Platform
from vclone_core.errors import Unauthorised
from vclone_core.models import Actor


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

    @property
    def actor(self) -> Actor:
        """The one who looks; raises `Unauthorised` on an open page that nobody has signed in to."""
        if self.signed_in is None:
            raise Unauthorised()
        return self.signed_in


@dataclass(frozen=True, slots=True)
class Show:
    """Answer with a template."""

    template: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Go:
    """Answer with "see there". `session` signs the browser in; `signs_out` ends what it had."""

    path: str
    session: str | None = None
    signs_out: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """One address of the dashboard. `needs` is a permission or `open`, as for the API's routes."""

    method: str
    path: str
    view: Callable[..., Coroutine[Any, Any, Show | Go]]
    needs: str
