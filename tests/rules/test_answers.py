from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import Invalid, NoSuchSite, StoreUnavailable, every_error
from vclone_core.models import FileEntry, Manifest, Pack, Route, Span, Variant
from vclone_core.rules.answers import Answer, CompiledManifest, answer_error, answer_request, compile_manifest
from vclone_core.rules.requests import Request

PAGE = FileEntry("1" * 64, 1000, "text/html; charset=utf-8", variants={
    "br": Variant("2" * 64, 300), "gzip": Variant("3" * 64, 400),
})  # fmt: skip
ASSET = FileEntry("4" * 64, 500, "text/javascript; charset=utf-8", immutable=True)
LOST = FileEntry("5" * 64, 50, "text/html; charset=utf-8", immutable=True)
ETAG = b'"' + b"1" * 32 + b'"'


def compiled(*routes: Route) -> CompiledManifest:
    files = {"/index.html": PAGE, "/app.4f3a.js": ASSET, "/404.html": LOST}
    return compile_manifest(Manifest("dep", "prj", None, files, routes))


SITE = compiled()


def ask(
    path: str = "/", method: str = "GET", *, site: CompiledManifest = SITE, is_indexed: bool = True, **headers: str
) -> Answer:
    fields = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()}
    answer = answer_request(site, Request(method, "a.example", path, headers=fields), is_indexed=is_indexed)
    assert isinstance(answer, Answer)
    return answer


def fields_of(answer: Answer) -> dict[bytes, bytes]:
    assert len(dict(answer.headers)) == len(answer.headers)
    return dict(answer.headers)


@pytest.mark.product("B6.1", "B8.3", "B9.2")
def test_page_is_sent_whole() -> None:
    answer = ask()
    assert (answer.status, answer.blob, answer.size, answer.span) == (200, PAGE.sha256, 1000, None)
    assert fields_of(answer) == {
        b"content-type": b"text/html; charset=utf-8",
        b"content-length": b"1000",
        b"etag": ETAG,
        b"cache-control": b"public, max-age=0, must-revalidate",
        b"accept-ranges": b"bytes",
        b"vary": b"accept-encoding",
        b"x-content-type-options": b"nosniff",
        b"server": b"vclone",
    }


@pytest.mark.product("B9.1")
def test_fingerprinted_asset_is_immutable() -> None:
    fields = fields_of(ask("/app.4f3a.js"))
    assert fields[b"cache-control"] == b"public, max-age=31536000, immutable"
    assert b"vary" not in fields


def test_404_page_is_never_immutable_and_never_304() -> None:
    answer = ask("/none", if_none_match="*", range="bytes=0-1")
    assert (answer.status, answer.blob) == (404, LOST.sha256)
    assert fields_of(answer)[b"cache-control"] == b"public, max-age=0, must-revalidate"


def test_rule_cannot_make_a_404_immutable() -> None:
    rule = Route(src="/.*", headers={"cache-control": "max-age=31536000, immutable", "x-a": "1"}, is_continue=True)
    fields = fields_of(ask("/none", site=compiled(rule)))
    assert fields[b"cache-control"] == b"public, max-age=0, must-revalidate"
    assert fields[b"x-a"] == b"1"
    assert fields_of(ask("/", site=compiled(rule)))[b"cache-control"] == b"max-age=31536000, immutable"


@pytest.mark.product("B7.2")
def test_variants_have_their_own_length_tag_and_blob() -> None:
    plain, br, gzip = ask(), ask(accept_encoding="gzip, br"), ask(accept_encoding="gzip")
    assert (br.blob, br.size) == ("2" * 64, 300)
    assert fields_of(br)[b"content-encoding"] == b"br"
    assert fields_of(br)[b"content-length"] == b"300"
    assert len({fields_of(answer)[b"etag"] for answer in (plain, br, gzip)}) == 3
    assert {fields_of(answer)[b"vary"] for answer in (plain, br, gzip)} == {b"accept-encoding"}


def test_vary_of_a_rule_is_kept() -> None:
    site = compiled(Route(src="/.*", headers={"vary": "cookie"}, is_continue=True))
    assert fields_of(ask(site=site))[b"vary"] == b"cookie, accept-encoding"


def test_nothing_acceptable_is_406() -> None:
    answer = ask(accept_encoding="identity;q=0, zstd")
    assert (answer.status, answer.blob) == (406, None)


@pytest.mark.product("B6.3")
def test_head_is_get_without_bytes() -> None:
    get, head = ask(accept_encoding="br"), ask(method="HEAD", accept_encoding="br", range="bytes=0-1")
    assert head.headers == get.headers
    assert (head.status, head.blob) == (200, None)


@pytest.mark.parametrize(
    ("headers", "status", "span"),
    [
        ({"range": "bytes=0-9"}, 206, Span(0, 9)),
        ({"range": "bytes=-1"}, 206, Span(999, 999)),
        ({"range": "bytes=0-9,20-29"}, 200, None),
        ({"range": "bytes=1000-"}, 416, None),
        ({"range": "bytes=0-9", "if_range": ETAG.decode()}, 206, Span(0, 9)),
        ({"range": "bytes=0-9", "if_range": '"other"'}, 200, None),
        ({"range": "bytes=0-9", "if_none_match": ETAG.decode()}, 304, None),
        ({"if_none_match": ETAG.decode()}, 304, None),
        ({"if_none_match": '"other"'}, 200, None),
        ({"if_match": '"other"'}, 412, None),
        ({"if_match": '"other"', "range": "bytes=0-9"}, 412, None),
    ],
)
@pytest.mark.product("B6.2", "B6.4", "B6.5")
def test_conditions_and_ranges(headers: dict[str, str], status: int, span: Span | None) -> None:
    answer = ask(**headers)
    assert (answer.status, answer.span) == (status, span)
    assert (answer.blob is None) == (status in {304, 412, 416})


