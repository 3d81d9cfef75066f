"""B11: which files of earlier builds a new manifest carries, and when they are served."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.models import EarlierFile, FileEntry, Manifest, Route
from vclone_core.rules.answers import CompiledManifest, compile_manifest, decide, may_be_before
from vclone_core.rules.decisions import Decision, Redirect, Refuse, Serve
from vclone_core.rules.earlier import DAY_S, carry_forward, may_be_earlier, top_folder
from vclone_core.rules.requests import Request

WEEK_S = 7 * DAY_S
NOW_S = 1_800_000_000


def entry(name: str = "a", *, immutable: bool = True) -> FileEntry:
    return FileEntry(hashlib.sha256(name.encode()).hexdigest(), 10, "text/javascript", immutable)


def build(names: str, *, earlier: dict[str, EarlierFile] | None = None, at: str = "dep") -> Manifest:
    """A build with one immutable file per letter, and a page."""
    files = {f"/assets/{name}.js": entry(name) for name in names}
    return Manifest(at, "prj", None, {"/index.html": entry(immutable=False), **files}, (), earlier=earlier or {})


def carry(names: str, before: list[Manifest], *, days_later: float = 0.0, limit: int = 100) -> dict[str, EarlierFile]:
    files = build(names).files
    now_s = int(NOW_S + days_later * DAY_S)
    return carry_forward(files, before, now_s=now_s, kept_s=WEEK_S, limit=limit)


def letters(carried: dict[str, EarlierFile]) -> str:
    return "".join(path.removeprefix("/assets/").removesuffix(".js") for path in carried)


def test_what_the_last_build_had_and_this_one_lacks_is_carried() -> None:
    assert letters(carry("bc", [build("ab")])) == "a"
    assert letters(carry("ab", [build("ab")])) == ""


def test_pages_and_what_keeps_its_name_are_not_carried() -> None:
    assert "/index.html" not in carry_forward({}, [build("a")], now_s=NOW_S, kept_s=WEEK_S)


def test_files_are_carried_from_build_to_build_until_their_time_is_over() -> None:
    """Their clock starts when they are replaced: a build that stood for a year has open pages, too."""
    second = build("b", earlier=carry("b", [build("a")]))
    third = build("c", earlier=carry("c", [second], days_later=365))
    assert letters(dict(third.earlier)) == "b"
    fourth = carry("d", [third], days_later=371)
    assert letters(fourth) == "bc"
    assert letters(carry("e", [build("d", earlier=fourth)], days_later=372.5)) == "cd"


def test_what_came_back_counts_from_its_last_replacement() -> None:
    second = build("b", earlier=carry("b", [build("a")]))
    third = build("a", earlier=carry("a", [second], days_later=5))
    fourth = carry("c", [third], days_later=10)
    assert fourth["/assets/a.js"].replaced_s == NOW_S + 10 * DAY_S


def test_what_the_hosts_show_counts_beside_the_newest_build() -> None:
    """Between two production builds lie previews; production's files are in use until it is replaced."""
    shown = build("a")
    preview = build("p", earlier=carry("p", [shown], days_later=1))
    assert letters(carry("b", [preview], days_later=30)) == "p"
    assert letters(carry("b", [preview, shown], days_later=30)) == "ap"


def test_newest_entry_wins_and_the_oldest_go_first() -> None:
    old = EarlierFile(entry("x"), NOW_S - 5)
    assert carry("", [build("a"), build("", earlier={"/assets/a.js": old})])["/assets/a.js"].entry == entry("a")
    chain = {f"/assets/{n}.js": EarlierFile(entry(), NOW_S - n) for n in range(1, 9)}
    assert letters(carry("", [build("a", earlier=chain)], limit=4)) == "123a"


def test_no_time_carries_nothing() -> None:
    assert carry_forward({}, [build("a")], now_s=NOW_S, kept_s=0) == {}


