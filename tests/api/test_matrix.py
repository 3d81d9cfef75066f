"""Every route as everybody, compared with what is written here. A route without a row fails, as does a row too many."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from vclone_dashboard.pages import PAGES

from vclone_api.guard import Route
from vclone_api.routes import ROUTES
from vclone_core.actions import (
    accounts,
    aliases,
    deploykeys,
    domains,
    gitconnections,
    hooks,
    invitations,
    owners,
    projects,
    protection,
    sessions,
    tokens,
    variables,
    webhooks,
)
from vclone_core.models import Actor, Covers, Deployment, Project
from vclone_core.rules.access import PERMISSIONS, SCOPES
from vclone_core.rules.outgoing import EVENTS
from vclone_core.rules.variables import NewVariable

from .conftest import Api, add_caller
from .matrix_bodies import BODIES

# Callers: nobody; the owner of another team; viewer, developer, admin and owner of this one; a developer restricted to
# the project asked for; the owner by tokens of each scope. Answers: `-` 401 sign in first, `0` 404 there is no such
# thing, `x` 403 not allowed, `+` let in.
TOKENS = tuple(f"token: {scope}" for scope in SCOPES)
CALLERS = ("nobody", "stranger", "viewer", "developer", "admin", "owner", "restricted", *TOKENS)
MATRIX = {
    "GET /api/health": "+++++++++++",
    "GET /api/ready": "+++++++++++",
    "GET /api/openapi.json": "+++++++++++",
    "GET /api/docs": "+++++++++++",
    "GET /api/me": "-++++++++++",
    "GET /api/projects": "-++++++++++",
    "POST /api/projects": "-+x+++xx+++",
    "GET /api/projects/<project>": "-0+++++++++",
    "PATCH /api/projects/<project>": "-0x++++xx++",
    "DELETE /api/projects/<project>": "-0xx++xxx++",
    "POST /api/projects/<project>/blobs/missing": "-0x++++x+++",
    "POST /api/projects/<project>/blobs": "-0x++++x+++",
    "POST /api/projects/<project>/rollback": "-0x++++x+++",
    "POST /api/projects/<project>/archives": "-0x++++x+++",
    "GET /api/projects/<project>/hooks": "-0+++++++++",
    "POST /api/projects/<project>/hooks": "-0x++++xx++",
    "DELETE /api/projects/<project>/hooks/<hook>": "-0x++++xx++",
    "GET /api/projects/<project>/deploy-key": "-0+++++++++",
    "POST /api/projects/<project>/deploy-key": "-0x++++xx++",
    "PUT /api/projects/<project>/deploy-key/hosts": "-0x++++xx++",
    "DELETE /api/projects/<project>/deploy-key": "-0x++++xx++",
    "GET /api/projects/<project>/protection": "-0+++++++++",
    "PATCH /api/projects/<project>/protection": "-0x++++xx++",
    "PUT /api/projects/<project>/protection/password": "-0x++++xx++",
    "DELETE /api/projects/<project>/protection/password": "-0x++++xx++",
    "POST /api/projects/<project>/protection/revoke": "-0x++++xx++",
    "POST /api/projects/<project>/protection/bypass": "-0x++++xx++",
    "DELETE /api/projects/<project>/protection/bypass": "-0x++++xx++",
    "GET /api/projects/<project>/protection/links": "-0+++++++++",
    "POST /api/projects/<project>/protection/links": "-0x++++x+++",
    "DELETE /api/projects/<project>/protection/links/<link>": "-0x++++x+++",
    "GET /api/git-tokens": "-+x+++xxx++",
    "PUT /api/git-tokens/<host>": "-+xx++xxxx+",
    "DELETE /api/git-tokens/<host>": "-+xx+0xxxx0",  # the first of a team that asks finds what was put there
    "GET /api/env/<project>": "-0+++++++++",
    "POST /api/env/<project>": "-0x++++xx++",
    "GET /api/env/<project>/values": "-0x++++xx++",
    "PATCH /api/env/<project>/<variable>": "-0x++++xx++",
    "DELETE /api/env/<project>/<variable>": "-0x++++xx++",
    "GET /api/domains": "-0+++++++++",
    "GET /api/domains/projects/<project>": "-0+++++++++",
    "POST /api/domains/projects/<project>": "-0x++++xx++",
    "GET /api/domains/resolve/<host>": "-0+++++++++",
    "GET /api/domains/<domain>": "-0+++++++++",
    "PATCH /api/domains/<domain>": "-0x++++xx++",
    "DELETE /api/domains/<domain>": "-0x++++xx++",
    "POST /api/domains/<domain>/verify": "-0x++++xx++",
    "POST /api/hooks/<token>": "00000000000",  # a token of another kind
    "POST /api/webhooks/<host>": "00000000000",  # no plugin knows this host
    "GET /api/projects/<project>/git": "-0+++++++++",
    "PUT /api/projects/<project>/git": "-0x++++xx++",
    "DELETE /api/projects/<project>/git": "-0x++++xx++",
    "GET /api/projects/<project>/git/deliveries": "-0+++++++++",
    "POST /api/projects/<project>/git/deliveries/<delivery>/repeat": "-0x++++xx++",
    "GET /api/projects/<project>/git/reports": "-0+++++++++",
    "POST /api/projects/<project>/git/reports/repeat": "-0x++++xx++",
    "GET /api/projects/<project>/git/pull-requests": "-0+++++++++",
    "POST /api/projects/<project>/git/pull-requests/<number>/approve": "-0x++++x+++",
    "GET /api/deployments": "-0+++++++++",
    "POST /api/deployments": "-0x++++x+++",
    "GET /api/deployments/<deployment>": "-0+++++++++",
    "POST /api/deployments/<deployment>/cancel": "-0x++++x+++",
    "POST /api/deployments/<deployment>/redeploy": "-0x++++x+++",
    "POST /api/deployments/<deployment>/promote": "-0x++++x+++",
    "GET /api/deployments/<deployment>/logs": "-0+++++++++",
    "GET /api/deployments/<deployment>/files": "-0+++++++++",
    "GET /api/deployments/<deployment>/diff": "-0+++++++++",
    "GET /api/deployments/<deployment>/path": "-0+++++++++",
    "POST /api/deployments/<deployment>/pin": "-0x++++x+++",
    "POST /api/deployments/<deployment>/unpin": "-0x++++x+++",
    "GET /api/projects/<project>/retention": "-0+++++++++",
    "PATCH /api/projects/<project>/retention": "-0x++++xx++",
    "POST /api/projects/<project>/collect": "-0xx++xxx++",
    "GET /api/aliases": "-0+++++++++",
    "PUT /api/aliases/<host>": "-0x++++x+++",
    "DELETE /api/aliases/<host>": "-0x++++x+++",
    "GET /internal/v1/sites/<host>": "-----------",
    "GET /internal/v1/events": "-----------",
    "POST /internal/v1/edges/<edge_id>/acks": "-----------",
    "GET /api/auth/ways": "+++++++++++",
    "POST /api/auth/signup": "+++++++++++",
    "POST /api/auth/login": "+++++++++++",
    "POST /api/auth/refresh": "+++++++++++",
    "POST /api/auth/logout": "-++++++++++",
    "GET /api/auth/me": "-++++++++++",
    "PATCH /api/auth/me": "-++++++xxxx",
    "POST /api/auth/password": "-++++++xxxx",
    "GET /api/auth/sessions": "-++++++++++",
    "DELETE /api/auth/sessions/<session>": "-0+++++xxxx",
    "POST /api/auth/links": "-++++++xxxx",
    "POST /api/auth/device": "+++++++++++",
    "POST /api/auth/device/token": "+++++++++++",
    "GET /api/teams": "-++++++++++",
    "POST /api/teams": "-++++++xxxx",
    "GET /api/teams/<team>": "-0+++++++++",
    "PATCH /api/teams/<team>": "-0xx++xxxx+",
    "DELETE /api/teams/<team>": "-0xxx+xxxx+",
    "GET /api/teams/<team>/members": "-0++++x++++",
    "PATCH /api/teams/<team>/members/<user>": "-0xx++xxxx+",
    "DELETE /api/teams/<team>/members/<user>": "-0xx++xxxx+",
    "GET /api/teams/<team>/invitations": "-0++++x++++",
    "POST /api/teams/<team>/invitations": "-0xx++xxxx+",
    "DELETE /api/teams/<team>/invitations/<invitation>": "-0xx++xxxx+",
    "POST /api/invitations/accept": "-++++++xxxx",
    "GET /api/tokens": "-++++++++++",
    "POST /api/tokens": "-++++++xxx+",
    "DELETE /api/tokens/<token>": "-0+++++xxx+",
    "GET /api/audit": "-+xx++xxxx+",
    "GET /api/audit/export": "-+xx++xxxx+",
    "GET /api/events": "-++++++++++",
    "GET /api/teams/<team>/webhooks": "-0x+++xxx++",
    "POST /api/teams/<team>/webhooks": "-0xx++xxx++",
    "GET /api/teams/<team>/webhooks/<webhook>": "-0x+++xxx++",
    "PATCH /api/teams/<team>/webhooks/<webhook>": "-0xx++xxx++",
    "DELETE /api/teams/<team>/webhooks/<webhook>": "-0xx++xxx++",
    "POST /api/teams/<team>/webhooks/<webhook>/ping": "-0xx++xxx++",
    "GET /api/teams/<team>/webhooks/<webhook>/deliveries": "-0x+++xxx++",
    "POST /api/teams/<team>/webhooks/<webhook>/deliveries/<delivery>/redeliver": "-0xx++xxx++",
}


def test_the_matrix_has_every_route_and_no_other() -> None:
    assert set(MATRIX) == {f"{route.method} {route.path}" for route in ROUTES}


def test_every_permission_guards_something() -> None:
    assert set(PERMISSIONS) <= {entry.needs for entry in (*ROUTES, *PAGES)}


@dataclass
class World:
    """What the routes are asked about, made anew where asking would use it up."""

    api: Api
    actors: dict[str, Actor]
    project: Project
    deployment: Deployment
    other: Actor  # the owner of a third team
    webhook_id: str = ""

    async def fresh_member(self, _caller: str) -> str:
        token = await add_caller(self.api.platform, role="viewer", team_id=self.api.owner.team_id)
        return (await accounts.actor_from_token(self.api.platform, token)).user_id

    async def fresh_invitation(self, _caller: str) -> str:
        email = f"{secrets.token_hex(4)}@example.com"
        made = await invitations.invite(self.api.platform, self.api.owner, email=email, role="viewer")
        return made.invitation.id

    def whose(self, caller: str) -> Actor:
        """Whose thing is asked for: one's own, but a stranger asks for the owner's."""
        return self.actors.get(caller, self.api.owner) if caller != "stranger" else self.api.owner

    async def fresh_token(self, caller: str) -> str:
        of, made = self.whose(caller), f"tok_{secrets.token_hex(8)}"
        await owners.insert_token(self.api.platform.db, of.user_id, of.team_id, name="x", token_id=made)
        return made

    async def fresh_session(self, caller: str) -> str:
        made = await sessions.open_api_session(self.api.platform, self.whose(caller).user_id, user_agent="", address="")
        return made.session_id

    async def fresh_refresh(self, _caller: str) -> dict[str, Any]:
        made = await sessions.open_api_session(self.api.platform, self.api.owner.user_id, user_agent="", address="")
        return {"refresh_token": made.refresh}

    async def invitation_for(self, caller: str) -> dict[str, Any]:
        actor = self.actors.get(caller, self.api.owner)
        user, _ = await accounts.find_user(self.api.platform, actor)
        await self.api.platform.db.execute("delete_member", self.other.team_id, actor.user_id)
        made = await invitations.invite(self.api.platform, self.other, email=user.email, role="viewer")
        return {"token": made.token}

    async def fresh_connection(self) -> str:
        """Have the project follow a repository, whatever it followed before; return the connection's id."""
        made = await gitconnections.connect(self.api.platform, self.api.owner, self.project, host="github")
        return made.connection.id

    async def fresh_delivery(self, _caller: str) -> str:
        """A delivery of the webhook that was made for the same path, or else of the project's git host."""
        if self.webhook_id:
            webhook_id, self.webhook_id = self.webhook_id, ""
            return str((await webhooks.send_ping(self.api.platform, self.api.owner, webhook_id)).id)
        connection_id = await self.fresh_connection()
        values = ("github", secrets.token_hex(8), "ping", self.project.id, secrets.token_hex(8), {"kind": "ping"}, None)
        row = await self.api.platform.db.fetch_one("insert_delivery", connection_id, *values, False)
        number = 0 if row is None else row["number"]
        await self.api.platform.db.fetch_one("finish_delivery", number, 0, "done", "noted", "", None)
        return str(number)

    async def fresh_pull_request(self, _caller: str) -> str:
        await self.fresh_connection()
        number, sha, url = secrets.randbelow(10**6), "a" * 40, "https://git.example/eve/x.git"
        values = (True, "", "", "eve/x", url, "main", sha, True, f"pull/{number}", None)
        assert await self.api.platform.db.fetch_one("save_pull_request", self.project.id, number, *values) is not None
        return str(number)

    async def fresh_hook(self, _caller: str) -> str:
        hook, _ = await hooks.create_hook(self.api.platform, self.api.owner, self.project, name="cms")
        return hook.id

    async def fresh_deploy_key(self, _caller: str) -> dict[str, Any]:
        await deploykeys.create_key(self.api.platform, self.api.owner, self.project)
        return {"known_hosts": ""}

    async def fresh_link(self, _caller: str) -> str:
        await protection.set_covers(self.api.platform, self.api.owner, self.project, Covers.PREVIEWS)
        made, _ = await protection.create_link(self.api.platform, self.api.owner, self.project, of=self.deployment.id)
        return made.id

    async def fresh_variable(self, _caller: str) -> str:
        asked = NewVariable(f"K_{secrets.token_hex(8)}", "v", ("preview",))
        (made,) = await variables.save_variables(self.api.platform, self.api.owner, self.project, [asked])
        return made.id

    async def fresh_domain(self, _caller: str) -> str:
        host = f"{secrets.token_hex(4)}.example"
        return (await domains.add_domain(self.api.platform, self.api.owner, self.project, host)).id

    async def fresh_webhook(self, _caller: str) -> str:
        url = "https://hooks.example/x"
        for old in await webhooks.list_webhooks(self.api.platform, self.api.owner):
            await webhooks.delete_webhook(self.api.platform, self.api.owner, old.id)
        hook, _ = await webhooks.create_webhook(self.api.platform, self.api.owner, url=url, events=EVENTS[:1])
        self.webhook_id = hook.id
        return hook.id

    async def doomed_project(self, _caller: str) -> str:
        return (await self.api.project()).name


