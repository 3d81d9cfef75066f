"""`vclone deploy`: a folder, a git URL or a finished output becomes a deployment with a URL.

The first arrows of the deploy flow are run here: read the folder, send what is missing, ask for the deployment, follow.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import platform_options
from vclone_core.cli.folder import FolderListing, hash_files, list_folder
from vclone_core.cli.follow import follow_deployment
from vclone_core.cli.link import find_home, name_project, read_link, write_link
from vclone_core.cli.progress import say
from vclone_core.cli.render import print_json, print_line, print_state, raise_unless_ready
from vclone_core.cli.upload import send_missing
from vclone_core.errors import Conflict, Invalid, NotFound, VcloneError
from vclone_core.models import BuildLimits, State, Target
from vclone_core.rules.names import parse_project_name, suggest_project_name
from vclone_core.stores.archives import is_archive, unpack

INTERRUPTED: Final = 130
_GIT_URL: Final = re.compile(r"(?:https?|ssh|git|file)://|[\w.-]+@[\w.-]+:")


@dataclass(frozen=True, slots=True)
class Order:
    """What one `vclone deploy` asks for. Exactly one of `git_url` and `listing` is set."""

    project: str
    target: Target | None
    git_url: str | None = None
    ref: str | None = None
    listing: FolderListing | None = None
    is_prebuilt: bool = False
    link: Path | None = None
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Requested:
    """The deployment as the API made it, and how much had to travel for it."""

    deployment: Mapping[str, Any]
    sent_files: int = 0
    sent_bytes: int = 0


@click.command()
@click.argument("source", default=".", metavar="[FOLDER|ARCHIVE|GIT_URL]")
@click.option(
    "--prebuilt",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Upload DIR, or an archive, as it is.",
)
@click.option("--project", metavar="NAME", help="Project to deploy to; made when it is missing.")
@click.option("--prod", "target", flag_value="production", help="Publish to the project's production address.")
@click.option("--preview", "target", flag_value="preview", help="Make a preview, also as the first deployment.")
@click.option("--branch", metavar="REF", help="Branch or tag of the git repository.")
@click.option("--no-cache", is_flag=True, help="Build without what earlier builds left; later ones may use it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, and nothing else.")
@click.option("--no-wait", is_flag=True, help="Return as soon as the deployment is queued.")
@platform_options
def deploy(
    source: str,
    prebuilt: Path | None,
    project: str | None,
    target: str | None,
    branch: str | None,
    no_cache: bool,
    as_json: bool,
    no_wait: bool,
    **options: str | None,
) -> None:
    """Deploy a folder, an archive (.tar.gz, .tar, .zip) or a git repository, and print its URL."""
    started_s = time.monotonic()
    requested: list[Requested] = []

    async def run(api: ApiClient) -> Mapping[str, Any]:
        requested.append(await request_deployment(api, order))
        deployment = requested[0].deployment
        say(f"Deployment {deployment['id']} of {deployment['project']} is {deployment['state']}.")
        if no_wait:
            return deployment
        return await follow_deployment(api, deployment["id"], on_line=print_line, on_state=print_state)

    try:
        with contextlib.ExitStack() as unpacked:
            order = plan_order(
                source, prebuilt=prebuilt, project=project, target=target, branch=branch, unpacked=unpacked
            )
            order = replace(order, settings={"build_cache": False}) if no_cache else order
            deployment = call_api(options, run)
    except VcloneError as error:
        if as_json:
            print_json(encode_refusal(error, requested))
        raise
    except KeyboardInterrupt:
        if requested:
            deployment_id = requested[0].deployment["id"]
            say(f"\nStopped following; the deployment goes on. Follow it: vclone logs -f {deployment_id}")
            say(f"Stop it: vclone cancel {deployment_id}")
        raise SystemExit(INTERRUPTED) from None
    if order.link is not None:
        write_link(order.link, order.project)
    seconds = time.monotonic() - started_s
    if as_json:
        print_json(encode_result(requested[0], deployment, seconds=seconds))
    else:
        print_result(deployment, seconds=seconds)
    raise_unless_ready(deployment)


def plan_order(
    source: str,
    *,
    prebuilt: Path | None,
    project: str | None,
    target: str | None,
    branch: str | None,
    unpacked: contextlib.ExitStack,
) -> Order:
    """Return what to ask for. Everything that can be refused without the platform is refused here.

    An archive is unpacked for as long as `unpacked` is open.
    """
    named = parse_project_name(project) if project is not None else None
    wanted = Target(target) if target else None
    if is_git_url(source):
        if prebuilt is not None:
            raise Invalid(what="--prebuilt takes a folder, and a git URL was named as well")
        return Order(named or name_repository(source), wanted, git_url=source, ref=branch)
    if branch is not None:
        raise Invalid(what="--branch belongs to a git URL, and a folder was named")
    if is_archive(archive := prebuilt or Path(source)):
        listing = unpack_archive(archive, unpacked, is_output=prebuilt is not None)
        return Order(named or name_archive(archive), wanted, listing=listing, is_prebuilt=prebuilt is not None)
    # A finished output belongs to the folder that is named with it, else to the one it lies in.
    folder = find_home(prebuilt) if prebuilt is not None and source == "." else Path(source)
    listing = list_and_tell(prebuilt or folder, is_output=prebuilt is not None)
    linked = read_link(folder)
    # A folder whose project is named each time needs no link.
    link = folder if named is None and linked is None else None
    name = named or linked or name_project(folder)
    return Order(name, wanted, listing=listing, is_prebuilt=prebuilt is not None, link=link)


def list_and_tell(folder: Path, *, is_output: bool) -> FolderListing:
    """Return what of a folder travels; say which secrets stay at home."""
    listing = list_folder(folder, is_output=is_output)
    if listing.secrets:
        say(f"Not uploaded, since they may hold secrets: {', '.join(listing.secrets)}")
    return listing


def unpack_archive(archive: Path, unpacked: contextlib.ExitStack, *, is_output: bool) -> FolderListing:
    """Return what of an archive travels, unpacked into a folder that goes with `unpacked`."""
    folder = unpacked.enter_context(tempfile.TemporaryDirectory(prefix="vclone-"))
    root, _ = unpack(archive, Path(folder), BuildLimits())
    return list_and_tell(root, is_output=is_output)


def name_archive(archive: Path) -> str:
    """Return the project name that an archive's name suggests.

    >>> name_archive(Path("dist/My Site.tar.gz"))
    'my-site'
    """
    return suggest_project_name(re.sub(r"(?i)\.(?:tar\.gz|tgz|tar|zip)$", "", archive.name))


async def request_deployment(api: ApiClient, order: Order) -> Requested:
    """Bring the source to the platform, making the project where it is missing, and ask for the deployment."""
    body: dict[str, Any] = {"project": order.project, "target": order.target, "create_project": True}
    if order.settings is not None:
        body["settings"] = order.settings
    if order.listing is None:
        body["source"] = {"kind": "git", "url": order.git_url, "ref": order.ref, "sha": None}
        return Requested(await api.post("/api/deployments", body))
    files = await asyncio.to_thread(hash_files, order.listing.files)
    try:
        sent = await send_missing(api, order.project, files, order.listing.files)
    except NotFound:
        await make_project(api, order.project)
        sent = await send_missing(api, order.project, files, order.listing.files)
    body["source"] = {"kind": "prebuilt" if order.is_prebuilt else "upload"}
    body["files"] = [asdict(file) for file in files]
    return Requested(await api.post("/api/deployments", body), *sent)


async def make_project(api: ApiClient, name: str) -> None:
    """Make a project; one that another command made in the meantime will do."""
    with contextlib.suppress(Conflict):
        await api.post("/api/projects", {"name": name})
    say(f"Made the project {name}.")


def print_result(deployment: Mapping[str, Any], *, seconds: float) -> None:
    """Print the deployment's URL on stdout, and the rest for the person."""
    if deployment["state"] == State.READY:
        say(f"Ready after {seconds:.1f} s.")
        if deployment.get("production_url"):
            say(f"Production: {deployment['production_url']}")
    if deployment["state"] not in (State.FAILED, State.CANCELLED):
        click.echo(deployment["url"] or deployment["id"])


