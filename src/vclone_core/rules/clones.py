"""What git is asked for a build's source, and what its answers mean. Asked by the clone step.

A stranger's text becomes an argument only after it passed here, and always behind `--`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from vclone_core.models import Source
from vclone_core.rules.deploykeys import is_ssh_user, normal_git_url

_CONTROL: Final = re.compile(r"[\x00-\x20\x7f\\]")
_HOST: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,62}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62})?)*")
# The characters of `git check-ref-format`, fewer than git's own.
_REF: Final = re.compile(r"[A-Za-z0-9._/@+=#-]{1,200}")
_SHA: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")

# Old commits with these slips are common and harmless; what could harm a checkout stays refused.
_FORGIVEN: Final = (
    "badTimezone", "missingSpaceBeforeDate", "missingSpaceBeforeEmail", "missingNameBeforeEmail", "missingEmail",
    "zeroPaddedDate", "zeroPaddedFilemode", "badFilemode", "multipleAuthors", "badDateOverflow",
)  # fmt: skip
_GIT: Final = (
    "git",
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.fsmonitor=false",
    "-c", "core.protectHFS=true",
    "-c", "core.protectNTFS=true",
    "-c", "submodule.recurse=false",
    "-c", "fetch.fsckObjects=true",
    *(word for name in _FORGIVEN for word in ("-c", f"fetch.fsck.{name}=ignore")),
    "-c", "http.followRedirects=false",
    "-c", "http.lowSpeedLimit=1000",
    "-c", "http.lowSpeedTime=30",
    "-c", "gc.auto=0",
    "-c", "advice.detachedHead=false",
    "-c", "init.defaultBranch=main",
)  # fmt: skip
EMPTY_REPOSITORY: Final = "couldn't find remote ref HEAD"


@dataclass(frozen=True, slots=True, repr=False)
class GitAccess:
    """What opens the private repositories of one `origin` (`https://host[:port]`): an account and its token."""

    origin: str
    account: str
    token: str


@dataclass(frozen=True, slots=True)
class CloneProblem:
    """Why a clone can't be: what git or the rules found, and what to do about it.

    `is_passing`: the host is at fault, and may not be a moment later.
    """

    what: str
    hint: str | None = None
    is_passing: bool = False


def check_git_url(url: str, *, is_insecure_allowed: bool) -> str | None:
    """Say why a repository can't be cloned from `url`; None when it can.

    `https://host/path` without credentials, `ssh://user@host/path` or the same as `user@host:path`, and not on this
    machine or a private network; with `is_insecure_allowed` also `http://`, and any host.
    """
    url = normal_git_url(url)
    if len(url) > 2000 or _CONTROL.search(url) or url.startswith("-"):
        return "the address has characters that no address has"
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return "the address is malformed"
    if parts.scheme not in ("https", "ssh") and not (parts.scheme == "http" and is_insecure_allowed):
        return "only https:// and ssh:// addresses can be cloned"
    if parts.scheme == "ssh":
        if parts.password is not None or not is_ssh_user(parts.username or ""):
            return "an ssh:// address needs a user, as in ssh://git@host/path, and no password"
    elif "@" in parts.netloc:
        return "the address holds credentials, which would be shown to everybody who sees the project"
    if parts.query or parts.fragment or not parts.path.strip("/"):
        return "the address names no repository"
    address = _parse_address(host)
    if address is None and not _HOST.fullmatch(host):
        return "the address has no host"
    if is_insecure_allowed:
        return None
    if address is not None and not address.is_global:
        return "the address is on a private network"
    if host == "localhost" or host.endswith((".localhost", ".internal", ".local")):
        return "the address is on a private network"
    return None


def check_git_ref(ref: str) -> str | None:
    """Say why `ref` can't be the name of a branch or tag (the rules of `git check-ref-format`); None when it can."""
    parts = ref.split("/")
    is_bad = (
        not _REF.fullmatch(ref)
        or ref.startswith("-")
        or ref.endswith(".")
        or ".." in ref
        or "@{" in ref
        or ref == "@"
        or any(not part or part.startswith(".") or part.endswith(".lock") for part in parts)
    )
    return "this is no name of a branch or tag" if is_bad else None


def check_source(source: Source, *, is_insecure_allowed: bool) -> str | None:
    """Say why a git source can't be cloned before anything is run; None when it may be tried."""
    if source.url is None:
        return "the project has no git address"
    if problem := check_git_url(source.url, is_insecure_allowed=is_insecure_allowed):
        return problem
    if source.ref is not None and (problem := check_git_ref(source.ref)):
        return problem
    if source.sha is not None and not _SHA.fullmatch(source.sha):
        return "this is no commit id; it must be 40 hex digits"
    return None