FRESH_BODIES: dict[str, Callable[[World, str], Awaitable[dict[str, Any]]]] = {
    "POST /api/auth/refresh": World.fresh_refresh,
    "PUT /api/projects/<project>/deploy-key/hosts": World.fresh_deploy_key,
    "POST /api/invitations/accept": World.invitation_for,
}
FRESH: dict[str, Callable[[World, str], Awaitable[str]]] = {
    "<user>": World.fresh_member,
    "<invitation>": World.fresh_invitation,
    "<token>": World.fresh_token,
    "<session>": World.fresh_session,
    "<hook>": World.fresh_hook,
    "<variable>": World.fresh_variable,
    "<number>": World.fresh_pull_request,
    "<domain>": World.fresh_domain,
    "<webhook>": World.fresh_webhook,
    "<delivery>": World.fresh_delivery,
    "<link>": World.fresh_link,
}
QUERIES: dict[str, Callable[[World], dict[str, str]]] = {
    "GET /api/deployments/<deployment>/diff": lambda w: {"to": w.deployment.id},
    "GET /api/deployments/<deployment>/path": lambda w: {"to": w.deployment.id},
    "GET /api/deployments": lambda w: {"project": w.project.name},
    "GET /api/domains": lambda w: {"project": w.project.name},
    "GET /api/aliases": lambda w: {"project": w.project.id},
}


