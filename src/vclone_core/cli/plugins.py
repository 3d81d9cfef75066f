"""`vclone plugins`: what is installed, what each plugin does, and why one was refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from vclone_core.cli.context import json_option
from vclone_core.cli.plugin_installs import Environment, install, prepare, scratch_folder, uninstall
from vclone_core.cli.plugin_template import write_plugin
from vclone_core.cli.progress import say
from vclone_core.cli.render import format_table, print_json, print_outcome
from vclone_core.errors import NotFound
from vclone_core.log import configure_log
from vclone_core.plugins import PluginInfo, Plugins, load_plugins
from vclone_core.settings import load_settings


def load_own_plugins() -> Plugins:
    """Load the plugins that the settings of this shell let in, as the platform's processes do it."""
    settings = load_settings(os.environ)
    configure_log(process="cli", log_level="critical")  # why a plugin is refused is part of what it returns
    return load_plugins(allow=settings.plugins, drop_in=settings.plugins_dir)


@click.group()
def plugins() -> None:
    """Show the installed plugins; install one, or begin a new one."""


@plugins.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_plugins(as_json: bool) -> None:
    """List every plugin that was found, also those that are refused."""
    infos = load_own_plugins().infos
    if as_json:
        print_json([asdict(info) for info in infos])
        return
    rows = [[info.name, info.distribution, info.version, describe_state(info)] for info in infos]
    click.echo(format_table(["NAME", "DISTRIBUTION", "VERSION", "HOOKS"], rows))


@plugins.command()
@click.argument("name")
@click.argument("folder", default=".", type=click.Path(path_type=Path, exists=True, file_okay=False))
@json_option
def new(name: str, folder: Path, *, as_json: bool) -> None:
    """Write a new plugin, vclone-NAME, into FOLDER: a distribution with its entry point and a test that passes."""
    made = write_plugin(name, folder)
    print_outcome({"folder": str(made)}, str(made), as_json=as_json)
    if not as_json:
        say(f"Try it: cd {made} && pytest && vclone plugins install . && vclone plugins info {name}")


@plugins.command("install")
@click.argument("source")
@click.option("--dry-run", is_flag=True, help="Check it and say what would be installed, no more.")
@json_option
def install_plugin(source: str, *, dry_run: bool, as_json: bool) -> None:
    """Install a plugin: a folder, an archive (.tar.gz, .zip, .whl), or the name of a package.

    It is loaded once on trial. What vclone itself needs stays as it is; a plugin that doesn't fit is refused.
    """
    environment = Environment.own()
    with environment.locked(), scratch_folder() as scratch:
        found = prepare(environment, source, scratch)
        say(f"{found.distribution} {found.version}" + (f", which replaces {found.replaces}" if found.replaces else ""))
        for label, names in (
            ("plugins", found.plugins),
            ("frameworks", found.framework_packages),
            ("brings", found.needs),
        ):
            if names:
                say(f"  {label:<10} {', '.join(names)}")
        if not dry_run:
            install(environment, found)
    outcome = {**asdict(found), "installed": not dry_run}
    del outcome["requirement"]
    done = "can be installed" if dry_run else "installed"
    print_outcome(outcome, f"{found.distribution} {found.version} {done}", as_json=as_json)
    if not dry_run:
        say("API, workers and edges load it at their next start.")
        say_unlisted(found.plugins)


@plugins.command("uninstall")
@click.argument("name")
@json_option
def uninstall_plugin(name: str, *, as_json: bool) -> None:
    """Take out a plugin that `plugins install` has installed, and what came with it."""
    environment = Environment.own()
    with environment.locked():
        gone = uninstall(environment, name)
    print_outcome({"distribution": gone.distribution}, f"{gone.distribution} is uninstalled", as_json=as_json)
    say("What runs goes on with it until its next start.")


def say_unlisted(names: Sequence[str]) -> None:
    """Say which of these plugins the settings of this shell keep out."""
    listed = load_settings(os.environ).plugins
    if listed is not None and (out := sorted(set(names) - {name.strip() for name in listed.split(",")})):
        say(f"VCLONE_PLUGINS does not list {', '.join(out)}: add it there.")


@plugins.command("info")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_plugin(name: str, as_json: bool) -> None:
    """Show one plugin."""
    found = next((info for info in load_own_plugins().infos if info.name == name), None)
    if found is None:
        raise NotFound(what=f"plugin {name}", hint="`vclone plugins list` shows the installed ones.")
    if as_json:
        print_json(asdict(found))
        return
    facts = {
        "name": found.name,
        "from": f"{found.distribution} {found.version}".strip(),
        "hooks": ", ".join(found.hooks),
    }
    if found.refused:
        facts["refused"] = found.refused
    for label, fact in facts.items():
        click.echo(f"{label:<8} {fact}")


def describe_state(info: PluginInfo) -> str:
    """Return what a plugin does, or why it does nothing."""
    return f"refused: {info.refused}" if info.refused else ", ".join(info.hooks)