def plan_init() -> tuple[str, ...]:
    """Return the command that makes the empty repository to fetch into, in the current folder."""
    return (*_GIT, "init", "--quiet", "--template=", "--", ".")


def plan_fetch(source: Source, *, depth: int = 1) -> tuple[tuple[str, ...], ...]:
    """Return the commands that may bring the wanted commit, to be tried in order until one succeeds.

    An exact commit is asked for by itself, then, where the server gives no single commits, looked for behind its
    branch. A name is a branch before it is a tag.
    """
    assert source.url is not None
    if source.sha is not None:
        behind = f"refs/heads/{source.ref}" if source.ref else "HEAD"
        return (_fetch(source.url, source.sha, depth), _fetch(source.url, behind, 200))
    if source.ref is not None:
        return tuple(_fetch(source.url, f"refs/{kind}/{source.ref}", depth) for kind in ("heads", "tags"))
    return (_fetch(source.url, "HEAD", depth),)


def _fetch(url: str, wanted: str, depth: int) -> tuple[str, ...]:
    options = ("--quiet", "--no-tags", "--no-recurse-submodules", f"--depth={depth}")
    return (*_GIT, "fetch", *options, "--", url, wanted)


def plan_checkout(source: Source) -> tuple[str, ...]:
    """Return the command that lays the fetched commit out."""
    return (*_GIT, "checkout", "--quiet", "--force", "--detach", source.sha or "FETCH_HEAD", "--")


def plan_describe() -> tuple[str, ...]:
    """Return the command that prints commit id, author and message of what is checked out, parted by NULs."""
    return (*_GIT, "log", "-1", "--no-show-signature", "--format=%H%x00%an%x00%B")


def plan_changes(since: str) -> tuple[str, ...]:
    """Return the command that lists what differs between the commit `since` and what is checked out, parted by NULs.

    Both names of a moved file are among it.
    """
    return (*_GIT, "diff", "--name-only", "--no-renames", "--no-ext-diff", "--no-textconv", "-z", since, "HEAD", "--")


def parse_changes(output: str) -> tuple[str, ...]:
    """Return the paths in the answer to `plan_changes`."""
    return tuple(path for path in output.split("\0") if path)


def plan_submodules() -> tuple[str, ...]:
    """Return the command that registers the submodules of the current folder's commit, with absolute addresses."""
    return (*_GIT, "submodule", "--quiet", "init")


def plan_submodule_list() -> tuple[str, ...]:
    """Return the command that prints the registered submodules' addresses; it fails where there is none."""
    return (*_GIT, "config", "--local", "--null", "--get-regexp", r"^submodule\..*\.url$")


def plan_submodule_paths() -> tuple[str, ...]:
    """Return the command that prints where the submodules of the current folder's commit lie."""
    return (*_GIT, "config", "--file", ".gitmodules", "--null", "--get-regexp", r"^submodule\..*\.path$")


def parse_settings(output: str) -> tuple[str, ...]:
    """Return the values in what `git config --null --get-regexp` printed."""
    return tuple(entry.partition("\n")[2] for entry in output.split("\0") if "\n" in entry)


def plan_submodule_update(*, depth: int | None) -> tuple[str, ...]:
    """Return the command that lays the registered submodules out, not their own ones."""
    shallow = ("--depth", str(depth)) if depth else ()
    return (*_GIT, "submodule", "--quiet", "update", "--no-recommend-shallow", *shallow)


def set_remote(url: str) -> tuple[str, ...]:
    """Return the command that tells git where the current repository came from: relative addresses start there."""
    return (*_GIT, "config", "--local", "remote.origin.url", url)


def plan_lfs_version() -> tuple[str, ...]:
    """Return the command that tells whether there is a git-lfs."""
    return (*_GIT, "lfs", "version")


def plan_lfs(url: str) -> tuple[str, ...]:
    """Return the command that puts large files in the place of their pointers.

    The server is the repository's own, whatever `.lfsconfig` says.
    """
    server = f"{url.rstrip('/').removesuffix('.git')}.git/info/lfs"
    settings = (f"lfs.url={server}", "filter.lfs.clean=git-lfs clean -- %f", "filter.lfs.smudge=git-lfs smudge -- %f")
    return (*_GIT, *(word for setting in settings for word in ("-c", setting)), "lfs", "pull")


def plan_branches(url: str) -> tuple[str, ...]:
    """Return the command that lists a repository's branches, for the hint after an unknown one."""
    return (*_GIT, "ls-remote", "--heads", "--quiet", "--", url)


def parse_branches(output: str) -> tuple[str, ...]:
    """Return the branch names in `git ls-remote --heads`."""
    return tuple(line.partition("\trefs/heads/")[2] for line in output.splitlines() if "\trefs/heads/" in line)


