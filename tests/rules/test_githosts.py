"""What becomes of what git hosts tell, and the words they are told in."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from vclone_core.models import (
    Deployment,
    Failure,
    Project,
    ProjectSettings,
    PullRequest,
    PullRequestChanged,
    Source,
    State,
    StatusState,
    Target,
)
from vclone_core.rules.githosts import (
    BACKOFF_S,
    DESCRIPTION_LENGTH,
    Newest,
    PastPush,
    Shown,
    decide_rest,
    describe_entry,
    describe_state,
    find_repository,
    is_late,
    is_same_origin,
    is_there,
    name_preview,
    write_comment,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROJECT = Project("prj_1", "tem_1", "shop", "https://git.example/a/shop.git", ProjectSettings(), False, NOW)
SHA = "a" * 40
READY = Deployment(
    "dep_1", "prj_1", Target.PREVIEW, State.READY, Source("git", ref="x", sha=SHA), 1, 1, None, None, None, None, NOW,
    None, None,
)  # fmt: skip
PULL = PullRequest(7, True, "A title", "eve", "a/shop", None, "x", SHA, False, "x", None)
SHOWN = Shown("http://1-shop.localhost", "http://shop-git-x.localhost", "http://api/deployments/dep_1")


def comment(pull: PullRequest = PULL, deployment: Deployment | None = READY, shown: Shown | None = SHOWN) -> str:
    made = write_comment(PROJECT, pull, deployment, shown, project_url="http://api/projects/shop/git", marker="[//]: #")
    assert made.text.startswith("[//]: #\n\n")
    return made.text


# What came of a branch so far, as before>after; what comes; is it late?
@pytest.mark.parametrize(
    ("past", "push", "expected"),
    [
        ("", "a>b", False),
        (">a", "a>b", False),
        ("b>c", "a>b", True),
        ("a>b b>c", "c>b", False),  # a forced step back
        ("a>b b>c", "c>a", False),
        ("a>b b>c c>d", "a>b", True),
        (">a a>b", "b>", False),  # deleted
        (">a a>", ">b", False),  # made again
        (">a a> >b", "a>", True),  # the deletion comes late
        (">a", "b>", False),  # between them something was lost: it is gone all the same
        (">a", "b>c", False),
        ("a>b", "x>y", False),
    ],
)
def test_what_is_late_is_told_by_the_commits(past: str, push: str, expected: bool) -> None:
    known = [PastPush(*one.split(">")) for one in past.split()]
    before, sha = push.split(">")
    assert is_late(before=before, sha=sha, past=known) is expected


@pytest.mark.parametrize("state", State)
def test_a_commit_that_came_to_nothing_is_deployed_again(state: State) -> None:
    assert is_there(SHA, Newest("dep_1", SHA, state)) is (state not in (State.FAILED, State.CANCELLED))
    assert not is_there("b" * 40, Newest("dep_1", SHA, state))
    assert not is_there(SHA, None)


def change(head: str) -> PullRequestChanged:
    return PullRequestChanged("acme/shop", 7, True, head, None, "main", SHA)


def test_a_fork_has_a_name_of_its_own() -> None:
    assert name_preview(change("acme/shop")) == "main"
    assert name_preview(change("ACME/Shop")) == "main"
    assert name_preview(change("eve/shop")) == "pull/7"
    assert name_preview(change("")) == "pull/7"  # a repository that is gone


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("https://git.example/a", "https://GIT.example/b", True),
        ("https://git.example:8443/a", "https://git.example/b", False),
        ("http://git.example/a", "https://git.example/b", False),
        ("https://git.example.evil/a", "https://git.example/b", False),
        ("https://git.example@evil/a", "https://git.example/b", False),
        ("https://[::1/a", "https://git.example/b", False),
        (None, "https://git.example/b", False),
        ("https://git.example/a", None, False),
    ],
)
def test_of_one_server(one: str | None, other: str | None, expected: bool) -> None:
    assert is_same_origin(one, other) is expected


def test_the_repository_in_an_address() -> None:
    assert find_repository("https://github.com/acme/shop") == ("https://github.com", "acme/shop")
    assert find_repository("https://x/acme/shop.git/") == ("https://x", "acme/shop")


@pytest.mark.parametrize("state", State)
def test_every_state_has_words(state: State) -> None:
    told, words = describe_state(replace(READY, state=state))
    assert told in StatusState
    assert words
    assert describe_entry(PROJECT, replace(READY, state=state), url="u", log_url="l").url == (
        "u" if state is State.READY else ""
    )


def test_words_are_one_short_line() -> None:
    failure = Failure("build_failed", "It\nbroke: " + "x" * 300, "", "build")
    told, words = describe_state(replace(READY, state=State.FAILED, failure=failure))
    assert told is StatusState.FAILURE
    assert words.startswith("Failed: It broke: x")
    assert len(words) == DESCRIPTION_LENGTH
    assert words.endswith("…")
    skipped = replace(READY, state=State.SKIPPED, reason="the commit message says [skip ci]")
    assert describe_state(skipped) == (StatusState.SUCCESS, "Skipped: the commit message says [skip ci]")


def test_the_comment_says_how_things_stand() -> None:
    assert "[Visit](http://shop-git-x.localhost)" in comment()
    assert "[Visit](http://1-shop.localhost)" in comment(shown=replace(SHOWN, branch_url=""))
    assert "is gone" in comment(replace(PULL, is_open=False))
    assert "not deployed yet" in comment(deployment=None, shown=None)
    building = comment(deployment=replace(READY, state=State.BUILDING))
    assert "Being built" in building
    assert "Visit" not in building
    fork = replace(PULL, is_fork=True)
    assert "approves it" in comment(fork)
    assert "[Visit]" in comment(replace(fork, approved_sha=SHA))


def test_what_strangers_write_is_no_markdown() -> None:
    failure = Failure("x", "a | b <img src=x> [c](d) @all `e`", "", None)
    text = comment(deployment=replace(READY, state=State.FAILED, failure=failure))
    assert r"a \| b \<img src=x\> \[c\]\(d\) \@all \`e\`" in text


def test_rests_grow_and_end() -> None:
    rests = [decide_rest(attempt) for attempt in range(1, len(BACKOFF_S) + 2)]
    assert rests == [*BACKOFF_S, None]
    assert decide_rest(1, asked_s=10**9) == BACKOFF_S[-1]
