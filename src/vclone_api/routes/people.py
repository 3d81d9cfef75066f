"""Accounts and sessions."""

from __future__ import annotations

from typing import Final

from .. import people_bodies as bodies
from ..bodies import PagedQuery
from ..guard import OPEN, Route
from ..views import people, people_shapes, shapes

SEE: Final = "see one's account"
CHANGE: Final = "change one's account"

ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/api/auth/ways", people.list_ways, OPEN, people_shapes.Ways),
    Route("POST", "/api/auth/signup", people.sign_up, OPEN, people_shapes.SignedIn, status=201, body=bodies.SignUp),
    Route("POST", "/api/auth/login", people.sign_in, OPEN, people_shapes.SignedIn, body=bodies.SignIn),
    Route(
        "POST",
        "/api/auth/refresh",
        people.refresh,
        OPEN,
        people_shapes.TokensShape,
        body=bodies.RefreshBody,
        is_audited=False,  # the session goes on
    ),
    Route("POST", "/api/auth/logout", people.sign_out, SEE, status=204),
    Route("GET", "/api/auth/me", people.show_account, SEE, shapes.Me),
    Route("PATCH", "/api/auth/me", people.change_account, CHANGE, shapes.UserShape, body=bodies.AccountChange),
    Route("POST", "/api/auth/password", people.change_password, CHANGE, status=204, body=bodies.PasswordChange),
    Route("GET", "/api/auth/sessions", people.list_sessions, SEE, people_shapes.SessionList, query=PagedQuery),
    Route("DELETE", "/api/auth/sessions/<session>", people.end_session, CHANGE, status=204),
    Route("POST", "/api/auth/links", people.make_link, CHANGE, people_shapes.LinkShape, status=201),
    Route(
        "POST",
        "/api/auth/device",
        people.begin_device_login,
        OPEN,
        people_shapes.DeviceShape,
        body=bodies.DeviceStart,
        is_audited=False,  # nobody is known yet; the confirmation is
    ),
    Route(
        "POST",
        "/api/auth/device/token",
        people.poll_device_login,
        OPEN,
        people_shapes.DeviceState,
        body=bodies.DevicePoll,
        is_audited=False,
    ),
)
