"""As root, the databases run as a lesser user: which one, and how it gets to its programs and its folder.

No user is made and no folder's mode is opened. A server stands in its data folder (the working directory is entered
before the change of user) and names it `/proc/self/cwd`, a link that leads there without passing the parents.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from vclone_core.embedded.children import Account
from vclone_core.errors import ServiceFailed

PREFERRED: Final = ("vclone", "postgres", "nobody")
HERE: Final = "/proc/self/cwd"
COPIES: Final = Path("/var/cache/vclone")


def pick_account(data_dir: Path) -> Account | None:
    """Return the user that owns `data_dir` or, where that is root, the first of `PREFERRED`; None when not root."""
    if os.geteuid() != 0:
        return None
    owner = data_dir.stat().st_uid if data_dir.exists() else 0
    entries = [_entry(owner)] if owner else [_entry(name) for name in PREFERRED]
    for entry in entries:
        if entry is not None and entry.pw_uid != 0:
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise ServiceFailed(what="PostgreSQL", why=f"it must not run as root, and none of {', '.join(PREFERRED)} exists")


def _entry(who: int | str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(who) if isinstance(who, int) else pwd.getpwnam(who)
    except KeyError:
        return None


def make_own_folder(path: Path, account: Account | None) -> None:
    """Make a folder that only `account` (None: this user) and root can enter; its parents stay as they are."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if account is not None:
        os.chown(path, account.uid, account.gid)


def can_run(program: Path, account: Account | None) -> bool:
    """Say whether `account` can read and start `program`, by trying."""
    try:
        subprocess.run(
            ("/bin/sh", "-c", 'test -r "$1" && exec "$1" --version', "sh", str(program)),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def copy_for_all(root: Path, parts: Iterable[str], *, key: str, into: Path = COPIES) -> Path:
    """Return a copy of `parts` of `root`, in the same layout, that every user can read; made once per `key`.

    The layout is kept because the programs find their libraries by relative paths.
    """
    copy = into / key
    if copy.is_dir() and copy.stat().st_uid == os.geteuid():
        return copy
    try:
        into.mkdir(parents=True, exist_ok=True)
        into.chmod(0o755)
        with tempfile.TemporaryDirectory(prefix=f".{key}-", dir=into) as folder:
            making = Path(folder, "copy")
            for part in parts:
                _copy(root / part, making / part)
            _open_for_reading(making)
            if not copy.is_dir():
                making.rename(copy)
    except OSError as error:
        if copy.is_dir():  # another process was first
            return copy
        raise ServiceFailed(what="The database", why=f"its programs can't be copied to {copy}: {error}") from error
    return copy


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy(source, target)


def _open_for_reading(tree: Path) -> None:
    for folder, _, names in os.walk(tree):
        Path(folder).chmod(0o755)
        for path in (Path(folder, name) for name in names):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