def encode_result(requested: Requested, deployment: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
    """Return what `--json` prints of a deployment."""
    return {
        "url": deployment["url"],
        "deployment_id": deployment["id"],
        "project": deployment["project"],
        "state": deployment["state"],
        "target": deployment["target"],
        "production_url": deployment["production_url"],
        "created_at": deployment["created_at"],
        "seconds": round(seconds, 3),
        "sent_files": requested.sent_files,
        "sent_bytes": requested.sent_bytes,
        "failure": deployment["failure"],
    }


def encode_refusal(error: VcloneError, requested: Sequence[Requested]) -> dict[str, Any]:
    """Return what `--json` prints when there is no deployment, or its end could not be seen."""
    made = requested[0].deployment if requested else {}
    return {
        "url": made.get("url"),
        "deployment_id": made.get("id"),
        "project": made.get("project"),
        "state": made.get("state", State.FAILED),
        "failure": {"code": error.code, "sentence": error.sentence, "advice": error.advice, "step": None},
    }


def is_git_url(source: str) -> bool:
    """Say whether `source` names a repository; a folder of that name wins over `user@host:path`."""
    return bool(_GIT_URL.match(source)) and not Path(source).is_dir()


def name_repository(url: str) -> str:
    """Return the project name that a repository's address suggests.

    >>> name_repository("https://example.com/team/My_Shop.git/")
    'my-shop'
    """
    return suggest_project_name(re.split(r"[/:]", url.rstrip("/"))[-1].removesuffix(".git"))
