"""Path templates. `URL` names the place each group of cases comes from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import Invalid, VcloneError
from vclone_core.rules.pathpatterns import compile_path, fill_names, fill_template, list_names
from vclone_core.rules.patterns import (
    GuardedPattern,
    LinearPattern,
    LookingPattern,
    TemplatePattern,
    compile_pattern,
    find_literal,
)

# vercel/vercel: packages/routing-utils/test/superstatic.spec.ts (convertRedirects, convertRewrites, convertHeaders)
SPEC = "routing-utils superstatic.spec"
# pillarjs/path-to-regexp at 6.1: the readme's sections on parameters, prefixes, modifiers, custom expressions
README = "path-to-regexp 6 readme"
DOCS = "vercel.com/docs/project-configuration"

MATCHES = [
    (SPEC, "/about/team", "/about/team", []),
    (SPEC, "/(.*)", "/", [""]),
    (SPEC, "/(.*)", "/a/b", ["a/b"]),
    (SPEC, "/lib(\\.js)?", "/lib", [""]),
    (SPEC, "/lib(\\.js)?", "/lib.js", [".js"]),
    (SPEC, "/cdn/(.*)", "/cdn/", [""]),
    (SPEC, "/cdn/(.*)", "/cdn/a/b.css", ["a/b.css"]),
    (SPEC, "/only/([a-z]{2,})", "/only/en", ["en"]),
    (SPEC, "/only/([a-z]{2,})", "/only/EN", ["EN"]),
    (SPEC, "/shop/:item/:view", "/shop/7/print", ["7", "print"]),
    (SPEC, "/old/:part/end", "/old/x/end", ["x"]),
    (SPEC, "/all/:rest*", "/all", [""]),
    (SPEC, "/all/:rest*", "/all/a", ["a"]),
    (SPEC, "/all/:rest*", "/all/a/b/c", ["a/b/c"]),
    (SPEC, "/some/:rest+", "/some/a/b", ["a/b"]),
    (SPEC, "/all/:rest*/", "/all/", [""]),
    (SPEC, "/all/:rest*/", "/all/a/b/", ["a/b"]),
    (SPEC, "/tell/((?!private).*)", "/tell/public", ["public"]),
    (SPEC, "/maybe/:id?", "/maybe", [""]),
    (SPEC, "/maybe/:id?", "/maybe/1", ["1"]),
    (SPEC, "/part-{:name}", "/part-one", ["one"]),
    (SPEC, "/(.*)-:id(\\d+).html", "/news/entry-12.html", ["news/entry", "12"]),
    (SPEC, "(.*)+/(.*)\\.(eot|woff2)", "/fonts/a.woff2", ["/fonts", "a", "woff2"]),
    (README, "/:a-:b", "/x-y-z", ["x", "y-z"]),
    (README, "/:a.:b?", "/x", ["x", ""]),
    (README, "/:a.:b?", "/x.json", ["x", "json"]),
    (README, "/{:attr1-}?{:attr2}?", "/", ["", ""]),
    (README, "/{:a-}?:b", "/x-y", ["x", "y"]),
    (README, "/{a}?b", "/ab", []),
    (README, "/{a}?b", "/b", []),
    (README, "/{ab}*c", "/ababc", []),
    (README, "/:n(\\d+)", "/123", ["123"]),
    (README, "/:n(one|two)", "/two", ["two"]),
    (README, "/icon-:n(\\d+).png", "/icon-76.png", ["76"]),
    (README, "/a\\:b", "/a:b", []),
    (README, "/a\\(b\\)", "/a(b)", []),
    (README, "/:n(\\d+){-:m(\\d+)}?", "/1-2", ["1", "2"]),
    (README, "/:n(\\d+){-:m(\\d+)}?", "/1", ["1", ""]),
    (README, "/:n(\\d+)+", "/1/2/3", ["1/2/3"]),
    (README, "/{:x/}*end", "/a/b/end", ["a/b"]),
    (DOCS, "/blog/:year(\\d{4})/:slug", "/blog/2026/hi", ["2026", "hi"]),
    (DOCS, "/:path((?!api/).*)", "/a/b", ["a/b"]),
    (DOCS, "/caf%C3%A9", "/café", []),
    (DOCS, "/a%2Fb", "/a%2Fb", []),
    (DOCS, "/with%20space/:x", "/with space/1", ["1"]),
    (DOCS, "/:x", "/a%2Fb", ["a%2Fb"]),
    (DOCS, "/.well-known/:f", "/.well-known/x.json", ["x.json"]),
]

MISSES = [
    (SPEC, "/about/team", "/about/team/"),
    (SPEC, "/about/team", "/about"),
    (SPEC, "/lib(\\.js)?", "/libAjs"),
    (SPEC, "/cdn/(.*)", "/cdn"),
    (SPEC, "/cdn/(.*)", "/cdnx/a"),
    (SPEC, "/only/([a-z]{2,})", "/only/en/1"),
    (SPEC, "/shop/:item/:view", "/shop/7"),
    (SPEC, "/shop/:item/:view", "/shop/7/print/x"),
    (SPEC, "/old/:part/end", "/old//end"),
    (SPEC, "/all/:rest*", "/allx"),
    (SPEC, "/all/:rest*", "/all//"),
    (SPEC, "/some/:rest+", "/some"),
    (SPEC, "/all/:rest*/", "/all/a"),
    (SPEC, "/tell/((?!private).*)", "/tell/private"),
    (SPEC, "/tell/((?!private).*)", "/tell/privately"),
    (SPEC, "/maybe/:id?", "/maybe/1/2"),
    (SPEC, "/part-{:name}", "/part/one"),
    (SPEC, "/(.*)-:id(\\d+).html", "/news/entry-a.html"),
    (README, "/:a.:b?", "/x/json"),
    (README, "/:n(\\d+)", "/12a"),
    (README, "/:n(one|two)", "/three"),
    (README, "/a\\:b", "/aXb"),
    (README, "/a.b", "/aXb"),
    (README, "/a$b", "/a"),
    (DOCS, "/:x", "/"),
    (DOCS, "/:x", "/a/b"),
]


@pytest.mark.parametrize(("origin", "template", "path", "captured"), MATCHES)
def test_template_takes_a_path(origin: str, template: str, path: str, captured: list[str]) -> None:
    compiled = compile_path(template)
    found = compile_pattern(compiled.source).match(path)
    assert found is not None, (origin, compiled.source)
    numbers = [found[str(number)] for number in range(1, len(compiled.names) + 1)]
    assert numbers[-len(captured) :] == captured or not captured


@pytest.mark.parametrize(("origin", "template", "path"), MISSES)
def test_template_leaves_a_path(origin: str, template: str, path: str) -> None:
    compiled = compile_path(template)
    literal = find_literal(compiled.source)
    if literal is not None:
        assert literal[0] != path, origin
    else:
        assert compile_pattern(compiled.source).match(path) is None, (origin, compiled.source)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("/:", "colon without a name"),
        ("/:/x", "colon without a name"),
        ("/(", "not closed"),
        ("/(a", "not closed"),
        ("/()", "nothing"),
        ("/(?:a)", "nothing"),
        ("/((a))", "inside of brackets"),
        ("/{a", "brace"),
        ("/{:a:b}", "brace"),
        ("/}", "'}'"),
        ("/a?b", "'?'"),
        ("/*", "'*'"),
        ("/+", "'+'"),
        ("/a\\", "backslash"),
        ("/:a/:a", "twice"),
    ],
)
def test_what_is_no_template_says_where(template: str, words: str) -> None:
    with pytest.raises(Invalid, match=words.replace("?", r"\?").replace("*", r"\*").replace("+", r"\+")):
        compile_path(template)


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("/a/:b/(.*)/:c*", ("b", None, "c")),
        ("/{x}?", ()),
        ("/{:x-}?y", ("x",)),
        ("/a", ()),
    ],
)
def test_names_stand_in_the_order_of_captures(template: str, names: tuple[str | None, ...]) -> None:
    assert compile_path(template).names == names


PLACES = {"a": "$1", "b": "$2", "host": "$host"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("/x/:a", "/x/$1"),
        ("/x/:a*", "/x/$1"),
        ("/x/:a+/:b?", "/x/$1/$2"),
        ("/x-{:a}", "/x-$1"),
        ("/x/:other?", "/x"),
        ("/x/:other", "/x/:other"),
        ("/x/:a/:other", "/x/$1/:other"),
        ("/x/(y)", "/x/(y)"),
        ("/$1", "/$1"),
        (":host", "$host"),
        ("/a\\:a", "/a:a"),
        ("", ""),
    ],
)
def test_destination_is_filled(text: str, filled: str) -> None:
    assert fill_template(text, PLACES) == filled


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("value*", "value*"),
        ("some:thing", "some:thing"),
        ("img-src https: data:", "img-src https: data:"),
        ("frame-ancestors https://:host;", "frame-ancestors https://$host;"),
        (":a*", "$1"),
        (":other(x){1,2}", ":other(x){1,2}"),
        ("x-:a-:b", "x-$1-$2"),
    ],
)
def test_header_text_keeps_what_is_no_name(text: str, filled: str) -> None:
    assert fill_names(text, PLACES) == filled


def test_names_that_a_destination_asks_for() -> None:
    assert list_names("/:a/x-:b?/(c)") == {"a", "b"}
    assert list_names("/(") == frozenset()


@pytest.mark.parametrize(
    ("template", "kind"),
    [
        ("/blog/:slug", TemplatePattern),
        ("/docs/:path*", TemplatePattern),
        ("/docs/:path+/edit", TemplatePattern),
        ("/:a/:b/:c", TemplatePattern),
        ("/cdn/(.*)", TemplatePattern),
        ("/maybe/:id?", TemplatePattern),
        ("/:a-:b-:c", LinearPattern),
        ("/:n(\\d+)", LinearPattern),
        ("/(.*)/(.*)", LinearPattern),
        ("/:a?/:b?/:c?/:d?", LinearPattern),
        ("/(.*)/:x", LinearPattern),
        ("/((?!api).*)", GuardedPattern),
        ("/(.*(?<!b))", LookingPattern),
    ],
)
def test_template_gets_the_engine_that_it_can_not_slow_down(template: str, kind: type) -> None:
    assert isinstance(compile_pattern(compile_path(template).source), kind)


TEMPLATES = st.text("/:ab(.*)?+{}\\-[]|^$%", max_size=24)


@given(TEMPLATES)
def test_any_text_is_a_template_or_is_refused(text: str) -> None:
    try:
        compiled = compile_path(text)
        compile_pattern(compiled.source)
    except VcloneError:
        return
    assert compiled.source.startswith("^")


@given(TEMPLATES, st.dictionaries(st.sampled_from(["a", "b"]), st.just("$1")))
def test_any_text_can_be_filled(text: str, places: dict[str, str]) -> None:
    fill_template(text, places)
    fill_names(text, places)
    list_names(text)


@given(st.lists(st.from_regex(r"[a-z0-9é .~%-]{1,8}", fullmatch=True), min_size=1, max_size=5))
def test_a_plain_path_means_itself(segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    if "%" not in path:
        assert find_literal(compile_path(path).source) == (path, False)
