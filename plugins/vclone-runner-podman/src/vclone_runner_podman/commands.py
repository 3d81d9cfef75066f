"""`vclone runner`: makes the build image on this machine, and tries whether builds can run here."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import click

from vclone_core import RunnerConfig, errors
from vclone_runner_podman import images


@click.group()
def runner() -> None:
    """Make and try what builds run in."""


@runner.command("build-image")
@click.option(
    "--rootfs", type=click.Path(path_type=Path), help="Tar of the file system: used if there, else made there."
)
@click.option("--mirror", metavar="URL", help="Where Debian's packages come from, if not from debootstrap's own place.")
@click.option("--node", default=images.NODE, show_default=True, help="Version of Node.js, as npm names it.")
@click.option("--again", is_flag=True, help="Also when the image is there and new enough.")
def build_image(rootfs: Path | None, mirror: str | None, node: str, again: bool) -> None:
    """Make the image that builds run in, without an image registry.

    Takes a few minutes, and needs root, debootstrap and npm. Does nothing when the image is there.
    """
    from vclone_runner_podman.runner import PodmanRunner

    podman = PodmanRunner(RunnerConfig(options=_read_options()))
    name = podman.image
    there = asyncio.run(podman.image_version())
    if there is not None and there >= images.VERSION and not again:
        click.echo(f"{name} is there (version {there})")
        return
    with tempfile.TemporaryDirectory(prefix="vclone-image-") as folder:
        tar = rootfs or Path(folder) / "rootfs.tar"
        if not tar.is_file():
            if os.geteuid() != 0:
                raise errors.Invalid(what="a root file system is made by root only: run this with sudo, with --rootfs")
            images.make_rootfs(tar, mirror=mirror, node=node, tell=click.echo)
        click.echo(f"{tar.stat().st_size / 1024**2:.0f} MiB into Podman as {name} …")
        asyncio.run(podman.import_image(tar))
    click.echo(f"{name} is made (version {images.VERSION})")


@runner.command("check")
def check() -> int:
    """Start one container as a build's would be, and say what it lacks. Exits 1 when builds can't run."""
    from vclone_runner_podman.runner import PodmanRunner

    podman = PodmanRunner(RunnerConfig(options=_read_options()))
    if (why := asyncio.run(podman.check())) is not None:
        click.echo(f"✗ {why}")
        return 1
    click.echo(f"✓ builds can run in {podman.image}: {podman.describe()}")
    if podman.note:
        click.echo(f"! {podman.note}")
    return 0


def _read_options() -> dict[str, str]:
    # The setting is read as the worker reads it; a plugin sees no more of the settings than its own options.
    import json

    text = os.environ.get("VCLONE_RUNNER_OPTIONS") or "{}"
    try:
        options: Any = json.loads(text)
    except ValueError as error:
        raise errors.BadSettings(problems=f"VCLONE_RUNNER_OPTIONS is not JSON ({error}).") from error
    if not isinstance(options, dict):
        raise errors.BadSettings(problems="VCLONE_RUNNER_OPTIONS is not a JSON object.")
    return {str(name): str(value) for name, value in options.items()}
