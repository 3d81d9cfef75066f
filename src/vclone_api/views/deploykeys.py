"""A project's deploy key: made, shown without its private half, told which hosts to believe, and forgotten."""

from __future__ import annotations

from vclone_core.actions import deploykeys, projects

from ..bodies import HostKeys, NewDeployKey
from ..guard import Call
from .shapes import DeployKeyList, DeployKeyShape, shape_deploy_key


async def show_deploy_key(call: Call, project: str) -> DeployKeyList:
    """The project's deploy key, without its private half; no item where it has none."""
    found = await projects.find_project(call.platform, call.actor, project)
    key = await deploykeys.show_key(call.platform, call.actor, found)
    return {"items": [] if key is None else [shape_deploy_key(key)]}


async def create_deploy_key(call: Call, project: str) -> DeployKeyShape:
    """Make a key pair, or keep a given one, in place of an earlier one; answers the public half."""
    body: NewDeployKey = call.body
    found = await projects.find_project(call.platform, call.actor, project)
    made = await deploykeys.create_key(
        call.platform, call.actor, found, private_key=body.private_key, known_hosts=body.known_hosts
    )
    return shape_deploy_key(made)


async def trust_hosts(call: Call, project: str) -> DeployKeyShape:
    """Believe these host keys and no others; with an empty text the next host that is met."""
    body: HostKeys = call.body
    found = await projects.find_project(call.platform, call.actor, project)
    return shape_deploy_key(await deploykeys.trust_hosts(call.platform, call.actor, found, body.known_hosts))


async def delete_deploy_key(call: Call, project: str) -> None:
    """Forget the project's deploy key."""
    found = await projects.find_project(call.platform, call.actor, project)
    await deploykeys.delete_key(call.platform, call.actor, found)
