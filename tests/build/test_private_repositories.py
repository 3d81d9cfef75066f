"""Private repositories, submodules and large files: what is fetched, and that no token is to be found anywhere."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from tests.build.conftest import Place
from tests.contracts.runners import make_runner
from tests.git_server import TOKEN, GitServer, run_git
from tests.needs import lacks

from vclone_core.errors import CloneFailed, SourceUnreachable
from vclone_core.models import ProjectSettings, Source
from vclone_core.rules.clones import GitAccess

# Looks for the token where a build command can look.
SEARCH = f"""mkdir dist
wanted='[{TOKEN[4]}]{TOKEN[5:]}'
{{ env; cat /proc/*/environ /proc/*/cmdline; cat .git/config .git/FETCH_HEAD; }} 2>/dev/null |
    grep -a "$wanted" > dist/found
grep -ra "$wanted" "$HOME" .. 2>/dev/null >> dist/found
git fetch --quiet origin 2>&1; git fetch --quiet "$VCLONE_GIT_URL" 2>&1
echo ok > dist/index.html
"""
BUILT = ProjectSettings(framework="static", build_command="sh make.sh", output_directory="dist")


@pytest.fixture
def private(place: Place, git: GitServer) -> str:
    place.access = GitAccess(git.url, "x-access-token", TOKEN)
    return git.address("private/app")


async def test_a_token_opens_a_private_repository_and_is_found_nowhere(
    place: Place, git: GitServer, private: str
) -> None:
    sha = git.commit("private/app", {"make.sh": SEARCH})
    manifest = await place.deploy(Source("git", url=private, ref="main"), settings=BUILT)
    assert await place.read(manifest.files["/found"].sha256) == b""
    assert place.lines.sources[-1].sha == sha
    assert TOKEN not in place.lines.text
    assert TOKEN not in repr(place.access)
    assert ("/private/app.git/info/refs", f"x-access-token:{TOKEN}") in git.asked
    # The build itself could not fetch.
    assert git.asked[-1] == ("/private/app.git/info/refs", "")


async def test_without_a_token_it_is_private(place: Place, git: GitServer, private: str) -> None:
    git.commit("private/app", {"index.html": "x"})
    for access in (None, GitAccess(git.url, "x", "wrong-token"), GitAccess("http://127.0.0.1:1", "x", TOKEN)):
        place.access = access
        with pytest.raises(CloneFailed, match="private"):
            await place.deploy(Source("git", url=private))
    assert TOKEN not in str(git.asked)


async def test_a_public_repository_is_not_shown_the_token(place: Place, git: GitServer, private: str) -> None:
    git.commit("open", {"index.html": "x"})
    await place.deploy(Source("git", url=git.address("open")))
    assert {given for _, given in git.asked} == {""}


async def test_a_redirect_is_not_followed_with_the_token(place: Place, git: GitServer, private: str) -> None:
    git.commit("private/app", {"index.html": "x"})
    with pytest.raises(CloneFailed, match="redirects"):
        await place.deploy(Source("git", url=f"{git.url}/moved/private/app.git"))
    assert TOKEN not in str(git.asked)


def add_submodule(git: GitServer, name: str, address: str, path: str, sha: str, files: dict[str, str]) -> str:
    """Commit files, and at `path` a submodule, whatever its address is."""
    git.commit(name, files | {".gitmodules": f'[submodule "m"]\n\tpath = {path}\n\turl = {address}\n'})
    env = {"GIT_DIR": str(git.root / f"{name}.git"), "GIT_INDEX_FILE": str(git.root / f".{name}.index")}
    run_git(git.root, "read-tree", "main", env=env)
    run_git(git.root, "update-index", "--add", "--cacheinfo", f"160000,{sha},{path}", env=env)
    tree = run_git(git.root, "write-tree", env=env)
    made = run_git(git.root, "commit-tree", tree, "-p", "main", "-m", "module", env=env)
    run_git(git.root, "update-ref", "refs/heads/main", made, env=env)
    return made


WITH_MODULES = ProjectSettings(git_submodules=True)


async def test_submodules_are_an_option_and_theirs_are_there_too(place: Place, git: GitServer) -> None:
    inner = git.commit("inner", {"deep.html": "deep"})
    middle = add_submodule(git, "middle", "../inner.git", "sub", inner, {"middle.html": "x"})
    add_submodule(git, "outer", git.address("middle"), "lib", middle, {"index.html": "x"})
    source = Source("git", url=git.address("outer"))
    assert set((await place.deploy(source)).files) == {"/index.html"}
    manifest = await place.deploy(source, settings=WITH_MODULES)
    assert set(manifest.files) == {"/index.html", "/lib/middle.html", "/lib/sub/deep.html"}


@pytest.mark.parametrize(
    "address",
    [
        "{root}/secret.git", "file://{root}/secret.git", "ext::sh -c touch% {root}/canary",
        "--upload-pack=touch {root}/canary", "ssh://-oProxyCommand=touch%20canary/x",
        "https://user:password@127.0.0.1/x.git",
    ],
)  # fmt: skip
async def test_a_submodule_s_address_is_judged_like_any(place: Place, git: GitServer, address: str) -> None:
    secret = git.commit("secret", {"secret.html": "x"})
    add_submodule(git, "outer", address.format(root=git.root), "lib", secret, {"index.html": "x"})
    with pytest.raises(CloneFailed):
        await place.deploy(Source("git", url=git.address("outer")), settings=WITH_MODULES)
    assert not (git.root / "canary").exists()
    assert not list((place.folder / "work").rglob("secret.html"))


async def test_a_submodule_on_a_private_network_is_refused(place: Place, git: GitServer) -> None:
    """With the rule that holds without `git_allow_insecure`: the repository itself is not cloned either."""
    from vclone_core.rules.clones import check_git_url

    assert check_git_url("https://169.254.169.254/x.git", is_insecure_allowed=False)
    sha = git.commit("secret", {"secret.html": "x"})
    add_submodule(git, "outer", "http://127.0.0.1:1/x.git", "lib", sha, {"index.html": "x"})
    with pytest.raises(SourceUnreachable):
        await place.deploy(Source("git", url=git.address("outer")), settings=WITH_MODULES)


def need_lfs() -> None:
    if shutil.which("git-lfs") is None:
        lacks("git-lfs is missing: apt-get install git-lfs")


async def test_large_files_are_an_option(place: Place, git: GitServer, private: str) -> None:
    need_lfs()
    content = b"large" * 1000
    oid = hashlib.sha256(content).hexdigest()
    (git.root / "lfs").mkdir()
    (git.root / "lfs" / oid).write_bytes(content)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"
    files = {
        "a.bin": pointer, ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n",
        # A hostile server of its own is not asked.
        ".lfsconfig": "[lfs]\n\turl = http://127.0.0.1:1/evil\n",
    }  # fmt: skip
    git.commit("private/app", files)
    source = Source("git", url=private)
    kept = await place.deploy(source)
    assert (await place.read(kept.files["/a.bin"].sha256)).decode() == pointer
    manifest = await place.deploy(source, settings=ProjectSettings(git_lfs=True))
    assert await place.read(manifest.files["/a.bin"].sha256) == content
    assert TOKEN not in place.lines.text


async def test_without_git_lfs_it_says_so(place: Place, git: GitServer, tmp_path: Path) -> None:
    git.commit("app", {"index.html": "x"})
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "git").write_text('#!/bin/sh\ncase " $* " in *" lfs "*) exit 1;; esac\nexec /usr/bin/git "$@"\n')
    (tools / "git").chmod(0o755)
    place.runner = make_runner("process", path=f"{tools}:/usr/bin:/bin", visible=str(tools))
    with pytest.raises(CloneFailed, match="no git-lfs"):
        await place.deploy(Source("git", url=git.address("app")), settings=ProjectSettings(git_lfs=True))
