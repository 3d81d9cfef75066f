"""What is special about objects that are files: their modes, leftovers, a full disk, and files that change."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from vclone_core import Span, StoreConfig
from vclone_core.errors import BadSettings, Invalid, StoreUnavailable
from vclone_store_local import FolderStore, make_store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FolderStore]:
    opened = make_store(StoreConfig(f"file://{tmp_path}/with%20space/objects"))
    await opened.start()
    yield opened
    await opened.close()


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


async def test_everything_is_private(store: FolderStore) -> None:
    await store.put("a/b/c", b"x", size=1)
    assert store.root.name == "objects" and store.root.parent.name == "with space"
    for path in [store.root, *store.root.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert files_below(store.root) == ["a", "a/b", "a/b/c", "~incoming"]


async def test_emptied_folders_go(store: FolderStore) -> None:
    for key in ("a/b/c", "a/d"):
        await store.put(key, b"x", size=1)
    await store.delete(["a/b/c"])
    assert files_below(store.root) == ["a", "a/d", "~incoming"]
    await store.delete(["a/d"])
    assert files_below(store.root) == ["~incoming"]


async def test_puts_and_deletes_of_one_folder_at_once(store: FolderStore) -> None:
    async def turn(name: str) -> None:
        for _ in range(50):
            assert await store.put(f"a/b/{name}", b"x", size=1) is True
            await store.delete([f"a/b/{name}"])

    await asyncio.gather(*(turn(str(number)) for number in range(8)))
    assert files_below(store.root) == ["~incoming"]


async def test_a_folder_that_goes_between_two_looks_is_made_again(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another put made it, and a delete took it away before it was looked at."""
    make, is_late = Path.mkdir, [True]

    def mkdir(folder: Path, *args: Any, **named: Any) -> None:
        if folder.name == "b" and is_late:
            is_late.clear()
            raise FileExistsError
        make(folder, *args, **named)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert await store.put("a/b/c", b"x", size=1) is True
    assert not is_late


async def test_a_link_to_nothing_is_no_folder(store: FolderStore) -> None:
    (store.root / "a").symlink_to(store.root / "nothing")
    with pytest.raises(Invalid, match="lies below one"):
        await store.put("a/b", b"x", size=1)


async def test_failed_puts_leave_no_draft(store: FolderStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 1_000_000
        raise OSError("the client left")

    with pytest.raises(OSError, match="the client left"):
        await store.put("a", broken(), size=2_000_000)
    with pytest.raises(Invalid):
        await store.put("b", b"xyz", size=2)
    await store.close()
    assert files_below(store.root) == ["~incoming"]


async def test_of_many_puts_at_once_only_the_wrong_ones_fail(store: FolderStore) -> None:
    """They share trips to threads and syncs, and nothing else."""
    (store.root / "file").write_bytes(b"in the way")
    wrong = {"a/13": Invalid, "file/x": Invalid}
    bodies = {f"{n % 3}/{n}": f"body {n}".encode() for n in range(300)} | {"a/13": b"x", "file/x": b"y"}

    async def put(key: str) -> bool | type[BaseException]:
        digest = hashlib.sha256(bodies[key] if key != "a/13" else b"else").hexdigest()
        try:
            return await store.put(key, bodies[key], size=len(bodies[key]), sha256=digest)
        except Invalid as error:
            return type(error)

    outcomes = dict(zip(bodies, await asyncio.gather(*map(put, bodies)), strict=True))
    assert outcomes == dict.fromkeys(bodies, True) | wrong
    assert sum([await put(key) is False for key in bodies if key not in wrong]) == 300
    for key in bodies.keys() - wrong.keys():
        assert (store.root / key).read_bytes() == bodies[key]
    assert os.listdir(store.root / "~incoming") == []


async def test_a_cancelled_put_harms_no_other_of_its_batch(store: FolderStore) -> None:
    puts = [asyncio.create_task(store.put(f"a/{n}", b"x", size=1)) for n in range(100)]
    await asyncio.sleep(0)
    for one in puts[::2]:
        one.cancel()
    results = await asyncio.gather(*puts, return_exceptions=True)
    assert results[1::2] == [True] * 50
    assert all(isinstance(one, asyncio.CancelledError) for one in results[::2])
    assert await store.put("a/after", b"x", size=1) is True


async def test_a_kill_in_the_middle_of_many_puts_leaves_whole_objects(store: FolderStore) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(store.root)], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        # Each line is a key whose put has returned.
        told = [await asyncio.to_thread(writer.stdout.readline) for _ in range(200)]
    finally:
        writer.kill()
        told += (await asyncio.to_thread(writer.communicate))[0].splitlines(keepends=True)
    done = {line.decode().strip() for line in told if line.endswith(b"\n")}
    stored = {info.key: info.size async for info in store.list("")}
    assert done <= stored.keys()
    assert set(stored.values()) == {5000}


