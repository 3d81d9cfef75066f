"""`vclone detect DIR`: what the platform would build of a folder, by the same rules as the worker, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vclone_core.cli.plugins import load_own_plugins
from vclone_core.cli.progress import say
from vclone_core.cli.render import print_json
from vclone_core.errors import Invalid
from vclone_core.models import ProjectSettings
from vclone_core.plugins import Plugins
from vclone_core.rules.buildplan import encode_plan, plan_build
from vclone_core.rules.definitions import parse_frameworks
from vclone_core.rules.frameworks import detect as detect_framework
from vclone_core.rules.frameworks import list_wanted_texts
from vclone_core.stores.folders import read_listing
from vclone_core.stores.workspaces import find_repository, find_workspace


@click.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def detect(folder: Path, as_json: bool) -> None:
    """Say which framework FOLDER uses and how it would be built."""
    if not folder.is_dir():
        raise Invalid(what=f"there is no folder {folder}")
    plugins = load_own_plugins()
    for info in plugins.infos:
        if info.refused and not info.refused.startswith("not listed"):
            say(f"Ignored: plugin {info.name}: {info.refused}")
    plan = plan_folder(folder, plugins)
    if as_json:
        print_json(plan)
        return
    for name in ("framework", "kind", "package_manager", "install_command", "build_command", "output_directory"):
        click.echo(f"{name.replace('_', ' '):<17} {plan[name] if plan[name] is not None else '(none)'}")
    for reason in plan["reasons"]:
        say(f"  {reason}")


def plan_folder(folder: Path, plugins: Plugins) -> dict[str, Any]:
    """Return the build plan of a folder with no project settings, as JSON, with the losing frameworks."""
    frameworks, problems = parse_frameworks(plugins.framework_texts)
    for problem in problems:
        say(f"Ignored: {problem}")
    listing = read_listing(folder, list_wanted_texts(frameworks))
    root, place = find_repository(folder)
    asked = plugins.ask("detect_framework", paths=listing.paths, texts=listing.texts)
    plugin, chosen = asked[0] if asked else ("", None)
    detection = detect_framework(listing, frameworks, chosen=chosen, why=f"plugin {plugin}")
    plan = encode_plan(plan_build(detection, listing, ProjectSettings(), workspace=find_workspace(root, place)))
    return {**plan, "losers": [{"framework": name, "why": why} for name, why in detection.losers]}
