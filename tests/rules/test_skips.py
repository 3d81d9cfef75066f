"""Which pushes need no build, as tables."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.rules.skips import check_watch_paths, decide_unaffected, decide_watched, find_marker, is_watched
from vclone_core.rules.workspaces import Package


@pytest.mark.parametrize("marker", ["[skip ci]", "[ci skip]", "[skip deploy]", "[vclone skip]", "[SKIP CI]"])
def test_a_marker_anywhere_in_the_message_skips(marker: str) -> None:
    assert find_marker(f"docs: mend a typo\n\nNo need to build. {marker}") is not None


@pytest.mark.parametrize("message", [None, "", "skip ci", "[skip", "Explain how ci skips"])
def test_words_without_brackets_skip_nothing(message: str | None) -> None:
    assert find_marker(message) is None


@pytest.mark.parametrize(
    ("patterns", "path", "expected"),
    [
        (("apps/shop",), "apps/shop/a.js", True),
        (("apps/shop/",), "apps/shop/deep/a.js", True),
        (("apps/shop",), "apps/shopping/a.js", False),
        (("apps/*/src/**",), "apps/shop/src/a/b.js", True),
        (("*.js",), "a.js", True),
        (("*.js",), "lib/a.js", False),
        (("**/*.js",), "a.js", True),
        (("!docs",), "src/a.js", True),
        (("!docs",), "docs/a.md", False),
        (("apps", "!**/*.md", "apps/README.md"), "apps/README.md", True),
        (("apps", "!**/*.md", "apps/README.md"), "apps/b.md", False),
        (("weird[1].txt",), "weird[1].txt", True),
        (("package.json",), "apps/package.json", False),
    ],
)
def test_watch_paths(patterns: tuple[str, ...], path: str, expected: bool) -> None:
    assert is_watched(patterns, path) is expected


def test_a_push_is_skipped_when_nothing_watched_changed() -> None:
    assert (
        decide_watched(("apps/shop",), ["docs/a.md", "docs/b.md"])
        == "none of the 2 changed files is among the watch paths"
    )
    assert decide_watched(("apps/shop",), ["docs/a.md", "apps/shop/x"]) is None


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        (["/apps"], "relative"),
        (["../x"], "relative"),
        ([""], "1 to 256"),
        (["a" * 257], "1 to 256"),
        (["a"] * 65, "64"),
    ],
)
def test_bad_watch_paths_are_told(patterns: list[str], words: str) -> None:
    assert words in str(check_watch_paths(patterns))


def test_a_hostile_pattern_takes_no_time() -> None:
    began = time.process_time()
    assert not is_watched(("*a" * 120 + "b",), "a" * 1000)
    assert time.process_time() - began < 2


@given(
    st.lists(st.text(max_size=40).filter(lambda text: text not in ("", "!")), min_size=1, max_size=5),
    st.text(max_size=60),
)
def test_any_pattern_answers(patterns: list[str], path: str) -> None:
    assert is_watched(tuple(patterns), path) in (True, False)


PACKAGES = {
    "apps/web": Package("web", frozenset({"ui", "react"})),
    "apps/docs": Package("docs", frozenset({"text"})),
    "packages/ui": Package("ui", frozenset({"icons"})),
    "packages/icons": Package("icons", frozenset()),
    "packages/text": Package("text", frozenset()),
}


@pytest.mark.parametrize(
    ("changed", "is_skipped"),
    [
        (["apps/web/a.js"], False),
        (["packages/ui/a.js"], False),
        (["packages/icons/deep/a.svg"], False),
        (["packages/text/a.js"], True),
        (["apps/docs/a.js", "packages/text/a.js"], True),
        (["apps/docs/a.js", "packages/icons/a.js"], False),
        (["pnpm-lock.yaml"], False),
        (["tools/build.js"], False),
        ([], True),
    ],
)
def test_a_package_is_affected_by_what_it_depends_on(changed: list[str], is_skipped: bool) -> None:
    assert (decide_unaffected(changed, "apps/web", PACKAGES) is not None) is is_skipped


@pytest.mark.parametrize(
    "packages",
    [
        {**PACKAGES, "packages/copy": Package("ui", frozenset())},
        {**PACKAGES, "packages/nameless": Package("", frozenset())},
        {"apps/docs": PACKAGES["apps/docs"]},
    ],
)
def test_where_the_graph_is_not_known_nothing_is_skipped(packages: dict[str, Package]) -> None:
    assert decide_unaffected(["packages/text/a.js"], "apps/web", packages) is None


def test_packages_that_need_each_other_end() -> None:
    round_ = {"a": Package("a", frozenset({"b"})), "b": Package("b", frozenset({"a"})), "c": Package("c", frozenset())}
    assert decide_unaffected(["c/x"], "a", round_) is not None
    assert decide_unaffected(["b/x"], "a", round_) is None
