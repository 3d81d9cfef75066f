"""workspaces: what is cleaned up belongs to no build that runs."""

from __future__ import annotations

from pathlib import Path

from vclone_core.build.workspaces import list_workspaces, make_workspace, remove_leftovers


async def test_a_running_build_keeps_its_folders_and_others_lose_theirs(tmp_path: Path) -> None:
    for name in ("dep_a-1", "dep_a-1.home", "dep_b-1", "dep_b-1.home", "dep_a-2"):
        (await make_workspace(tmp_path, name) / "file").touch()
    await remove_leftovers(list_workspaces(tmp_path), keep={"dep_a-1"})
    assert [path.name for path in list_workspaces(tmp_path)] == ["dep_a-1", "dep_a-1.home"]


async def test_a_workspace_begins_empty(tmp_path: Path) -> None:
    (await make_workspace(tmp_path, "dep_a-1") / "old").touch()
    assert list((await make_workspace(tmp_path, "dep_a-1")).iterdir()) == []
