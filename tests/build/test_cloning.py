"""Cloning: which commit, how much of it, what is refused before it runs, and what is said of a clone that can't be."""

from __future__ import annotations

import pytest
from tests.build.conftest import Place
from tests.git_server import GitServer, run_git

from vclone_core.errors import CloneFailed, EmptySource, SourceUnreachable, VcloneError
from vclone_core.models import Source


async def test_git_repository_is_cloned_at_its_default_branch(place: Place, git: GitServer) -> None:
    sha = git.commit("site", {"index.html": "one"}, message="First\n\nbody")
    manifest = await place.deploy(Source("git", url=git.address("site")))
    assert set(manifest.files) == {"/index.html"}
    (source,) = place.lines.sources
    assert (source.sha, source.author, source.message) == (sha, "Ada", "First\n\nbody")


async def test_branch_tag_and_exact_commit(place: Place, git: GitServer) -> None:
    old = git.commit("site", {"old.html": "1"})
    git.commit("site", {"new.html": "2"})
    git.commit("site", {"other.html": "3"}, branch="feat/x")
    run_git(git.root / "site.git", "tag", "v1", old)
    for ref, sha, page in ((None, None, "/new.html"), ("feat/x", None, "/other.html"), ("v1", None, "/old.html"),
                           ("main", old, "/old.html"), (None, old, "/old.html")):  # fmt: skip
        manifest = await place.deploy(Source("git", url=git.address("site"), ref=ref, sha=sha))
        assert set(manifest.files) == {page}


async def test_clone_is_shallow_and_follows_no_submodule(place: Place, git: GitServer) -> None:
    git.commit("site", {"index.html": "1"})
    module = f'[submodule "x"]\n\tpath = x\n\turl = {git.address("site")}\n'
    git.commit("site", {"index.html": "2", ".gitmodules": module})
    manifest = await place.deploy(Source("git", url=git.address("site")))
    assert set(manifest.files) == {"/index.html"}
    cloned = place.folder / "work/dep_00000000000000000001/source"
    assert run_git(cloned, "rev-list", "--count", "HEAD") == "1"
    assert not (cloned / ".git/hooks").exists()


async def test_repository_that_would_run_something_is_refused(place: Place, git: GitServer) -> None:
    canary = place.folder / "canary"
    module = f'[submodule "x"]\n\tpath = x\n\turl = {git.address("site")}\n\tupdate = !touch {canary}\n'
    git.commit("site", {"index.html": "2", ".gitmodules": module})
    with pytest.raises(CloneFailed, match="dangerous"):
        await place.deploy(Source("git", url=git.address("site")))
    assert not canary.exists()


@pytest.mark.parametrize(
    ("changes", "words", "error"),
    [
        ({"url": "{server}/none.git"}, "no repository", CloneFailed),
        ({"url": "{server}/private/site.git"}, "private", CloneFailed),
        ({"url": "{server}/moved/site.git"}, "redirects", CloneFailed),
        # What may be otherwise a moment later is tried again.
        ({"url": "{server}/broken/site.git"}, "does not answer", SourceUnreachable),
        ({"url": "http://127.0.0.1:1/site.git"}, "does not answer", SourceUnreachable),
        ({"url": "http://no-such-host.invalid/site.git"}, "does not answer", SourceUnreachable),
        ({"ref": "no-such-branch"}, "no branch or tag no-such-branch", CloneFailed),
        ({"sha": "0123456789012345678901234567890123456789"}, "no commit 0123", CloneFailed),
    ],
)
async def test_clone_failure_names_its_cause(
    place: Place, git: GitServer, changes: dict[str, str], words: str, error: type[VcloneError]
) -> None:
    git.commit("site", {"index.html": "1"})
    fields = {"url": git.address("site"), **changes}
    fields["url"] = fields["url"].replace("{server}", git.url)
    with pytest.raises(error) as caught:
        await place.deploy(Source("git", **fields))
    assert words in caught.value.sentence
    assert caught.value.advice


async def test_unknown_branch_lists_those_that_exist(place: Place, git: GitServer) -> None:
    git.commit("site", {"index.html": "1"})
    git.commit("site", {"index.html": "1"}, branch="next")
    with pytest.raises(CloneFailed) as caught:
        await place.deploy(Source("git", url=git.address("site"), ref="nxt"))
    assert "main, next" in caught.value.advice


async def test_empty_repository_and_empty_folder_are_empty_sources(place: Place, git: GitServer) -> None:
    run_git(git.root, "init", "--quiet", "--bare", "empty.git")
    git.commit("void", {})
    for name in ("empty", "void"):
        with pytest.raises(EmptySource):
            await place.deploy(Source("git", url=git.address(name)))
    with pytest.raises(EmptySource):
        await place.deploy(Source("upload"), files={})


@pytest.mark.parametrize(
    "hostile",
    [
        {"url": "ext::sh -c touch% {canary}"},
        {"url": "--upload-pack=touch {canary}"},
        {"url": "file:///etc"},
        {"url": "/etc"},
        {"url": "ssh://-oProxyCommand=touch%20{canary}/x"},
        {"url": "git@example.org:a/b.git"},
        {"url": "https://user:secret@example.org/a.git"},
        {"url": "https://example.org/a b\n.git"},
        {"ref": "--upload-pack=touch {canary}"},
        {"ref": "-x"},
        {"ref": "a..b"},
        {"ref": "refs/../../x"},
        {"ref": "a b"},
        {"ref": "$(touch {canary})"},
        {"ref": "a:refs/heads/b"},
        {"sha": "--upload-pack=touch {canary}"},
        {"sha": "HEAD"},
    ],
)
async def test_hostile_source_runs_nothing(place: Place, git: GitServer, hostile: dict[str, str]) -> None:
    git.commit("site", {"index.html": "1"})
    canary = place.folder / "canary"
    fields = {"url": git.address("site")} | {
        key: text.replace("{canary}", str(canary)) for key, text in hostile.items()
    }
    with pytest.raises(CloneFailed):
        await place.deploy(Source("git", **fields))
    assert not canary.exists()
    assert "secret" not in place.lines.text


async def test_loopback_is_cloned_only_when_the_operator_says_so(place: Place, git: GitServer) -> None:
    git.commit("site", {"index.html": "1"})
    with pytest.raises(CloneFailed, match="https"):
        await place.deploy(Source("git", url=git.address("site")), allow_insecure=False)