@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from("abcdef")), st.floats(0, 3)),
        min_size=1,
        max_size=12,
    )
)
def test_a_page_of_any_build_of_the_last_week_finds_its_files(history: list[tuple[set[str], float]]) -> None:
    """However builds follow each other: whatever was replaced within the time is there, own files are not repeated."""
    newest: Manifest | None = None
    replaced: dict[str, float] = {}
    day = 0.0
    for names, gap in history:
        day += gap
        before = [] if newest is None else [newest]
        for letter in letters(
            {p: EarlierFile(e, 0) for p, e in before[0].files.items() if e.immutable} if before else {}
        ):
            replaced[letter] = day
        carried = carry("".join(sorted(names)), before, days_later=day)
        newest = build("".join(sorted(names)), earlier=carried)
        assert not carried.keys() & newest.files.keys()
        for letter, at in replaced.items():
            if letter not in names and day - at < 7 - 1e-3:
                assert f"/assets/{letter}.js" in carried
            if day - at > 7 + 1e-3:
                assert f"/assets/{letter}.js" not in carried


# At the edge.

OLD, GONE = "/assets/app.0a1b2c3d.js", "/assets/app.ffee0011.js"
SPA = Route(src="/.*", dest="/index.html")


def compiled(*routes: Route, files: dict[str, FileEntry] | None = None) -> CompiledManifest:
    own = {
        "/index.html": entry(immutable=False),
        "/404.html": entry(immutable=False),
        "/assets/new.1b2c3d4e.js": entry(),
    }
    earlier = {OLD: EarlierFile(entry("o"), NOW_S), "/assets/new.1b2c3d4e.js": EarlierFile(entry("o"), NOW_S)}
    return compile_manifest(Manifest("dep", "prj", None, {**own, **(files or {})}, routes, earlier=earlier))


def ask(manifest: CompiledManifest, path: str, since_s: float | None = NOW_S - WEEK_S) -> Decision:
    return decide(manifest, Request("GET", "a.test", path, "", {}, "http"), since_s=since_s)


@pytest.mark.parametrize("routes", [(), (Route(handle="filesystem"), SPA), (Route(handle="rewrite"), SPA)])
def test_earlier_file_comes_before_the_fallback_and_404(routes: tuple[Route, ...]) -> None:
    manifest = compiled(*routes)
    assert ask(manifest, OLD) == Serve(OLD)
    assert ask(manifest, GONE) != Serve(GONE)


def test_earlier_file_is_only_for_hosts_that_move_and_for_its_time() -> None:
    assert ask(compiled(), OLD, None) == Serve("/404.html", 404)
    assert ask(compiled(), OLD, NOW_S + 1) == Serve("/404.html", 404)


def test_own_file_is_never_shadowed() -> None:
    manifest = compiled()
    ask(manifest, "/assets/new.1b2c3d4e.js")
    assert manifest.with_earlier.files["/assets/new.1b2c3d4e.js"].sha256 == entry("a").sha256


def test_rules_of_the_deployment_hold_for_earlier_files() -> None:
    redirect = Route(src="/assets/.*", headers={"Location": "/else"}, status=308)
    assert ask(compiled(redirect), OLD) == Redirect("/else", 308, rules=(0,))
    refuse = Route(src="/assets/.*", status=403)
    assert isinstance(ask(compiled(refuse, files={"/404.html": entry()}), OLD), Refuse)
    cors = Route(src="/assets/.*", headers={"Access-Control-Allow-Origin": "*"}, is_continue=True)
    assert ask(compiled(cors), OLD) == Serve(OLD, headers=((b"access-control-allow-origin", b"*"),), rules=(0,))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (GONE, True),
        ("/assets/deep/build-id/x.js", True),  # Below a folder that has immutable files, whatever its name.
        ("/other/x.js", False),
        ("/other/x.0a1b2c3d.css", True),
        ("/assets/", False),
        ("/assets/x.html", False),
        ("/wp-login.php", False),
        ("/", False),
        ("/index.html", False),
        (OLD, False),  # Carried: its time decides.
    ],
)
def test_only_what_looks_fingerprinted_is_looked_for_before(path: str, expected: bool) -> None:
    manifest = compiled()
    assert may_be_before(manifest, ask(manifest, path, None), path) is expected


def test_redirect_is_no_miss() -> None:
    manifest = compiled(Route(src="/assets/.*", headers={"Location": "/else"}, status=308))
    assert not may_be_before(manifest, ask(manifest, GONE), GONE)


@given(st.text(max_size=40))
def test_any_path_can_be_looked_at(text: str) -> None:
    assert may_be_earlier({}, frozenset({"a"}), f"/{text}") in (True, False)
    assert "/" not in top_folder(f"/{text}")