WRITER = """
import asyncio, sys
from pathlib import Path
from vclone_store_local import FolderStore

async def main():
    store = FolderStore(Path(sys.argv[1]))
    await store.start()
    async def put(n):
        await store.put(f"a/{n}", b"x" * 5000, size=5000)
        print(f"a/{n}", flush=True)
    for start in range(0, 100_000, 200):
        await asyncio.gather(*(put(n) for n in range(start, start + 200)))

asyncio.run(main())
"""


async def test_old_drafts_are_removed_at_start_and_new_ones_stay(store: FolderStore) -> None:
    old, new = store.root / "~incoming/old", store.root / "~incoming/new"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 90_000,) * 2)
    other = FolderStore(store.root)
    await other.start()
    await other.close()
    assert (old.exists(), new.exists()) == (False, True)


async def test_a_key_that_is_a_folder_of_another(store: FolderStore) -> None:
    await store.put("a/b", b"x", size=1)
    await store.put("c", b"x", size=1)
    for key, overwrite in (("a", False), ("a", True), ("c/d", False), ("c/d", True), ("c/d/e", False)):
        with pytest.raises(Invalid, match="folder of other objects"):
            await store.put(key, b"y", size=1, overwrite=overwrite)
    assert [info.key async for info in store.list("")] == ["a/b", "c"]


async def test_an_object_that_shrinks_while_it_is_read(store: FolderStore) -> None:
    await store.put("a", b"x" * 1_000_000, size=1_000_000)
    with pytest.raises(StoreUnavailable, match="early"):
        async with store.open("a") as body:
            async for _ in body.chunks:
                os.truncate(store.root / "a", 300_000)


async def test_a_replaced_object_is_read_to_its_old_end(store: FolderStore) -> None:
    old, new = b"a" * 1_000_000, b"b" * 10
    await store.put("a", old, size=len(old))
    async with store.open("a", Span(0, 999_999)) as body:
        await store.put("a", new, size=len(new), overwrite=True)
        await store.delete(["a"])
        assert b"".join([chunk async for chunk in body.chunks]) == old


async def test_no_file_stays_open(store: FolderStore) -> None:
    await store.put("a", b"x" * 1_000_000, size=1_000_000)
    before = len(os.listdir("/proc/self/fd"))

    async def read_some() -> None:
        async with store.open("a") as body:
            async for _ in body.chunks:
                await asyncio.sleep(0)

    for _ in range(50):
        task = asyncio.create_task(read_some())
        await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for _ in range(100):
        if len(os.listdir("/proc/self/fd")) <= before:
            break
        await asyncio.sleep(0.02)
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = make_store(StoreConfig(f"file://{tmp_path}/file/objects"))
    with pytest.raises(StoreUnavailable, match="Not a directory"):
        await store.start()
    await store.close()


@pytest.mark.parametrize("url", ["file:relative", "file://host/path", "file:", "file:///a%00b"])
def test_urls_that_name_no_folder(url: str) -> None:
    with pytest.raises(BadSettings, match="names no folder"):
        make_store(StoreConfig(url))


FILL = """
import asyncio
from pathlib import Path
from vclone_core import errors
from vclone_store_local import FolderStore

async def main():
    store = FolderStore(Path("{root}/objects"))
    await store.start()
    assert await store.put("small", b"x", size=1)
    try:
        await store.put("large", b"x" * 8_000_000, size=8_000_000)
    except errors.StoreUnavailable as error:
        print(error)
    assert await store.head("large") is None
    assert await store.put("after", b"y" * 100_000, size=100_000)
    await store.close()
    print(sorted(path.name for path in store.root.rglob("*")))

asyncio.run(main())
"""


def test_a_full_disk(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace for a small disk can be made here")
    script = 'mount -t tmpfs -o size=4m tmpfs "$1" && exec "$2" -c "$3"'
    code = FILL.format(root=tmp_path)
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), sys.executable, code],
        capture_output=True,
        text=True,
    )
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        "The object store does not answer: its disk is full.",
        "['after', 'small', '~incoming']",
    ]
