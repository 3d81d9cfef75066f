"""A project that follows a repository, and what its host sends and hears."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.host_server import TOKEN, HostServer
from tests.payloads import GitHubRepository, Request

from vclone_core.actions import deliveries, deployments, gitconnections, gitreports
from vclone_core.actions.gitreports import HostDesk
from vclone_core.actions.projects import update_project
from vclone_core.models import Deployment, FileEntry, Manifest, PastDelivery, Project
from vclone_core.settings import Settings

if TYPE_CHECKING:
    from .conftest import Api

GIT_URL = "http://github.localhost:8000/acme/shop.git"


@dataclass
class Shop:
    """A project that follows acme/shop, and its repository's webhook."""

    api: Api
    project: Project
    repository: GitHubRepository
    path: str
    host: HostServer

    async def send(self, request: Request, path: str | None = None) -> tuple[int, Any]:
        response = await self.api.app.test_client().open(
            path or self.path, method="POST", headers=list(request.headers), data=request.body
        )
        return response.status_code, await response.get_json(force=True)

    async def settle(self) -> None:
        """Do everything that waits."""
        while await deliveries.handle_next(HostDesk(self.api.platform)):
            pass

    async def tell(self) -> None:
        """Tell the host everything that waits to be told."""
        desk = HostDesk(self.api.platform)
        while await gitreports.tell_next(desk):
            pass
        await desk.close()

    async def deliver(self, request: Request) -> PastDelivery:
        """Send a request and return what came of it."""
        status, answer = await self.send(request)
        assert status == 202, answer
        await self.settle()
        return next(one for one in await self.deliveries() if one.delivery_id == answer["delivery"])

    async def deliveries(self) -> list[PastDelivery]:
        return await gitconnections.list_deliveries(self.api.platform, self.api.owner, self.project, limit=100)

    async def reports(self) -> list[dict[str, Any]]:
        return (await self.api.ask("GET", f"/api/projects/{self.project.name}/git/reports"))[1]["items"]

    async def deployments(self) -> list[Deployment]:
        """The project's deployments, oldest first."""
        found = await deployments.list_deployments(self.api.platform, self.api.owner, project=self.project, limit=100)
        return found[::-1]

    async def publish(self, deployment_id: str) -> Deployment:
        """Build and publish what is next in the queue, which has to be this deployment."""
        claim = await self.api.claim()
        assert claim.deployment.id == deployment_id
        files = {"/index.html": FileEntry(sha256="0" * 64, size=5, type="text/html")}
        manifest = Manifest(deployment_id, self.project.id, "static", files, routes=())
        return (await deployments.publish(self.api.platform, claim, manifest)).deployment

    async def hosts(self) -> list[str]:
        found = await deployments.list_aliases(self.api.platform, self.api.owner, self.project)
        return [one.host.removesuffix(".localhost") for one in found if one.kind.value == "branch"]


async def connected(api: Api, host: HostServer, *, name: str = "acme/shop", token: str | None = TOKEN) -> Shop:
    # What waits is done when a test says so.
    await api.app.extensions["vclone_live"].desk.stop()
    url = GIT_URL.replace("acme/shop", name)
    project = await update_project(api.platform, api.owner, await api.project(), git_url=url)
    body = {"host": "github", "api_url": host.url, "token": token}
    status, made = await api.ask("PUT", f"/api/projects/{project.name}/git", json=body)
    assert status == 200, made
    path = made["webhook_url"].partition("9000")[2]
    assert path == f"/api/webhooks/github?connection={made['id']}"
    return Shop(api, project, GitHubRepository(name, made["secret"]), path, host)


def following(settings: Settings) -> Settings:
    """Settings of a platform that may speak to this machine's own servers."""
    return settings.model_copy(update={"git_allow_insecure": True, "outbound_allow": "127.0.0.0/8"})