async def ask(world: World, route: Route, caller: str) -> str:
    """Call a route as somebody; return the letter of the answer."""
    name = f"{route.method} {route.path}"
    fixed = {
        "<project>": world.project.name,
        "<deployment>": world.deployment.id,
        "<team>": world.api.owner.team_id,
        "<host>": "x.localhost",
        "<edge_id>": "edge-1",
    }
    if name.endswith(" /api/projects/<project>/git") or "/git/" in name:
        await world.fresh_connection()
    if name == "GET /api/domains/resolve/<host>":
        fixed["<host>"] = f"{world.project.name}.localhost"
    if name == "DELETE /api/aliases/<host>":
        await aliases.set_alias(world.api.platform, world.api.owner, fixed["<host>"], world.deployment.id)
    if name == "DELETE /api/projects/<project>":
        fixed["<project>"] = await world.doomed_project(caller)
    path = route.path
    world.webhook_id = ""
    for part, make in FRESH.items():
        if part in path:
            fixed[part] = await make(world, caller)
    for part, text in fixed.items():
        path = path.replace(part, text)
    more: dict[str, Any] = {"query_string": QUERIES[name](world) if name in QUERIES else {}}
    if name in BODIES:
        more["json"] = BODIES[name](world)
    elif name in FRESH_BODIES:
        more["json"] = await FRESH_BODIES[name](world, caller)
    elif route.takes:
        more |= {"data": b"", "headers": {"content-type": route.takes}}
    signed = caller if caller != "nobody" else None
    if route.path == "/api/auth/logout" and signed:
        actor = world.actors[caller]  # a token of its own: this one is revoked
        world.api.callers["leaving"] = await owners.insert_token(
            world.api.platform.db, actor.user_id, actor.team_id, name="x", scopes=actor.scopes or ()
        )
        signed = "leaving"
    status, answer = await world.api.ask(route.method, path, signed, **more)
    assert status < 500, (name, caller, answer)
    # By the code: an open door may still say that the password is wrong, or that nobody may sign up.
    code = answer.get("code") if isinstance(answer, dict) else None
    return {"unauthorised": "-", "forbidden": "x", "not_found": "0"}.get(str(code), "+")


