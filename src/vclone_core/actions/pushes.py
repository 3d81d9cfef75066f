"""Pushes and deleted branches: a deployment, or why there is none. One delivery of a connection at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from vclone_core.actions.deployments import request_deployment
from vclone_core.actions.platform import Platform
from vclone_core.actions.publishing import retire_branch, show_on_branch
from vclone_core.errors import Invalid, StaleAttempt
from vclone_core.models import Actor, BranchDeleted, Deployment, Project, Push, Source, State, Target, Trigger
from vclone_core.rules.clones import check_git_ref, check_source
from vclone_core.rules.githosts import Newest, Outcome, PastPush, is_late, is_there
from vclone_core.stores.postgres import Transaction


@dataclass(frozen=True, slots=True)
class Handled:
    """What came of a delivery. `is_written`: its row says so already, in the deployment's own transaction."""

    outcome: Outcome
    detail: str
    deployment_id: str | None = None
    is_written: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One delivery that is being handled, for one project."""

    platform: Platform
    project: Project
    connection_id: str
    number: int
    attempt: int

    @property
    def actor(self) -> Actor:
        """Who acts: whoever pushed was let in by the git host, and may do what a developer does."""
        return Actor(user_id="", team_id=self.project.team_id, role="developer")


async def handle_push(job: Job, push: Push) -> Handled:
    """Deploy a push, unless something newer of its branch arrived before it or its commit is deployed already."""
    if problem := check_git_ref(push.ref):
        raise Invalid(what=problem)
    if await is_outrun(job, push.ref, before=push.before, sha=push.sha):
        return Handled(Outcome.OLDER, f"a newer push of {push.ref} was here before it")
    newest = await find_newest(job, push.ref)
    if newest is not None and is_there(push.sha, newest):
        await show_again(job, newest)
        return Handled(Outcome.KNOWN, f"{push.sha[:12]} is deployed already", newest.deployment_id)
    source = Source(
        "git", url=job.project.git_url, ref=push.ref, sha=push.sha, message=push.message, author=push.author or None
    )
    return await deploy(job, source)


async def handle_deletion(job: Job, deleted: BranchDeleted) -> Handled:
    """Take the preview of a deleted branch away. What production shows stays, whatever its branch was called."""
    if deleted.before and await is_outrun(job, deleted.ref, before=deleted.before, sha=""):
        return Handled(Outcome.OLDER, f"{deleted.ref} was made again before this arrived")
    if deleted.ref == job.project.settings.production_branch:
        return Handled(Outcome.NOTED, "production stays as it is when its branch is deleted")
    was_shown = await retire_branch(job.platform, job.project, deleted.ref, reason="branch deleted")
    return Handled(Outcome.REMOVED, f"the preview of {deleted.ref} is gone" if was_shown else "it had no preview")


async def deploy(job: Job, source: Source, *, target: Target | None = None) -> Handled:
    """Queue a deployment and end the delivery in one transaction. Raises `Invalid` for what can't be cloned."""
    is_insecure_allowed = job.platform.settings.git_allow_insecure
    if problem := check_source(source, is_insecure_allowed=is_insecure_allowed):
        raise Invalid(what=problem)
    detail = f"deploys {(source.sha or '')[:12]} of {source.ref}"
    deployment = await request_deployment(
        job.platform,
        job.actor,
        job.project,
        source,
        target=target,
        trigger=Trigger.PUSH,
        beside=_ending(job, detail),
    )
    return Handled(Outcome.DEPLOYED, detail, deployment.id, is_written=True)


def _ending(job: Job, detail: str) -> Callable[[Transaction, Deployment], Awaitable[None]]:
    async def end(tx: Transaction, deployment: Deployment) -> None:
        values = ("done", Outcome.DEPLOYED.value, detail, deployment.id)
        if await tx.fetch_one("finish_delivery", job.number, job.attempt, *values) is None:
            # Another process took it up, since this one was silent for too long: the deployment is that one's to make.
            raise StaleAttempt()

    return end


async def is_outrun(job: Job, ref: str, *, before: str, sha: str) -> bool:
    """Say whether something newer of a branch has arrived already."""
    rows = await job.platform.db.fetch("list_past_pushes", job.connection_id, ref, job.number)
    if any(row["number"] > job.number for row in rows):
        return True  # it is handled once more, and others have come since
    return is_late(before=before, sha=sha, past=[PastPush(row["before"], row["sha"]) for row in rows])


async def find_newest(job: Job, ref: str) -> Newest | None:
    """Return the newest deployment of a ref."""
    row = await job.platform.db.fetch_one("fetch_newest_of_ref", job.project.id, ref)
    return None if row is None else Newest(row["id"], row["sha"], State(row["state"]))


async def show_again(job: Job, newest: Newest) -> None:
    """Give a deployment its branch's host back, which went with a closed pull request or a deleted branch."""
    if newest.state is State.READY:
        await show_on_branch(job.platform, job.project, newest.deployment_id)