# How git asks for a token: the words are in the environment of the command, and in no argument or file.
_HELPER: Final = '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$GIT_ACCOUNT" "$GIT_TOKEN"; }; f'


def plan_git_env(
    *, is_insecure_allowed: bool, access: GitAccess | None = None, ssh: str | None = None
) -> dict[str, str]:
    """Return the environment of every git command: no prompts, no other transports, no configuration of anybody's.

    With `access` git gives that origin, and no other, the token when it asks for one. Without `ssh`, the command that
    git starts for such addresses, there is no way to them.
    """
    settings = [("credential.helper", "")]
    secrets = {}
    if access is not None:
        settings.append((f"credential.{access.origin}.helper", _HELPER))
        secrets = {"GIT_ACCOUNT": access.account, "GIT_TOKEN": access.token}
    protocols = ["https"]
    if is_insecure_allowed:
        protocols.append("http")
    if ssh is not None:
        settings += [("core.sshCommand", ssh), ("ssh.variant", "ssh")]
        protocols.append("ssh")
    configuration = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings):
        configuration |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return {
        **configuration,
        **secrets,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_ALLOW_PROTOCOL": ":".join(protocols),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C.UTF-8",
    }


def explain_clone(output: str, source: Source) -> CloneProblem:
    """Return the cause behind git's own words, in ours."""
    for pattern, what, hint in _CAUSES:
        if re.search(pattern, output):
            is_passing = what == _UNREACHABLE
            return CloneProblem(what.format_map({"ref": source.ref, "sha": source.sha}), hint, is_passing)
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "git gave no reason")
    return CloneProblem(re.sub(r"^(?:fatal|error|remote): ", "", last.strip()))


def is_empty_repository(output: str, source: Source) -> bool:
    """Say whether a fetch failed because there is no commit at all."""
    return source.ref is None and EMPTY_REPOSITORY in output


_UNREACHABLE: Final = "the host of the repository does not answer"
# What git says -> what happened, and what to do. The first that is found counts.
_CAUSES: Final[tuple[tuple[str, str, str | None], ...]] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key verification failed",
        "the host shows another key than the one that is known of it",
        "If the host has really changed its key: `vclone deploykey trust`, with its new key or without any.",
    ),
    (
        r"Permission denied \(publickey|Load key .*: ",
        "the host does not take the project's deploy key",
        "Add the public key that `vclone deploykey show` prints to the repository, for reading.",
    ),
    (
        r"Authentication failed|could not read Username|terminal prompts disabled|requested URL returned error: 40[13]",
        "the repository is private",
        "Give this platform access to the repository, or make it public.",
    ),
    (
        r"requested URL returned error: 404|[Rr]epository not found|not found$|does not appear to be a git repository",
        "there is no repository at this address, or it is private",
        None,
    ),
    (
        r"Could not resolve host|Failed to connect|Connection refused|Connection timed out|Couldn't connect"
        r"|Operation too slow|Connection reset|Empty reply|requested URL returned error: 5\d\d"
        r"|(?:HTTP code|response) 50[24]|Connection closed by|port 22: No route|Network is unreachable",
        _UNREACHABLE,
        "Check the address, and that this machine reaches the host.",
    ),
    (r"SSL certificate|certificate verify|SSL_ERROR|TLS", "the host's certificate is not trusted", None),
    (
        r"couldn't find remote ref refs/",
        "the repository has no branch or tag {ref}",
        "Push the branch, or deploy another one.",
    ),
    (
        r"not our ref|unadvertised object|reference is not a tree|unable to read tree",
        "the repository has no commit {sha}",
        "It may have been removed by a forced push: deploy the branch again.",
    ),
    (r"redirect|returned error: 30\d", "the address redirects to another one", "Use the repository's own address."),
    (
        r"transport 'ssh' not allowed|protocol 'ssh' is not",
        "the project has no deploy key for ssh:// addresses",
        "Make one with `vclone deploykey create`, and add it to the repository; or use the https:// address.",
    ),
    (r"protocol '?\w+'? not (?:allowed|supported)", "only https:// and ssh:// addresses can be cloned", None),
    (r"fsck|malformed|bad tree|hasDot", "the repository holds objects that git refuses as damaged or dangerous", None),
    (r"No space left on device", "the disk of this machine is full", None),
)


def _parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        # What C libraries take for an address: 127.1, 0x7f000001, 2130706433.
        if re.fullmatch(r"(?:0x[0-9a-f]+|\d+)(?:\.(?:0x[0-9a-f]+|\d+)){0,3}", host):
            return ipaddress.IPv4Address("127.0.0.1")
        return None