@pytest.fixture
async def world(api: Api) -> World:
    platform, team = api.platform, api.owner.team_id
    project = await projects.update_project(
        platform, api.owner, await api.project(), git_url="https://git.example/a/x.git"
    )
    deployment = await api.live(project)
    for role in ("developer", "admin", "restricted"):
        role_held = "developer" if role == "restricted" else role
        api.callers[role] = await add_caller(platform, role=role_held, team_id=team)
    restricted = await accounts.actor_from_token(platform, api.callers["restricted"])
    await platform.db.execute("update_member", team, restricted.user_id, "developer", True)
    await platform.db.execute("insert_member_projects", team, restricted.user_id, [project.id])
    for scope in SCOPES:
        made = await tokens.make_token(platform, api.owner, name=scope, scopes=[scope], expires_days=1)
        api.callers[f"token: {scope}"] = made.text
    actors = {
        name: await accounts.actor_from_token(platform, api.callers[name]) for name in CALLERS if name != "nobody"
    }
    other = await accounts.actor_from_token(platform, await add_caller(platform, role="owner"))
    return World(api, actors, project, deployment, other)


@pytest.mark.timeout(300)
async def test_who_may_call_what(world: World) -> None:
    found = {
        f"{route.method} {route.path}": "".join([await ask(world, route, caller) for caller in CALLERS])
        for route in ROUTES
    }
    assert {name: (row, MATRIX[name]) for name, row in found.items() if row != MATRIX[name]} == {}


