"""`vercel.json` -> routes. The first word of a case names where it comes from."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import DetectFailed, VcloneError
from vclone_core.models import Route
from vclone_core.rules.vercel_config import VercelConfig, is_branch_deployed, parse_vercel_config

# vercel/vercel packages/routing-utils: src/superstatic.ts with its spec, src/index.ts with its spec, src/schemas.ts
SPEC, INDEX, SCHEMA = "superstatic.spec", "index.spec", "schemas"


def parse(**config: Any) -> VercelConfig:
    return parse_vercel_config(json.dumps(config))


def only(routes: tuple[Route, ...]) -> Route:
    (route,) = routes
    return replace(route, origin=None)


HAS = [{"type": "host", "value": "(?<tenant>.*)\\.shop\\.example"}]
QUERY = [{"type": "query", "key": "ref"}]
HEADER = [{"type": "header", "key": "X-Kind", "value": "(?<kind>new|used)"}]
PLAIN_HOST = [{"type": "host", "value": "shop.example"}]


@pytest.mark.parametrize(
    ("origin", "rule", "src", "location", "status"),
    [
        (SPEC, {"source": "/a/b", "destination": "/c"}, "^/a/b$", "/c", 308),
        (SPEC, {"source": "/a", "destination": "/c", "permanent": True}, "^/a$", "/c", 308),
        (SPEC, {"source": "/a", "destination": "/c", "permanent": False}, "^/a$", "/c", 307),
        (SPEC, {"source": "/a", "destination": "/c", "statusCode": 302}, "^/a$", "/c", 302),
        (INDEX, {"source": "/a", "destination": "/c", "statusCode": 301}, "^/a$", "/c", 301),
        (SPEC, {"source": "/a", "destination": "https://b.example"}, "^/a$", "https://b.example", 308),
        (SPEC, {"source": "/p/([a-z]{1,})", "destination": "https://b.example/$1"}, "^/p/([a-z]{1,})$",
         "https://b.example/$1", 308),
        (SPEC, {"source": "/p/([a-z]{1,})", "destination": "https://b.example:81/$1"}, "^/p/([a-z]{1,})$",
         "https://b.example:81/$1", 308),
        (SPEC, {"source": "/u/:id/:act", "destination": "/u.html"}, "^/u/([^/]+?)/([^/]+?)$", "/u.html", 308),
        (SPEC, {"source": "/u/:id/x", "destination": "/n/:id"}, "^/u/([^/]+?)/x$", "/n/$1", 308),
        (SPEC, {"source": "/u/:r*", "destination": "/n/:r*/"}, "^/u(?:/([^/]+(?:/[^/]+)*))?$", "/n/$1/", 308),
        (SPEC, {"source": "/u/:r+", "destination": "/n/:r+/"}, "^/u/([^/]+(?:/[^/]+)*)$", "/n/$1/", 308),
        (SPEC, {"source": "/u/:r*", "destination": "/n#:r*"}, "^/u(?:/([^/]+(?:/[^/]+)*))?$", "/n#$1", 308),
        (SPEC, {"source": "/u/:id?", "destination": "/api/u/:id?"}, "^/u(?:/([^/]+?))?$", "/api/u/$1", 308),
        (SPEC, {"source": "/u-{:id}", "destination": "/n-{:id}"}, "^/u-([^/]+?)$", "/n-$1", 308),
        (SPEC, {"source": "/u/:id", "destination": "/n?x={:id}"}, "^/u/([^/]+?)$", "/n?x=$1", 308),
        (SPEC, {"source": "/u/:id", "destination": "https://b.example/?s=g.com#/t/:id/p?d=c"}, "^/u/([^/]+?)$",
         "https://b.example/?s=g.com#/t/$1/p?d=c", 308),
        (SPEC, {"source": "/(.*)", "destination": "https://:tenant.b.example/e?a=b", "has": HAS}, "^/(.*)$",
         "https://$tenant.b.example/e?a=b", 308),
        (SPEC, {"source": "/u/:id", "destination": "/n/:id/:ref", "has": QUERY}, "^/u/([^/]+?)$", "/n/$1/$ref", 308),
        (SPEC, {"source": "/u", "destination": "/n/:kind", "has": HEADER}, "^/u$", "/n/$kind", 308),
        (SPEC, {"source": "/u", "destination": "/n/:host", "has": PLAIN_HOST}, "^/u$", "/n/$host", 308),
        (SPEC, {"source": "/x(\\.js)?", "destination": "https://b.example"}, "^/x(\\.js)?$", "https://b.example", 308),
        (SPEC, {"source": "/u/:id", "destination": "//b.example/:id"}, "^/u/([^/]+?)$", "//b.example/$1", 308),
        ("docs", {"source": "/caf%C3%A9", "destination": "/k"}, "^/café$", "/k", 308),
        ("devRouter", {"source": "about", "destination": "/k"}, "^/about$", "/k", 308),
    ],
)  # fmt: skip
@pytest.mark.product("B5.1")
def test_redirect(origin: str, rule: dict[str, Any], src: str, location: str, status: int) -> None:
    route = only(parse(redirects=[rule]).first)
    has = tuple(rule.get("has", ()))
    assert route == Route(src=src, headers={"Location": location}, status=status, has=has), origin


@pytest.mark.parametrize(
    ("origin", "rule", "dest"),
    [
        (SPEC, {"source": "/a", "destination": "/b"}, "/b"),
        (SPEC, {"source": "/a/(.*)", "destination": "https://b.example"}, "https://b.example/"),
        (SPEC, {"source": "/a/(.*)", "destination": "https://b.example/"}, "https://b.example/"),
        (SPEC, {"source": "/a/(x+)", "destination": "https://b.example/$1"}, "https://b.example/$1"),
        (SPEC, {"source": "/a/(x+)", "destination": "https://b.example:81/$1"}, "https://b.example:81/$1"),
        (SPEC, {"source": "/a/:id/e", "destination": "/p.html"}, "/p.html?id=$1"),
        (SPEC, {"source": "/a/:id", "destination": "/p?n=:id&v=2"}, "/p?n=$1&v=2&id=$1"),
        (SPEC, {"source": "/:file/:id", "destination": "/:file/get?n=:id"}, "/$1/get?n=$2"),
        (SPEC, {"source": "/q/:id/:h", "destination": "/get?n=:id#:h"}, "/get?n=$1#$2"),
        (SPEC, {"source": "/f", "destination": "https://u:p@s.b.example:80/x/y?v=1&i=2#h"},
         "https://u:p@s.b.example:80/x/y?v=1&i=2#h"),
        (SPEC, {"source": "/q/:name/:age", "destination": "/f?name=bob&age="}, "/f?name=bob&age="),
        (SPEC, {"source": "/q/:r*/", "destination": "/n/:r*"}, "/n/$1"),
        (SPEC, {"source": "/q/:r+/", "destination": "/n/:r+"}, "/n/$1"),
        (SPEC, {"source": "/q/:r*", "destination": "/n"}, "/n?r=$1"),
        (SPEC, {"source": "/:path", "destination": "/t?path=:path"}, "/t?path=$1"),
        (SPEC, {"source": "/:path/:two", "destination": "/t?path=:path"}, "/t?path=$1&two=$2"),
        (SPEC, {"source": "/(.*)-:id(\\d+).html", "destination": "/n/:id"}, "/n/$2"),
        (SPEC, {"source": "/p-{:s}", "destination": "/n-{:s}"}, "/n-$1"),
        (SPEC, {"source": "/p/:w", "destination": "/s?else={:w}"}, "/s?else=$1&w=$1"),
        (SPEC, {"source": "/p/:w", "destination": "/s/:tenant", "has": HAS}, "/s/$tenant"),
        (SPEC, {"source": "/p/:w", "destination": "/s", "missing": HAS}, "/s?w=$1"),
        (SPEC, {"source": "/p/:a/:b", "destination": "https://b.example/?t=1&t=2"},
         "https://b.example/?t=1&t=2&a=$1&b=$2"),
        (SPEC, {"source": "/p/:a", "destination": "https://:a.b.example/"}, "https://$1.b.example/"),
        (SPEC, {"source": "/p/:a", "destination": "https://b.example:8080"}, "https://b.example:8080/?a=$1"),
        (SPEC, {"source": "/p/:a?", "destination": "/n/:a?"}, "/n/$1"),
    ],
)  # fmt: skip
@pytest.mark.product("B5.2")
def test_rewrite(origin: str, rule: dict[str, Any], dest: str) -> None:
    config = parse(rewrites=[rule])
    assert config.first == ()
    route = only(config.phases["filesystem"])
    assert route.dest == dest, origin
    assert route.check
    assert (route.has, route.missing) == (tuple(rule.get("has", ())), tuple(rule.get("missing", ())))


def test_rewrite_with_a_status() -> None:
    config = parse(rewrites=[{"source": "/a", "destination": "/b", "statusCode": 201}])
    assert only(config.phases["filesystem"]).status == 201


@pytest.mark.parametrize(
    ("source", "has", "key", "value", "said"),
    [
        ("/(.*)", [], "X-A", "1", {"X-A": "1"}),
        ("/a/:rest*", [], "x-:rest", "b", {"x-$1": "b"}),
        ("/a/:path", [], "x", "s https://b.example/:path", {"x": "s https://b.example/$1"}),
        ("/a/:path", [], "x", "some:value*", {"x": "some:value*"}),
        ("/a/:path", [], "x", ":value?", {"x": ":value?"}),
        ("/a/:path", [], "x", ":path*", {"x": "$1"}),
        ("/a/:path", [], "x", "f(world){1,2}", {"x": "f(world){1,2}"}),
        (
            "/a/:path",
            [],
            "x",
            "media-src a.example b.example; img-src *",
            {"x": "media-src a.example b.example; img-src *"},
        ),
        ("/a", HAS, "x", ":tenant", {"x": "$tenant"}),
        ("/(.*)", QUERY, "csp", "frame-ancestors https://:ref;", {"csp": "frame-ancestors https://$ref;"}),
        ("404.html", [], "x", "1", {"x": "1"}),
        ("(.*)+/(.*)\\.(eot|otf)", [], "x", "1", {"x": "1"}),
    ],
)
@pytest.mark.product("B5.4")
def test_headers(source: str, has: list[Any], key: str, value: str, said: dict[str, str]) -> None:
    config = parse(headers=[{"source": source, "has": has, "headers": [{"key": key, "value": value}]}])
    route = only(config.headers)
    assert route.headers == said
    assert route.is_continue
    assert route.has == tuple(has)


@pytest.mark.parametrize(
    ("config", "sources"),
    [
        ({}, []),
        ({"cleanUrls": False}, []),
        ({"cleanUrls": True}, [("index", "/$1"), ("html", "/$1")]),
        ({"cleanUrls": True, "trailingSlash": True},
         [("index", "/$1/"), ("html", "/$1/"), ("known", "/$1/"), ("known", "/$1")]),
        ({"trailingSlash": False}, [("/(.+)/", "/$1")]),
    ],
)  # fmt: skip
@pytest.mark.product("B4.1")
def test_clean_urls_and_slashes(config: dict[str, Any], sources: list[tuple[str, str]]) -> None:
    parsed = parse(**config)
    assert parsed.clean_urls is (config.get("cleanUrls") is True)
    assert len(parsed.first) == len(sources)
    for route, (word, location) in zip(parsed.first, sources, strict=True):
        assert word in str(route.src)
        assert (route.status, route.headers) == (308, {"Location": location})


def test_routes_are_kept_by_phase_with_their_aliases() -> None:
    config = parse(
        routes=[
            {"src": "/a", "headers": {"x": "1"}, "continue": True},
            {"source": "/b", "destination": "/c", "statusCode": 404},
            {"handle": "filesystem"},
            {"src": "api\\/x", "dest": "/d", "methods": ["GET"], "caseSensitive": True, "locale": {}},
            {"handle": "hit"},
            {"src": "/e", "headers": {"x": "2"}, "continue": True, "important": True},
        ]
    )
    first, second = config.first
    assert (first.src, first.headers, first.is_continue) == ("/a", {"x": "1"}, True)
    assert (second.src, second.dest, second.status) == ("/b", "/c", 404)
    (third,) = config.phases["filesystem"]
    assert (third.src, third.dest, third.methods, third.case_sensitive) == ("^/api/x", "/d", ("GET",), True)
    (fourth,) = config.phases["hit"]
    assert fourth.important
    assert fourth.origin == "vercel.json routes[5]"


def test_order_is_clean_urls_slash_routes_redirects() -> None:
    """routing-utils index.spec: routes may stand beside the others, behind cleanUrls and before redirects."""
    config = parse(
        redirects=[{"source": "/r", "destination": "/s"}],
        routes=[{"src": "/q", "dest": "/t"}],
        trailingSlash=False,
        cleanUrls=True,
    )
    assert [str(route.origin).removeprefix("vercel.json ") for route in config.first] == [
        "cleanUrls", "cleanUrls", "trailingSlash", "routes[0]", "redirects[0]",
    ]  # fmt: skip


def test_what_is_for_others_is_left_alone() -> None:
    text = json.dumps({"$schema": "x", "functions": {"a": {}}, "git": None, "regions": []})
    assert parse_vercel_config("\ufeff" + text) == VercelConfig(phases={"filesystem": ()})


def test_the_keys_of_the_build_are_settings() -> None:
    text = {
        "buildCommand": "make",
        "installCommand": "",
        "outputDirectory": None,
        "framework": None,
        "ignoreCommand": "exit 1",
    }
    assert parse_vercel_config(json.dumps(text)).settings.values == {
        "build_command": "make",
        "install_command": "",
        "framework": "static",
        "ignore_command": "exit 1",
    }


@pytest.mark.parametrize(
    ("said", "branch", "expected"),
    [
        (None, "main", True),
        (False, "main", False),
        ({"main": False}, "main", False),
        ({"main": False}, "next", True),
        ({"dependabot/**": False, "dependabot/fix": True}, "dependabot/npm", False),
        ({"dependabot/**": False, "dependabot/fix": True}, "dependabot/fix", True),
        ({"*": False}, None, True),
    ],
)
def test_branches_are_turned_off(said: object, branch: str | None, expected: bool) -> None:
    config = parse_vercel_config(json.dumps({"git": {"deploymentEnabled": said}}))
    assert is_branch_deployed(config, branch) is expected


R = {"source": "/a", "destination": "/b"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "vercel.json is no JSON"),
        ("{", "line 1 column 2"),
        ('{"a": 1,}', "line 1"),
        ("[]", "must be an object"),
        ("[" * 100_000, "vercel.json is no JSON"),
        ('{"buildCommand": 7}', "vercel.json buildCommand must be a text of at most 4096 characters, or null"),
        ('{"git": {"deploymentEnabled": 1}}', "vercel.json git.deploymentEnabled must be true, false"),
        ('{"cleanUrls": "yes"}', "vercel.json cleanUrls must be true or false"),
        ('{"trailingSlash": 1}', "trailingSlash must be"),
        ('{"redirects": {}}', "redirects must be a list"),
        ('{"redirects": [1]}', "redirects[0] must be an object"),
        ('{"redirects": [{}]}', "redirects[0].source is missing"),
        ('{"routes": {}}', "routes must be a list"),
        ('{"routes": [1]}', "routes[0] must be an object"),
    ],
)
def test_bad_file_names_the_place(text: str, words: str) -> None:
    with pytest.raises(DetectFailed) as caught:
        parse_vercel_config(text)
    assert words in caught.value.sentence


@pytest.mark.parametrize(
    ("origin", "key", "item", "words"),
    [
        (SCHEMA, "redirects", {"source": "/a"}, "redirects[1].destination is missing"),
        (SCHEMA, "redirects", {"destination": "/a"}, "redirects[1].source is missing"),
        (SCHEMA, "redirects", {**R, "source": 1}, "redirects[1].source must be a text"),
        (SCHEMA, "redirects", {**R, "permanent": "no"}, "redirects[1].permanent must be true or false"),
        (SCHEMA, "redirects", {**R, "statusCode": "308"}, "redirects[1].statusCode must be one of"),
        (SCHEMA, "redirects", {**R, "statusCode": 200}, "redirects[1].statusCode must be one of"),
        (SCHEMA, "redirects", {**R, "has": {}}, "redirects[1].has must be a list"),
        (SCHEMA, "redirects", {**R, "has": [{"type": "moon"}]}, "redirects[1]: a condition has the unknown type"),
        (SCHEMA, "redirects", {**R, "has": [{"type": "header"}]}, "redirects[1]: a condition of type header needs"),
        (SCHEMA, "redirects", {**R, "colour": 1}, "redirects[1] has 'colour'"),
        (SCHEMA, "redirects", {**R, "env": ["A"]}, "redirects[1] has 'env'"),
        (INDEX, "redirects", {**R, "permanent": True, "statusCode": 301}, "redirects[1]: permanent and statusCode"),
        (INDEX, "redirects", {**R, "source": "/(*.)\\.html"}, "redirects[1]: the pattern"),
        (INDEX, "redirects", {**R, "source": "/:a("}, "redirects[1]: '/:a(' has a bracket that is not closed"),
        (INDEX, "redirects", {**R, "destination": "/:x"}, "redirects[1]: the destination asks for :x"),
        (INDEX, "redirects", {**R, "destination": "https://b.example/:x"}, "asks for :x"),
        (INDEX, "redirects", {**R, "destination": "/b?n=:x"}, "asks for :x"),
        (INDEX, "redirects", {**R, "destination": "https://:x.example/"}, "asks for :x"),
        ("own", "redirects", {**R, "destination": "ftp://b.example"}, "neither a path nor"),
        ("own", "redirects", {**R, "destination": "/b\r\nSet-Cookie: x"}, "can't be sent"),
        ("own", "redirects", {**R, "source": "/" + "a" * 5000}, "longer than"),
        ("own", "redirects", {**R, "source": "/((a{1000}){1000})"}, "redirects[1]"),
        (SCHEMA, "rewrites", {**R, "statusCode": 1000}, "rewrites[1].statusCode must be an HTTP status"),
        (SCHEMA, "rewrites", {"source": "/a", "destination": {"service": "x"}}, "rewrites[1].destination must be"),
        (INDEX, "rewrites", {**R, "destination": "/:x"}, "rewrites[1]: the destination asks for :x"),
        ("own", "rewrites", {**R, "destination": "b"}, "rewrites[1]: the destination 'b' is neither"),
        (SCHEMA, "headers", {"source": "/a", "headers": {}}, "headers[1].headers must be a list"),
        (SCHEMA, "headers", {"source": "/a", "headers": [{"key": "a"}]}, "headers[1].headers must be a list"),
        (SCHEMA, "headers", {"source": "/a"}, "headers[1].headers is missing"),
        ("own", "headers", {"source": "/a", "headers": [{"key": "a b", "value": "1"}]}, "can't be sent"),
        ("own", "headers", {"source": "/a", "headers": [{"key": "a", "value": "b\nc"}]}, "can't be sent"),
        (INDEX, "routes", {"dest": "/a"}, "routes[1].src is missing"),
        (INDEX, "routes", {"src": 1}, "routes[1].src must be a text"),
        (INDEX, "routes", {"src": "/(", "dest": "/a"}, "routes[1]: the pattern"),
        (INDEX, "routes", {"src": "/a", "source": "/a"}, "routes[1] says both src and source"),
        (INDEX, "routes", {"src": "/a", "dest": "/a", "destination": "/a"}, "says both dest and destination"),
        (INDEX, "routes", {"src": "/a", "status": 200, "statusCode": 200}, "says both status and statusCode"),
        (INDEX, "routes", {"handle": "other"}, "routes[1].handle must stand alone"),
        (INDEX, "routes", {"handle": "hit", "src": "/a"}, "routes[1].handle must stand alone"),
        (INDEX, "routes", {"src": "/a", "methods": "GET"}, "routes[1].methods must be a list of texts"),
        (INDEX, "routes", {"src": "/a", "headers": {"a": 1}}, "routes[1].headers must be an object of texts"),
        (INDEX, "routes", {"src": "/a", "continue": "true"}, "routes[1].continue must be true or false"),
        (INDEX, "routes", {"src": "/a", "status": "404"}, "routes[1].status must be an HTTP status"),
        (INDEX, "routes", {"src": "/a", "colour": 1}, "routes[1] has 'colour'"),
    ],
)
@pytest.mark.product("B5.8")
def test_bad_rule_names_the_place(origin: str, key: str, item: dict[str, Any], words: str) -> None:
    good = {"src": "/g", "dest": "/h"} if key == "routes" else dict(R)
    if key == "headers":
        good = {"source": "/g", "headers": []}
    with pytest.raises(DetectFailed) as caught:
        parse(**{key: [good, item, good]})
    assert words in caught.value.sentence, origin


@pytest.mark.parametrize(
    ("routes", "words"),
    [
        ([{"handle": "hit"}, {"src": "/a", "dest": "/b", "continue": True}], "routes[1]: behind handle hit"),
        ([{"handle": "hit"}, {"src": "/a", "headers": {"a": "b"}}], "routes[1]: behind handle hit"),
        ([{"handle": "hit"}, {"src": "/a", "status": 404, "continue": True}], "routes[1]: behind handle hit"),
        ([{"handle": "miss"}, {"src": "/a", "dest": "/b"}], "routes[1]: behind handle miss"),
        ([{"handle": "miss"}, {"src": "/a", "headers": {"a": "b"}}], "routes[1]: behind handle miss"),
        ([{"handle": "hit"}, {"handle": "hit"}], "routes[1].handle is there already"),
    ],
)
def test_phase_has_its_own_rules(routes: list[Any], words: str) -> None:
    with pytest.raises(DetectFailed) as caught:
        parse(routes=routes)
    assert words in caught.value.sentence


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(DetectFailed) as caught:
        parse(cleanUrls=1, redirects=[{}, R, {**R, "source": "/("}], headers=5, rewrites=[{**R, "destination": "/:q"}])
    sentence = caught.value.sentence
    places = ("cleanUrls", "redirects[0].source", "redirects[0].destination", "redirects[2]", "headers", "rewrites[0]")
    assert all(f"vercel.json {place}" in sentence for place in places)
    assert "redirects[1]" not in sentence


def test_endless_problems_are_cut() -> None:
    with pytest.raises(DetectFailed, match="and 80 more"):
        parse(redirects=[1] * 100)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["/a", "/:x", "/(.*)", "$1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["source", "destination", "headers", "has", "type", "key", "value", "src", "handle", "re"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KEYS = st.sampled_from(["redirects", "rewrites", "headers", "routes", "cleanUrls", "trailingSlash"])


@given(st.dictionaries(KEYS, JSON | st.lists(JSON, max_size=4)))
def test_any_configuration_is_read_or_refused(config: dict[str, Any]) -> None:
    try:
        parse(**config)
    except VcloneError as error:
        assert isinstance(error, DetectFailed)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_vercel_config(text)
    except VcloneError as error:
        assert isinstance(error, DetectFailed)


@given(st.text("/:ab$*?#&=.(){}%\0\\", max_size=24))
def test_any_destination_is_filled_or_refused(destination: str) -> None:
    for key in ("redirects", "rewrites"):
        try:
            parse(**{key: [{"source": "/:a/(.*)/:b?", "destination": destination}]})
        except DetectFailed:
            continue
