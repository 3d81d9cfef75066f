"""*detect*, the second step: what the source is, and the plan that follows. Reads the folder, asks the rules."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Final

from vclone_core.build.context import Work
from vclone_core.build.steps.skip import skip_unneeded
from vclone_core.errors import DetectFailed
from vclone_core.rules.buildplan import BuildPlan, adjust_plan, plan_build, require_served
from vclone_core.rules.definitions import parse_frameworks
from vclone_core.rules.file_settings import EffectiveSettings, apply_files
from vclone_core.rules.frameworks import Listing, detect, list_wanted_texts
from vclone_core.rules.netlify_config import NAME as NETLIFY_TOML
from vclone_core.rules.netlify_config import NetlifyConfig, parse_netlify_config
from vclone_core.rules.output import check_path
from vclone_core.rules.vercel_config import NAME as VERCEL_JSON
from vclone_core.rules.vercel_config import VercelConfig, parse_vercel_config
from vclone_core.stores.folders import read_listing, read_text, select_listed
from vclone_core.stores.workspaces import find_workspace

MAX_CONFIG_BYTES: Final = 32 * 1024**2


async def detect_framework(work: Work) -> None:
    """Find the root directory, its `vercel.json` and `netlify.toml`, the framework and the plan.

    Raises `DetectFailed`, `MissingScript` or `NotServed`; `Skipped` for a push that needs no build.
    """
    build = work.build
    if work.source.kind == "prebuilt":
        await build.log.line("A finished output: nothing to install or build")
        work.vercel = await asyncio.to_thread(_read_vercel_config, work.root)
        return
    said = await asyncio.to_thread(_read_settings, work)
    for name in work.netlify.unused:
        await build.log.line(f"netlify.toml: {name} is not used here")
    await skip_unneeded(work, said.settings)
    frameworks, problems = parse_frameworks(build.plugins.framework_texts)
    for problem in problems:
        await build.log.line(f"Framework definition left out: {problem}")
    listing = await asyncio.to_thread(read_listing, work.root, list_wanted_texts(frameworks))
    if work.upload is not None:
        below = f"{work.root.relative_to(work.folder).as_posix()}/".removeprefix("./")
        paths = (path.removeprefix(below) for path in work.upload.files if path.startswith(below))
        listing = replace(listing, paths=select_listed(paths))
    file = said.origins.get("framework")
    chosen, why = said.settings.framework, f"{file} says so" if file else "the project settings say so"
    if chosen is None:
        chosen, why = await _ask_plugins(work, listing)
    work.detection = detect(listing, frameworks, chosen=chosen, why=why)
    plan = plan_build(work.detection, listing, said, workspace=work.workspace)
    work.plan = await _let_plugins_adjust(work, plan)
    await build.log.found(framework=work.detection.framework)
    await build.log.line(f"Framework: {work.detection.definition.name}")
    for reason in work.plan.reasons:
        await build.log.line(f"  {reason}")
    require_served(work.plan, work.detection.definition.name)


def _read_settings(work: Work) -> EffectiveSettings:
    """Find the root directory, the workspace around it, and what the repository's files say of the build."""
    build = work.build
    root_directory = build.project_settings.root_directory
    work.netlify = _read_netlify_config(work, work.folder)
    work.root = _find_root(work.folder, root_directory or work.netlify.base or "")
    if work.root != work.folder and (work.root / NETLIFY_TOML).is_file():
        work.netlify = _read_netlify_config(work, work.root)
    elif work.netlify.base is not None and _find_root(work.folder, work.netlify.base) != work.root:
        # It speaks of another site of this repository.
        work.netlify = NetlifyConfig()
    work.vercel = _read_vercel_config(work.root)
    work.workspace = find_workspace(work.folder, work.root.relative_to(work.folder).as_posix().removeprefix("."))
    return apply_files(build.project_settings, work.vercel.settings, work.netlify.settings)


def _read_netlify_config(work: Work, folder: Path) -> NetlifyConfig:
    try:
        text = read_text(folder, NETLIFY_TOML, limit_bytes=MAX_CONFIG_BYTES)
    except ValueError as error:
        raise DetectFailed(what=str(error)) from error
    target, branch = work.build.claim.deployment.target, work.source.ref
    return NetlifyConfig() if text is None else parse_netlify_config(text, target=target.value, branch=branch)


def _read_vercel_config(root: Path) -> VercelConfig:
    try:
        text = read_text(root, VERCEL_JSON, limit_bytes=MAX_CONFIG_BYTES)
    except ValueError as error:
        raise DetectFailed(what=str(error)) from error
    return VercelConfig() if text is None else parse_vercel_config(text)


def _find_root(folder: Path, root_directory: str) -> Path:
    name = root_directory.strip("/")
    if name in ("", "."):
        return folder
    if check_path(name):
        raise DetectFailed(what=f"the root directory {name!r} is not a plain relative path")
    root = folder / name
    if not root.is_dir() or root.resolve() != folder.resolve() / name:
        raise DetectFailed(
            what=f"the source has no folder {name}", hint="Correct the root directory in the project settings."
        )
    return root


async def _ask_plugins(work: Work, listing: Listing) -> tuple[str | None, str]:
    answers = await work.build.plugins.ask_beside("detect_framework", paths=listing.paths, texts=listing.texts)
    return (str(answers[0][1]), f"plugin {answers[0][0]} says so") if answers else (None, "")


async def _let_plugins_adjust(work: Work, plan: BuildPlan) -> BuildPlan:
    fields = {
        "framework": plan.framework,
        "install_command": plan.install_command,
        "build_command": plan.build_command,
        "output_directory": plan.output_directory,
        "env": dict(plan.env),
    }
    plugins, project = work.build.plugins, work.build.claim.project
    for plugin, changes in await plugins.ask_beside("build_plan", project=project, plan=fields):
        plan = adjust_plan(plan, changes, by=plugin)
    return plan