async def test_a_restricted_member_finds_no_other_project(world: World) -> None:
    api = world.api
    hidden = await api.project()
    deployment = await api.live(hidden)
    domain = await domains.add_domain(api.platform, api.owner, hidden, "hidden.example")
    refused = [
        ("GET", f"/api/projects/{hidden.name}", None),
        ("PUT", "/api/aliases/hidden-one", {"deployment": deployment.id}),
        ("GET", f"/api/env/{hidden.name}", None),
        ("GET", f"/api/env/{hidden.name}/values", None),
        ("GET", f"/api/projects/{hidden.id}/protection", None),
        ("PATCH", f"/api/projects/{hidden.id}/protection", {"covers": "off"}),
        ("POST", f"/api/projects/{hidden.id}/protection/links", {"of": "main"}),
        ("POST", f"/api/env/{hidden.name}", {"variables": [{"key": "K", "value": "v"}]}),
        ("GET", f"/api/projects/{hidden.id}", None),
        ("PATCH", f"/api/projects/{hidden.id}", {"is_publishing_paused": True}),
        ("POST", f"/api/projects/{hidden.id}/rollback", {}),
        ("GET", f"/api/deployments?project={hidden.id}", None),
        ("GET", f"/api/deployments/{deployment.id}", None),
        ("GET", f"/api/deployments/{hidden.name}.localhost", None),
        ("POST", f"/api/deployments/{deployment.id}/promote", {}),
        ("POST", f"/api/deployments/{deployment.id}/redeploy", {}),
        ("GET", f"/api/deployments/{deployment.id}/logs", None),
        ("GET", f"/api/deployments/{deployment.id}/files", None),
        ("GET", f"/api/aliases?project={hidden.id}", None),
        ("GET", f"/api/domains/projects/{hidden.id}", None),
        ("GET", f"/api/domains/resolve/{hidden.name}.localhost", None),
        ("GET", f"/api/domains/{domain.id}", None),
        ("DELETE", f"/api/domains/{domain.host}", None),
        ("POST", f"/api/domains/projects/{hidden.id}", {"host": "shop.example"}),
        ("POST", "/api/deployments", {"project": hidden.id, "source": {"kind": "git", "url": "https://a.example/x"}}),
    ]
    for method, path, body in refused:
        status, _ = await api.ask(method, path, "restricted", **({} if body is None else {"json": body}))
        assert status == 404, (method, path)
    listed = (await api.ask("GET", "/api/projects", "restricted"))[1]["items"]
    assert [one["id"] for one in listed] == [world.project.id]
    assert (await api.ask("GET", "/api/domains", "restricted"))[1]["items"] == []
    shown = (await api.ask("GET", "/api/deployments", "restricted"))[1]["items"]
    assert {one["project_id"] for one in shown} == {world.project.id}
