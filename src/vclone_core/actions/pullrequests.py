"""Pull requests: a preview while one is open, gone when it is closed; a fork's commits wait for a member's approval.

What comes from another repository is built from there, without the project's variables and tokens (`Source.fork`).
"""

from __future__ import annotations

from datetime import UTC, datetime

from vclone_core.actions.deployments import find_deployment, request_deployment
from vclone_core.actions.gitconnections import pull_request_from
from vclone_core.actions.platform import Platform
from vclone_core.actions.publishing import retire_branch
from vclone_core.actions.pushes import Handled, Job, deploy, find_newest, is_outrun, show_again
from vclone_core.errors import Conflict, Invalid, NotFound, WrongState
from vclone_core.models import (
    Actor,
    Deployment,
    Project,
    PullRequest,
    PullRequestChanged,
    Source,
    State,
    Target,
    Trigger,
)
from vclone_core.rules.access import require
from vclone_core.rules.clones import check_git_ref, check_source
from vclone_core.rules.githosts import Newest, Outcome, is_fork, is_same_origin, is_there, name_preview


async def handle_change(job: Job, event: PullRequestChanged) -> Handled:
    """Bring a pull request's preview to what the pull request is now."""
    if problem := check_git_ref(event.head_ref):
        raise Invalid(what=problem)
    row = await job.platform.db.fetch_one(
        "save_pull_request",
        job.project.id,
        event.number,
        event.is_open,
        event.title,
        event.author,
        event.head_repository,
        event.head_url,
        event.head_ref,
        event.head_sha,
        is_fork(event),
        name_preview(event),
        None if event.changed_at_s is None else datetime.fromtimestamp(event.changed_at_s, UTC),
    )
    if row is None:
        return Handled(Outcome.OLDER, "something newer of this pull request was here before it")
    pull = pull_request_from(row)
    handled = await (_open if pull.is_open else _close)(job, pull)
    # Told again also where the deployment is an old one: the pull request is new to it.
    wanted = f"{'open' if pull.is_open else 'closed'}:{pull.head_sha}:{job.number}"
    await job.platform.db.execute("note_report", job.project.id, "comment", str(pull.number), wanted)
    return handled


async def _open(job: Job, pull: PullRequest) -> Handled:
    if pull.is_fork and not is_same_origin(pull.head_url, job.project.git_url):
        return Handled(Outcome.IGNORED, "the repository it comes from is gone, or on another server")
    if pull.waits_for_approval:
        wanted = f"waits:{pull.head_sha}"
        await job.platform.db.execute("note_report", job.project.id, "status", pull.head_sha, wanted)
        return Handled(Outcome.WAITS, f"{pull.head_sha[:12]} of {pull.head_repository} waits for an approval")
    newest = await find_newest(job, pull.preview_ref)
    if newest is not None and newest.sha == pull.head_sha and newest.state is not State.CANCELLED:
        await show_again(job, newest)
        return Handled(Outcome.NOTED, f"{pull.head_sha[:12]} is deployed by its push", newest.deployment_id)
    if not pull.is_fork and await _is_pushed_over(job, pull, newest):
        return Handled(Outcome.NOTED, f"a newer push of {pull.head_ref} was here before it")
    return await deploy(job, source_of(job.project, pull), target=Target.PREVIEW if pull.is_fork else None)


async def _is_pushed_over(job: Job, pull: PullRequest, newest: Newest | None) -> bool:
    if newest is None or newest.sha == pull.head_sha:
        return False
    known = await job.platform.db.fetch_one("has_deployed_commit", job.project.id, pull.preview_ref, pull.head_sha)
    is_known = known is not None and known["is_known"]
    return is_known or await is_outrun(job, pull.head_ref, before="?", sha=pull.head_sha)


async def _close(job: Job, pull: PullRequest) -> Handled:
    if pull.preview_ref == job.project.settings.production_branch:
        return Handled(Outcome.NOTED, "its branch is what production shows")
    if others := await job.platform.db.fetch("list_pull_requests_of_ref", job.project.id, pull.preview_ref):
        return Handled(Outcome.NOTED, f"its branch is also that of pull request {others[0]['number']}")
    await retire_branch(job.platform, job.project, pull.preview_ref, reason="pull request closed")
    return Handled(Outcome.REMOVED, f"the preview of pull request {pull.number} is gone")


def source_of(project: Project, pull: PullRequest) -> Source:
    """Return what a pull request's deployment is made of."""
    url, fork = (pull.head_url, pull.head_repository) if pull.is_fork else (project.git_url, None)
    return Source("git", url=url, ref=pull.preview_ref, sha=pull.head_sha, author=pull.author or None, fork=fork)


async def approve(platform: Platform, actor: Actor, project: Project, number: int, sha: str) -> Deployment:
    """Deploy one commit of a fork's pull request, which somebody of the team has looked at.

    `sha` is the commit that was looked at: `Conflict` when the pull request has another one by now. It is built with
    none of the project's variables and tokens, as a preview.
    """
    require(actor, "approve a pull request")
    row = await platform.db.fetch_one("fetch_pull_request", project.id, number)
    if row is None:
        raise NotFound(what="pull request")
    pull = pull_request_from(row)
    if not pull.is_fork or not pull.is_open:
        raise WrongState(
            sentence="This pull request needs no approval.",
            hint="Only open ones that come from another repository do.",
        )
    source = source_of(project, pull)
    if problem := check_source(source, is_insecure_allowed=platform.settings.git_allow_insecure):
        raise Invalid(what=problem)
    if not is_same_origin(pull.head_url, project.git_url):
        raise Conflict(what="the repository it comes from is gone, or on another server")
    approved = pull.head_sha == sha and await platform.db.fetch_one(
        "approve_pull_request", project.id, number, sha, actor.user_id or None
    )
    if not approved:
        raise Conflict(what="its newest commit is another one by now", hint="Look at that one, then approve it.")
    found = await platform.db.fetch_one("fetch_newest_of_ref", project.id, pull.preview_ref)
    newest = None if found is None else Newest(found["id"], found["sha"], State(found["state"]))
    if newest is not None and is_there(sha, newest):
        return await find_deployment(platform, actor, newest.deployment_id)
    return await request_deployment(platform, actor, project, source, target=Target.PREVIEW, trigger=Trigger.PUSH)
