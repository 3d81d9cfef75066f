"""The build plan: detection + project settings + package.json -> what is run, where its output lies, and why.

Explicit settings beat package.json, which beats the framework's definition. The order follows Vercel's builds.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from vclone_core.errors import DetectFailed, MissingScript, NotServed
from vclone_core.models import ProjectSettings
from vclone_core.rules.definitions import Framework
from vclone_core.rules.file_settings import EffectiveSettings
from vclone_core.rules.frameworks import Detection, Listing, find_configured_output
from vclone_core.rules.languages import find_version, pick_language_manager
from vclone_core.rules.packagemanagers import PackageManager, pick_package_manager
from vclone_core.rules.workspaces import Workspace, pick_task_runner

# The first of these that package.json has is the build; the names are Vercel's.
BUILD_SCRIPTS: Final = ("vercel-build", "now-build", "build")
_RUNS: Final = re.compile(r"\b(?:npm|pnpm|yarn|bun) run(?:-script)? ([\w:.-]+)")
_TASK_ENVIRONMENT: Final = {"TURBO_TELEMETRY_DISABLED": "1", "NX_DAEMON": "false"}
_CHANGEABLE: Final = ("install_command", "build_command", "output_directory", "env")


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What a build does. A command is a line for a POSIX shell, None: nothing is run.

    `output_alternatives` are tried before `output_directory`; in both `*` stands for a folder's only entry. `provision`
    is the package to install first where a package manager's program is missing (`PackageManager`). `is_served` is
    false where the answer would have to come from a server, which no part of the platform runs yet. The install command
    runs in `install_directory`, which leads upwards from the root directory.
    """

    framework: str
    kind: str
    package_manager: str | None
    install_command: str | None
    build_command: str | None
    output_directory: str
    output_alternatives: tuple[str, ...] = ()
    provision: str | None = None
    node_version: str | None = None
    python_version: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    is_plain: bool = False
    output_hint: str = ""
    is_served: bool = True
    install_directory: str = "."


def plan_build(
    detection: Detection,
    listing: Listing,
    said: EffectiveSettings | ProjectSettings,
    *,
    workspace: Workspace | None = None,
) -> BuildPlan:
    """Return the plan; raise `DetectFailed` for an unreadable package.json, `MissingScript` for one without a build.

    An empty command in the settings means: run nothing. A project with no build command installs nothing either. A
    package of a `workspace` is installed at the workspace's root.
    """
    said = said if isinstance(said, EffectiveSettings) else EffectiveSettings(said)
    settings = said.settings
    package = listing.read_package()
    scripts = package.get("scripts")
    scripts = scripts if isinstance(scripts, dict) else {}
    definition = detection.definition
    other = pick_language_manager(definition.language, listing.paths, definition.packages)
    if other is not None:
        # What another language installs lies in the root directory, and so does then everything.
        workspace = None
    locked = listing if workspace is None else workspace.listing
    manager = pick_package_manager(locked, package if workspace is None else locked.read_package())
    reasons = [f"framework {detection.framework}: {reason}" for reason in detection.reasons]
    task = None if workspace is None else pick_task_runner(workspace, scripts, listing.paths)
    build, why_build = _pick_build(detection, listing, said, scripts, manager, other, task)
    kind, why_kind = _pick_kind(detection, build, scripts)
    # A server needs its packages at run time too.
    is_needed = build is not None or kind != "static"
    managers = [one for one in (other, manager) if one is not None]
    install, why_install = _pick_install(definition, said, managers, is_needed=is_needed)
    output, alternatives, why_output = _pick_output(detection, listing, said, is_built=build is not None)
    node, why_node = _pick_node(said, package, listing)
    python, why_python = _pick_python(said, definition, listing)
    is_served = kind == "static" or definition.proves_static or settings.output_directory is not None
    why_served = "" if is_served else f"not served yet: {definition.name} needs a server"
    is_shared = workspace is not None and settings.install_command is None and manager is not None
    why_shared = f"install directory: {workspace.up}, the workspace's root" if workspace and is_shared else ""
    found = (why_kind, why_install, why_shared, why_build, why_output, why_node, why_python, why_served)
    reasons += [reason for reason in found if reason]
    return BuildPlan(
        framework=detection.framework,
        kind=kind,
        package_manager=managers[0].name if managers else None,
        install_command=install,
        build_command=build,
        output_directory=output,
        output_alternatives=alternatives,
        provision=next((one.provision for one in managers if one.provision), None),
        node_version=node,
        python_version=python,
        env={**definition.build_environment, **(_TASK_ENVIRONMENT if task else {})},
        install_directory=workspace.up if workspace and is_shared else ".",
        reasons=tuple(reasons),
        is_plain=build is None and output == ".",
        output_hint=definition.output_hint,
        is_served=is_served,
    )


def require_served(plan: BuildPlan, name: str) -> None:
    """Raise `NotServed` for a project that needs a server, before anything of it runs. `name` is its framework's."""
    if not plan.is_served:
        option = f"{plan.output_hint} " if plan.output_hint else ""
        raise NotServed(name=name, option=option)


def adjust_plan(plan: BuildPlan, changes: Mapping[str, Any], *, by: str) -> BuildPlan:
    """Return the plan with the fields that a plugin changed; raise `DetectFailed` for a field that none may change."""
    for name in changes:
        if name not in _CHANGEABLE:
            raise DetectFailed(what=f"plugin {by} changes {name}; a build plan lets {', '.join(_CHANGEABLE)} change")
    values = dict(changes)
    if "env" in values:
        values["env"] = {**plan.env, **values["env"]}
    if "output_directory" in values:
        values |= {"output_alternatives": (), "is_plain": False, "is_served": True}
    reasons = (*plan.reasons, *(f"{name}: plugin {by}" for name in changes))
    return replace(plan, **values, reasons=reasons)


