"""The engines: what they match, and that nobody's path or pattern makes them slow."""

from __future__ import annotations

import re
import time

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import Invalid
from vclone_core.models import FileEntry, Manifest, Route
from vclone_core.rules import route_sources, vercel_config
from vclone_core.rules.decisions import Refuse
from vclone_core.rules.patterns import (
    LIMIT_S,
    LinearPattern,
    LookingPattern,
    PatternSet,
    TemplatePattern,
    TooSlow,
    compile_pattern,
    find_literal,
    is_template,
)
from vclone_core.rules.requests import Request
from vclone_core.rules.routes import match
from vclone_core.rules.tables import LOOKING_LIMIT, compile_table


@pytest.mark.parametrize(
    ("source", "path", "captured"),
    [
        ("^/a/(?<id>[0-9]+)$", "/a/7", {"1": "7", "id": "7"}),
        ("/a/(\\d+)", "/a/7", {"1": "7"}),
        ("/a/(\\d+)", "/a/\u0667", None),
        ("/A", "/a", {}),
        ("/caf\\u00e9.*", "/café/x", {}),
        ("/x[^]*", "/x/y", {}),
        ("^/a|/b$", "/abc", {}),
        ("^/a|/b$", "/c/b", {}),
        ("^/a|/b$", "/c/d", None),
        ("^/a|/m/|/b$", "/x/m/y", {}),
        ("^/(a|b)$", "/ab", None),
        ("^/[|]$", "/|", {}),
        ("/a\\|b|/c", "/a|bx", {}),
        ("/((?!api).*)", "/app", {"1": "app"}),
        ("/((?!api).*)", "/api/x", None),
        ("/(.+)(?<!\\.js)", "/a.js", None),
        ("/((?!api$|v[0-9]/).*)", "/api", None),
        ("/((?!api$|v[0-9]/).*)", "/apix", {"1": "apix"}),
        ("/((?!api$|v[0-9]/).*)", "/v1/x", None),
        ("/((?!API).*)", "/api", None),
        ("/(?:x/((?!y).*))?", "/", {"1": ""}),
        ("/(?:x/((?!y).*))?", "/x/y", None),
        ("/((?!y)a|y)", "/y", {"1": "y"}),
        ("/((?!(?:a|b)c).+)", "/bc", None),
        ("/((?!(?:a|b)c).+)", "/bd", {"1": "bd"}),
        ("/(?<p>(?=a).*)", "/ab", {"1": "ab", "p": "ab"}),
        ("/(?<p>(?=a).*)", "/b", None),
        ("/\\.well((?!x).*)", "/.wellx", None),
        ("/(a)\\1", "/aa", {"1": "a"}),
        ("/(?<q>['\"]).*\\k<q>", "/'x'", {"1": "'", "q": "'"}),
        ("(?i:/X)", "/x", {}),
        ("/a{2,3}", "/aa", {}),
        ("/\\w+", "/abc_1", {}),
        ("/[\\w-]+", "/a-b", {}),
        ("/a\\/b.?", "/a/bc", {}),
    ],
)
def test_expressions_mean_what_they_mean_in_javascript(source: str, path: str, captured: dict[str, str] | None) -> None:
    assert compile_pattern(source).match(path) == captured


def test_case_counts_where_it_should() -> None:
    for source in ("/Ab.*", "/(Ab|c)d?", "/((?!x)Ab.*)"):
        assert compile_pattern(source).match("/ab") is not None
        assert compile_pattern(source, is_case_sensitive=True).match("/ab") is None


@pytest.mark.parametrize(
    "source",
    ["/(", "/[a", "/a**", "/(?=", "/\\", "/(?<n>a", "/a{1,5000}", "/((a{1000}){1000}){1000}", "/(?P=x)", "/\\p{Nope}"],
)
@pytest.mark.product("B5.8")
def test_what_no_engine_can_run_is_refused(source: str) -> None:
    with pytest.raises(Invalid, match="can't be used"):
        compile_pattern(source)


def test_large_program_is_refused() -> None:
    with pytest.raises(Invalid, match="too large"):
        compile_pattern("/.{900}[^a]{900}")


