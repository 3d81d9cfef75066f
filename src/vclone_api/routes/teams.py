"""Teams, invitations, API tokens and the audit log. `<team>` is the acting team: see auth.py."""

from __future__ import annotations

from typing import Final

from .. import people_bodies as bodies
from ..bodies import PagedQuery
from ..guard import Route
from ..views import people_shapes, shapes, teams

SEE: Final = "see the team"
CHANGE: Final = "change the team"

ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/api/teams", teams.list_teams, "see one's account", people_shapes.TeamList, query=PagedQuery),
    Route("POST", "/api/teams", teams.create_team, "create a team", shapes.TeamShape, status=201, body=bodies.NewTeam),
    Route("GET", "/api/teams/<team>", teams.show_team, "see one's account", people_shapes.MyTeam),
    Route("PATCH", "/api/teams/<team>", teams.change_team, CHANGE, shapes.TeamShape, body=bodies.TeamChange),
    Route("DELETE", "/api/teams/<team>", teams.delete_team, "delete the team", status=204),
    Route("GET", "/api/teams/<team>/members", teams.list_members, SEE, people_shapes.MemberList, query=PagedQuery),
    Route(
        "PATCH",
        "/api/teams/<team>/members/<user>",
        teams.change_member,
        CHANGE,
        people_shapes.MemberShape,
        body=bodies.MemberChange,
    ),
    Route("DELETE", "/api/teams/<team>/members/<user>", teams.remove_member, "leave the team", status=204),
    Route(
        "GET",
        "/api/teams/<team>/invitations",
        teams.list_invitations,
        SEE,
        people_shapes.InvitationList,
        query=PagedQuery,
    ),
    Route(
        "POST",
        "/api/teams/<team>/invitations",
        teams.invite,
        CHANGE,
        people_shapes.NewInvitationShape,
        status=201,
        body=bodies.NewInvitation,
    ),
    Route(
        "DELETE",
        "/api/teams/<team>/invitations/<invitation>",
        teams.revoke_invitation,
        CHANGE,
        status=204,
    ),
    Route(
        "POST",
        "/api/invitations/accept",
        teams.accept_invitation,
        "change one's account",
        shapes.TeamShape,
        body=bodies.Acceptance,
    ),
    Route(
        "GET",
        "/api/tokens",
        teams.list_tokens,
        "see one's account",
        people_shapes.TokenList,
        query=PagedQuery,
    ),
    Route(
        "POST",
        "/api/tokens",
        teams.create_token,
        "make tokens",
        people_shapes.NewTokenShape,
        status=201,
        body=bodies.NewTokenBody,
    ),
    Route("DELETE", "/api/tokens/<token>", teams.revoke_token, "make tokens", status=204),
    Route("GET", "/api/audit", teams.list_audit, "see the audit log", people_shapes.AuditList, query=bodies.AuditQuery),
    Route(
        "GET",
        "/api/audit/export",
        teams.export_audit,
        "see the audit log",
        query=bodies.ExportQuery,
        media=("application/jsonl", "text/csv"),
    ),
)