def test_part_says_which_it_is() -> None:
    fields = fields_of(ask(range="bytes=10-19", accept_encoding="br"))
    assert fields[b"content-range"] == b"bytes 10-19/300"
    assert fields[b"content-length"] == b"10"
    assert fields[b"content-encoding"] == b"br"
    assert fields_of(ask(range="bytes=2000-"))[b"content-range"] == b"bytes */1000"


def test_304_carries_what_a_cache_needs() -> None:
    fields = fields_of(ask(if_none_match=ETAG.decode()))
    assert {b"etag", b"cache-control", b"vary"} <= fields.keys()
    assert not {b"content-type", b"content-length", b"content-encoding"} & fields.keys()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "BREW"])
@pytest.mark.product("B6.6")
def test_other_methods_are_told_what_is_allowed(method: str) -> None:
    answer = ask(method=method)
    assert answer.status == 405
    assert fields_of(answer)[b"allow"] == b"GET, HEAD, OPTIONS"
    assert ask("/none", method=method).status == 404


@pytest.mark.product("B6.6")
def test_options_says_what_is_allowed() -> None:
    answer = ask(method="OPTIONS")
    assert (answer.status, fields_of(answer)[b"allow"]) == (204, b"GET, HEAD, OPTIONS")


def test_preview_is_kept_from_search_engines() -> None:
    rule = Route(src="/old", status=308, headers={"location": "/new"})
    for path in ("/", "/none", "/old"):
        answer = ask(path, site=compiled(rule), is_indexed=False)
        assert fields_of(answer)[b"x-robots-tag"] == b"noindex"
        assert b"x-robots-tag" not in fields_of(ask(path, site=compiled(rule)))


def test_redirect_and_refusals_need_no_bytes() -> None:
    site = compiled(
        Route(src="/old", status=308, headers={"location": "/new"}),
        Route(src="/gone", status=410),
        Route(src="/no", status=403),
    )
    redirect = ask("/old", site=site)
    assert (redirect.status, redirect.blob, fields_of(redirect)[b"location"]) == (308, None, b"/new")
    assert [ask(path, site=site).status for path in ("/gone", "/no")] == [410, 403]
    assert {ask(path, site=site).blob for path in ("/gone", "/no")} == {None}


@pytest.mark.parametrize(
    "error", [error for error in every_error() if not error.__subclasses__()], ids=lambda e: e.__name__
)
def test_error_page_is_true_to_its_length(error: Any) -> None:
    answer = answer_error(error(()) if error.__name__ == "InvalidFields" else error(), "req_x")
    assert fields_of(answer)[b"content-length"] == b"%d" % len(answer.body)
    assert fields_of(answer)[b"x-content-type-options"] == b"nosniff"


def test_error_page_of_a_visitor_is_constant_and_ours_has_the_id() -> None:
    assert answer_error(NoSuchSite(), "req_a").body == answer_error(NoSuchSite(), "req_b").body
    failure = answer_error(StoreUnavailable(why="it is full"), "req_a")
    assert b"req_a" in failure.body
    assert fields_of(failure)[b"retry-after"] == b"5"
    assert fields_of(failure)[b"cache-control"] == b"no-store"


@pytest.mark.parametrize(
    "entry",
    [
        FileEntry("x", 1, "text/html"),
        FileEntry("1" * 64, -1, "text/html"),
        FileEntry("1" * 64, 1, "text/html\r\nx: y"),
        FileEntry("1" * 64, 1, ""),
        FileEntry("1" * 64, 1, "text/html", variants={"br": Variant("../x", 1)}),
        FileEntry("1" * 64, 1, "text/html", variants={"br": Variant("2" * 64, 1, Pack("../x", 9, 0))}),
        FileEntry("1" * 64, 1, "text/html", variants={"br": Variant("2" * 64, 2, Pack("3" * 64, 9, 8))}),
        FileEntry("1" * 64, 1, "text/html", variants={"br": Variant("2" * 64, 2, Pack("3" * 64, 9, -1))}),
    ],
)
def test_manifest_that_cannot_be_served_is_refused(entry: FileEntry) -> None:
    with pytest.raises(Invalid):
        compile_manifest(Manifest("dep", "prj", None, {"/a": entry}, ()))


NAMES = ["accept-encoding", "range", "if-range", "if-match", "if-none-match", "if-modified-since", "cookie"]


@given(
    st.sampled_from(["GET", "HEAD", "OPTIONS", "POST"]),
    st.sampled_from(["/", "/none", "/app.4f3a.js"]),
    st.dictionaries(st.sampled_from(NAMES).map(str.encode), st.binary(max_size=40), max_size=5),
)
def test_any_headers_give_an_answer_true_to_its_length(method: str, path: str, headers: dict[bytes, bytes]) -> None:
    answer = answer_request(SITE, Request(method, "a.example", path, headers=headers), is_indexed=True)
    fields = fields_of(answer)
    assert answer.status in {200, 204, 206, 304, 404, 405, 406, 412, 416}
    if answer.blob is not None:
        assert int(fields[b"content-length"]) == (answer.span.size if answer.span else answer.size)
    assert b"server" in fields
