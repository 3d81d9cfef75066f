"""Addresses over SSH, the command that git starts, and what can be kept as host keys."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.rules.clones import check_git_url, plan_git_env
from vclone_core.rules.deploykeys import check_known_hosts, list_host_keys, normal_git_url, plan_ssh

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("git@github.com:me/app.git", "ssh://git@github.com/me/app.git"),
        ("git@github.com:/me/app.git", "ssh://git@github.com/me/app.git"),
        ("deploy-bot@git.example.com:app", "ssh://deploy-bot@git.example.com/app"),
        ("https://git.example.com/a:b", "https://git.example.com/a:b"),
        ("host:path", "host:path"),
        ("-oProxyCommand=x@host:path", "-oProxyCommand=x@host:path"),
        ("git@-oProxyCommand=x:path", "git@-oProxyCommand=x:path"),
    ],
)
def test_the_short_form_is_the_same_as_a_url(given: str, url: str) -> None:
    assert normal_git_url(given) == url


@pytest.mark.parametrize(
    "url",
    [
        "ssh://git@git.example.com/me/app.git",
        "ssh://git@git.example.com:2222/~me/app",
        "git@git.example.com:me/app.git",
    ],
)
def test_addresses_over_ssh_can_be_cloned(url: str) -> None:
    assert check_git_url(url, is_insecure_allowed=False) is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ssh://git.example.com/x", "needs a user"),
        ("ssh://git:secret@git.example.com/x", "no password"),
        ("ssh://-oProxyCommand=touch%20x/x", "needs a user"),
        ("ssh://-oProxyCommand=x@git.example.com/x", "needs a user"),
        ("ssh://git@-oProxyCommand=x/x", "no host"),
        ("ssh://git@git.example.com", "no repository"),
        ("ssh://git@127.0.0.1/x", "private network"),
        ("ssh://git@10.0.0.1/x", "private network"),
        ("git@localhost:x", "private network"),
        ("git@-oProxyCommand=x:path", "only https"),
        ("ext::sh -c touch% x", "characters"),
        ("file:///etc", "only https"),
    ],
)  # fmt: skip
def test_addresses_that_mean_harm_are_refused(url: str, words: str) -> None:
    problem = check_git_url(url, is_insecure_allowed=False)
    assert problem is not None and words in problem, problem


@given(st.text(max_size=60))
def test_nothing_that_passes_can_be_taken_for_an_option(text: str) -> None:
    for url in (text, f"ssh://{text}", f"ssh://git@{text}/x", f"{text}@host:x", f"git@{text}:x"):
        if check_git_url(url, is_insecure_allowed=True) is None:
            authority = normal_git_url(url).partition("://")[2]
            assert not authority.startswith("-") and "@-" not in authority.partition("/")[0]


def test_the_command_survives_the_shell_that_git_gives_it_to() -> None:
    words = shlex.split(plan_ssh("/data/it's $HOME/key", "/data/a b/known", is_pinned=True))
    assert words[:4] == ["ssh", "-F", "none", "-i"]
    assert words[4] == "/data/it's $HOME/key"
    assert 'UserKnownHostsFile="/data/a b/known"' in words
    assert "StrictHostKeyChecking=yes" in words
    assert "StrictHostKeyChecking=accept-new" in plan_ssh("k", "h", is_pinned=False)


def test_there_is_no_way_over_ssh_without_a_key() -> None:
    assert plan_git_env(is_insecure_allowed=True)["GIT_ALLOW_PROTOCOL"] == "https:http"
    with_key = plan_git_env(is_insecure_allowed=False, ssh="ssh -x")
    assert with_key["GIT_ALLOW_PROTOCOL"] == "https:ssh"
    assert "GIT_SSH_COMMAND" not in with_key


@pytest.mark.parametrize(
    ("text", "is_kept"),
    [
        ("", True),
        (f"git.example.com ssh-ed25519 {KEY}", True),
        (f"[git.example.com]:2222,10.1.2.3 ssh-ed25519 {KEY} a comment\n# from ssh-keyscan\n\n", True),
        (f"@cert-authority *.example.com ssh-ed25519 {KEY}", False),
        ("git.example.com", False),
        ("ProxyCommand touch x", False),
        (f"git.example.com ssh-ed25519 {KEY}" * 400, False),
        ("gît ssh-ed25519 AAAA", False),
    ],
)
def test_host_keys_are_lines_of_known_hosts(text: str, is_kept: bool) -> None:
    assert (check_known_hosts(text) is None) is is_kept


def test_fingerprints_are_those_that_hosts_publish() -> None:
    # GitHub's, as its documentation prints it.
    assert list_host_keys(f"github.com ssh-ed25519 {KEY}\n") == (
        ("github.com", "ssh-ed25519 SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"),
    )
