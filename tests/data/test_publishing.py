"""Publishing, promoting and rolling back: aliases move in one transaction, and every move has its place in one row."""

from __future__ import annotations

from vclone_core.actions import deployments
from vclone_core.models import State

from .conftest import World


async def test_a_finished_build_takes_its_hosts(world: World) -> None:
    project = await world.project("shop")
    deployment = await world.build(project)
    assert deployment.state is State.READY
    site = await deployments.resolve_host(world.platform, "shop.localhost")
    assert site is not None
    assert site.deployment_id == deployment.id