def encode_plan(plan: BuildPlan) -> dict[str, Any]:
    """Return the plan as `vclone detect --json` prints it."""
    return {
        "framework": plan.framework,
        "install_command": plan.install_command,
        "install_directory": plan.install_directory,
        "build_command": plan.build_command,
        "output_directory": plan.output_directory,
        "package_manager": plan.package_manager,
        "kind": plan.kind,
        "node_version": plan.node_version,
        "python_version": plan.python_version,
        "is_served": plan.is_served,
        "reasons": list(plan.reasons),
    }


def _pick_build(
    detection: Detection,
    listing: Listing,
    said: EffectiveSettings,
    scripts: Mapping[str, Any],
    manager: PackageManager | None,
    other: PackageManager | None,
    task: tuple[str, str] | None,
) -> tuple[str | None, str]:
    definition = detection.definition
    if said.settings.build_command is not None:
        command = said.settings.build_command.strip() or None
        _refuse_missing_script(command, scripts, manager)
        return command, f"build command: {said.tell('build_command')}"
    if task is not None and not definition.ignores_script:
        return task[0], f"build command: {task[1]}"
    if manager and not definition.ignores_script:
        for script in BUILD_SCRIPTS:
            if scripts.get(script):
                return manager.run_script(script), f"build command: package.json has the script {script}"
    if definition.build_command:
        prefix = other.prefix if other else ""
        return f"{prefix}{definition.build_command}", f"build command: the default of {definition.name}"
    if definition.is_fallback and manager and not _has_pages(listing):
        raise MissingScript(script="build")
    return None, "build command: none, the files are served as they are"


def _refuse_missing_script(command: str | None, scripts: Mapping[str, Any], manager: PackageManager | None) -> None:
    """Refuse `npm run x` and its like where package.json has no script x: nobody should wait for an install first."""
    words = (command or "").split()
    if not manager or len(words) != 3 or words[2].startswith("-"):
        return
    if words[0] in ("npm", "pnpm", "yarn", "bun") and words[1] in ("run", "run-script") and not scripts.get(words[2]):
        raise MissingScript(script=words[2])


def _has_pages(listing: Listing) -> bool:
    return any(path == "index.html" or path.startswith("public/") for path in listing.paths)


def _pick_kind(detection: Detection, build: str | None, scripts: Mapping[str, Any]) -> tuple[str, str]:
    """Return the kind that detection found, or static where the build command says so."""
    expression = detection.definition.static_command
    if detection.kind != "static" and expression and build:
        for command in _follow_scripts(build, scripts):
            if re.search(expression, command):
                return "static", f"kind: `{command}` makes static files"
    return detection.kind, ""


def _follow_scripts(command: str, scripts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a command and those of the scripts of package.json that it runs, and that these run."""
    found, queue = [command], [command]
    while queue:
        for name in _RUNS.findall(queue.pop()):
            text = scripts.get(name)
            if isinstance(text, str) and text not in found:
                found.append(text)
                queue.append(text)
    return tuple(found)


def _pick_install(
    definition: Framework, said: EffectiveSettings, managers: Sequence[PackageManager], *, is_needed: bool
) -> tuple[str | None, str]:
    if said.settings.install_command is not None:
        return said.settings.install_command.strip() or None, f"install command: {said.tell('install_command')}"
    if not is_needed:
        return None, "install command: none, as nothing is built"
    if definition.install_command:
        return definition.install_command, f"install command: the default of {definition.name}"
    if managers:
        why = ", ".join(f"package manager {one.name}: {one.reason}" for one in managers)
        return " && ".join(one.install_command for one in managers), why
    return None, "install command: none, nothing lists packages"


def _pick_output(
    detection: Detection, listing: Listing, said: EffectiveSettings, *, is_built: bool
) -> tuple[str, tuple[str, ...], str]:
    definition = detection.definition
    if said.settings.output_directory is not None:
        return _tidy(said.settings.output_directory), (), f"output directory: {said.tell('output_directory')}"
    if configured := find_configured_output(definition, listing):
        return _tidy(configured), (), "output directory: the project's configuration"
    if is_built and definition.output_built:
        folders = definition.output_built
        return folders[0], folders, f"output directory: the first of {', '.join(folders)} that the build makes"
    if definition.is_fallback:
        # Nothing is built, so what the folders will be is known now.
        for folder in definition.output_prefer:
            if any(path.startswith(f"{folder}/") for path in listing.paths):
                return folder, (), f"output directory: {folder}/ exists"
    return definition.output_directory, definition.output_prefer, f"output directory: the default of {definition.name}"


def _tidy(folder: str) -> str:
    """Return `/site/` and `./site` as `site`, and nothing as `.`."""
    return posixpath.normpath(folder.strip("/") or ".")


def _pick_node(said: EffectiveSettings, package: Mapping[str, Any], listing: Listing) -> tuple[str | None, str]:
    if said.settings.node_version:
        return said.settings.node_version, f"Node.js version: {said.tell('node_version')}"
    engines = package.get("engines")
    if isinstance(engines, dict) and isinstance(engines.get("node"), str):
        return engines["node"], "Node.js version: engines in package.json"
    return find_version("node", listing)


def _pick_python(said: EffectiveSettings, definition: Framework, listing: Listing) -> tuple[str | None, str]:
    if definition.language != "python":
        return None, ""
    if said.settings.python_version:
        return said.settings.python_version, f"Python version: {said.tell('python_version')}"
    return find_version("python", listing)