@pytest.mark.parametrize(
    ("source", "literal"),
    [
        ("^/a$", ("/a", False)),
        ("/a/?", ("/a", True)),
        ("^/a/?$", ("/a", True)),
        ("/?", None),
        ("^/$", ("/", False)),
        ("/a\\.html", ("/a.html", False)),
        ("/a\\$", ("/a$", False)),
        ("/a\\\\$", ("/a\\", False)),
        ("/a\\d", None),
        ("/a.", None),
        ("/a?", None),
    ],
)
def test_literals_are_seen(source: str, literal: tuple[str, bool] | None) -> None:
    assert find_literal(source) == literal


OWN = [
    route_sources.NAVIGATION,
    vercel_config.INDEX_SOURCE,
    vercel_config.HTML_SOURCE,
    vercel_config.NO_SLASH_SOURCE,
    vercel_config.FILE_SLASH_SOURCE,
    vercel_config.SLASH_SOURCE,
]


@pytest.mark.parametrize("source", OWN)
def test_the_platforms_own_sources_run_on_the_fast_engine(source: str) -> None:
    assert isinstance(compile_pattern(source), TemplatePattern)


# (pattern, what its repetition is made of, what then spoils the match)
HOSTILE = [
    ("/(a+)+", "a", "!"),
    ("/(a*)*", "a", "!"),
    ("/(a|a)*", "a", "!"),
    ("/(a|aa)+", "a", "!"),
    ("/(.*a){12}", "a", "!"),
    ("/(.*)(.*)(.*)(.*)x", "a", "!"),
    ("/([a-z]+)*-", "a", "!"),
    ("/(\\w+\\s?)*:", "a", "!"),
    ("/a?a?a?a?a?a?a?a?a?a?aaaaaaaaaa", "a", "!"),
    ("/([^/]+?)-([^/]+?)-([^/]+?)-x", "-", "!"),
    ("(.*)+(?:/(.*))\\.(eot|otf)", "/", "!"),
    ("/(?:([^/]+)/?)*!", "a", "?"),
    ("/(.*)/([^/]+?)/x", "/", "!"),
    ("/(x+x+)+y", "x", "z"),
    ("/([^/]+(?:/[^/]+)*)", "a/", "/"),
    ("/blog(?:/([^/]+(?:/[^/]+)*))?/x", "/a", "!"),
    ("/((?!b)[a-z]+[a-z]+[a-z]+[a-z]+x)", "a", "!"),
    ("/((?!(?:a|a)*c).*)x", "a", "!"),
    ("/(.*)aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "a", "!"),
    *((source, "a.b/", "/-/") for source in OWN),
    *((source, "/", "x.y/") for source in OWN),
]


def cpu_s(source: str, text: str) -> float:
    pattern = compile_pattern(source)
    costs = []
    for _ in range(3):
        started = time.thread_time()
        pattern.match(text)
        costs.append(time.thread_time() - started)
    return min(costs)


@pytest.mark.parametrize(("source", "piece", "end"), HOSTILE)
@pytest.mark.product("B5.8")
def test_hostile_pattern_takes_time_as_its_text_is_long(source: str, piece: str, end: str) -> None:
    """A hundred times the text may cost a few hundred times the time: not its square, which is ten thousand."""
    assert not isinstance(compile_pattern(source), LookingPattern)
    short, long = ("/" + piece * (size // len(piece)) + end for size in (1_000, 100_000))
    floor = 20e-6  # Below this the clock and the call itself are what is measured.
    assert cpu_s(source, long) < 1_000 * max(cpu_s(source, short), floor)


@pytest.mark.parametrize("source", ["/(?=a)(a+)+$x", "/((a+)+)(?!b)c", "/(?<!x)(a|aa)+!", "/(a*)*\\1b"])
@pytest.mark.product("B5.8")
def test_look_around_is_given_up_in_time(source: str) -> None:
    pattern = compile_pattern(source)
    assert isinstance(pattern, LookingPattern)
    started = time.thread_time()
    with pytest.raises(TooSlow):
        pattern.match("/" + "a" * 5_000)
    assert time.thread_time() - started < 20 * LIMIT_S


def test_a_deployments_patterns_are_bounded_together() -> None:
    def compile_all(*sources: str) -> None:
        compile_table(Manifest("dep", "prj", None, {}, tuple(Route(src=source, origin="here") for source in sources)))

    compile_all(*(f"/(x)y{n}\\1" for n in range(LOOKING_LIMIT)), *(f"/((?!a{n}).*)" for n in range(100)))
    with pytest.raises(Invalid, match=r"here: route 16: .*look around"):
        compile_all(*(f"/(x)y{n}\\1" for n in range(LOOKING_LIMIT + 1)))
    with pytest.raises(Invalid, match=r"here: route [0-9]+: .*too large together"):
        compile_all(*(f"/{n}.{{300}}" for n in range(100)))


def test_visitor_whose_path_stalls_a_rule_gets_nothing() -> None:
    files = {"/index.html": FileEntry("0" * 64, 1, "text/html")}
    routes = (Route(src="/(?=a)(a+)+$x", status=403), Route(src="/(.*)", dest="/index.html"))
    table = compile_table(Manifest("dep", "prj", None, files, routes))
    decision = match(table, Request("GET", "a.example", "/" + "a" * 5_000))
    assert isinstance(decision, Refuse)
    assert decision.status == 503
    assert not table.memo


# Pieces that templates are made of, and pieces that nearly are.
PIECES = ["/", "a", "-", "([^/]+?)", "([^/]+)", "(.*)", "(.+)", ".*", "(?:/([^/]+?))?", "(?:/(.*))?", "/?", "\\."]


@given(st.lists(st.sampled_from(PIECES), max_size=7), st.text("/a-.", max_size=30))
def test_templates_match_as_the_linear_engine_does(pieces: list[str], text: str) -> None:
    source = "".join(pieces)
    if not is_template(source):
        return
    linear = compile_pattern(f"(?:{source})")
    fast = compile_pattern(source)
    assert isinstance(linear, LinearPattern) or not pieces
    assert fast.match(text) == linear.match(text)


@given(st.lists(st.sampled_from(PIECES), min_size=2, max_size=6), st.sampled_from(["a", "/", "a/", "-", "a-", "."]))
def test_no_template_is_slow(pieces: list[str], piece: str) -> None:
    source = "".join(pieces)
    if is_template(source):
        text = "/" + piece * (20_000 // len(piece)) + "!"
        started = time.thread_time()
        re.compile(source).fullmatch(text)
        assert time.thread_time() - started < 0.5


@given(
    st.sampled_from(["/", "/a", "/(", "/(?<n>", "/a(?:b", "/((", "/\\."]),
    st.sampled_from(["=", "!"]),
    st.sampled_from(["a", "ab|b", "[ab]/", "a$", "(?:a|b)c", ".*c", "", "a\\.", "\\w+"]),
    st.sampled_from([".*", ".*c", "[a-c]+", "", "a|b", "(?:b)?c", "b(c)"]),
    st.text("/abc.", max_size=6),
)
def test_guarded_patterns_match_as_look_ahead_does(before: str, kind: str, guard: str, rest: str, text: str) -> None:
    source = f"{before}(?{kind}{guard}){rest}{')' * (before.count('(') - before.count(chr(92) + '('))}"
    found = regex.fullmatch(source, f"/{text}", regex.IGNORECASE | regex.DOTALL)
    if "|" in rest and not before.endswith("("):
        return  # An alternative of the whole: `compile_pattern` gives it the sense that anchors around it have.
    captured = compile_pattern(source).match(f"/{text}")
    assert (captured is None) is (found is None)
    if found is not None and captured is not None:
        assert [captured[str(number)] for number in range(1, len(found.groups()) + 1)] == [
            one or "" for one in found.groups()
        ]


def test_set_finds_what_the_patterns_find() -> None:
    patterns = [compile_pattern(f"/(x|y)-{number}(?:/[a-z]+)*") for number in range(100)]
    asked = PatternSet([pattern for pattern in patterns if isinstance(pattern, LinearPattern)])
    for path in ("/x-7", "/Y-42/abc", "/x-99/a/b", "/none", "/x-100", "/x-7/é"):
        one_by_one = [number for number, pattern in enumerate(patterns) if pattern.match(path) is not None]
        assert asked.find(path) == one_by_one


def test_set_whose_engine_gives_up_loses_no_rule() -> None:
    source = "/.*a.{30,40}" + "|".join(f"b.{{{n}}}c" for n in range(20, 30))
    pattern = compile_pattern(f"/(?:{source})")
    assert isinstance(pattern, LinearPattern)
    asked = PatternSet([pattern] * 32)
    path = "//" + "ab" * 3_000 + "a" + "x" * 33 + "b" + "y" * 20 + "c"
    assert pattern.match(path) is not None
    assert asked.find(path) == list(range(32))
