"""Repositories over SSH: which addresses, by which command, which host keys are believed. Asked by the clone step."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import shlex
from dataclasses import dataclass
from typing import Final

# user@host:path, as git and its hosts write it.
_SCP: Final = re.compile(r"([A-Za-z0-9._][A-Za-z0-9._-]{0,63})@([A-Za-z0-9][A-Za-z0-9.-]{0,252}):(?!//)/?(.+)")
_USER: Final = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]{0,63}")
_KIND: Final = r"ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp(?:256|384|521)|sk-[a-z0-9-]+@openssh\.com"
# No markers: a line stands for one key of one host.
_HOST_LINE: Final = re.compile(
    rf"(?P<hosts>[^\s#@]\S*)[ \t]+(?P<kind>{_KIND})[ \t]+(?P<key>AAAA[A-Za-z0-9+/]+={{0,2}})(?:[ \t].*)?"
)
KNOWN_HOSTS_CHARS: Final = 16_384


@dataclass(frozen=True, slots=True, repr=False)
class DeployKey:
    """What opens one project's repository over SSH. `known_hosts` is empty until a host was met or named."""

    id: str
    private_key: str
    known_hosts: str


def normal_git_url(url: str) -> str:
    """Return an address as a URL: `git@host:me/x.git` is the same as `ssh://git@host/me/x.git`.

    >>> normal_git_url("git@git.example.com:me/app.git")
    'ssh://git@git.example.com/me/app.git'
    """
    if "://" in url or (match := _SCP.fullmatch(url)) is None:
        return url
    user, host, path = match.groups()
    return f"ssh://{user}@{host}/{path}"


def is_ssh_user(text: str) -> bool:
    """Say whether a text can be the user of an address."""
    return bool(_USER.fullmatch(text))


def plan_ssh(key_path: str, known_hosts_path: str, *, is_pinned: bool) -> str:
    """Return what git starts as `ssh`: with this one key, no agent, no configuration, no prompt and nothing forwarded.

    A host that is not known yet is believed once, unless others are (`is_pinned`); one whose key is another than that
    which is known is never talked to. git gives the text to a shell, so each word is quoted for it.
    """
    options = {
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "BatchMode": "yes",
        "PreferredAuthentications": "publickey",
        "StrictHostKeyChecking": "yes" if is_pinned else "accept-new",
        "UserKnownHostsFile": known_hosts_path,
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "HashKnownHosts": "no",
        "CheckHostIP": "no",
        "VerifyHostKeyDNS": "no",
        "ClearAllForwardings": "yes",
        "ForwardAgent": "no",
        "PermitLocalCommand": "no",
        "ConnectTimeout": "20",
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "3",
        "LogLevel": "ERROR",
    }
    words = ["ssh", "-F", "none", "-i", key_path]
    for name, value in options.items():
        # ssh parts the paths of a file option at blanks, and knows quotes.
        words += ["-o", f'{name}="{value}"' if name.endswith("File") else f"{name}={value}"]
    return shlex.join(words)


def check_known_hosts(text: str) -> str | None:
    """Say why a text can't be kept as host keys; None when it can: lines of ssh's known_hosts, without markers."""
    if len(text) > KNOWN_HOSTS_CHARS or not text.isascii():
        return f"must be at most {KNOWN_HOSTS_CHARS} ASCII characters"
    lines = [line.strip() for line in text.splitlines()]
    for line in lines:
        if line and not line.startswith("#") and not _HOST_LINE.fullmatch(line):
            return "must be lines of ssh's known_hosts, as `ssh-keyscan HOST` prints them"
    return None


def list_host_keys(text: str) -> tuple[tuple[str, str], ...]:
    """Return each host in known_hosts lines, with its key's kind and fingerprint as ssh prints them."""
    found = []
    for line in text.splitlines():
        if (match := _HOST_LINE.fullmatch(line.strip())) is not None:
            found.append((match["hosts"], f"{match['kind']} {fingerprint(match['key'])}"))
    return tuple(found)


def fingerprint(key: str) -> str:
    """Return the fingerprint of a public key's base64, as `ssh-keygen -l` prints it."""
    try:
        data = base64.b64decode(key, validate=True)
    except binascii.Error:
        return "SHA256:?"
    return "SHA256:" + base64.b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
