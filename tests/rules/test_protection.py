"""Who may visit a protected site: what opens one, and everything that must not."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.models import AliasKind, Covers, Protection
from vclone_core.rules.passes import (
    Pass,
    Way,
    hash_bypass,
    hash_mark,
    hash_secret,
    make_key,
    read_pass,
    sign_pass,
)
from vclone_core.rules.protection import (
    ENTER_PATH,
    GRANT_S,
    Allowed,
    Refused,
    Sent,
    Visit,
    decide_visit,
    is_covered,
    is_local,
)
from vclone_core.rules.requests import Request

NOW = 1_800_000_000.0
HOST, ORIGIN = "preview.example", "https://preview.example"
SIGNING, KEY = make_key(b"1" * 32)
OTHER_SIGNING, OTHER_KEY = make_key(b"2" * 32)
MARK, FRESH, SECRET = "browsers-own-mark-1", "fresh-mark-of-this-one", "secret-of-automation"
PROTECTION = Protection(
    KEY,
    "https://vclone.example/enter",
    members=3,
    password=5,
    links=("lnk_1",),
    bypass=hash_bypass(hash_secret(SECRET)),
)
MEMBER = Pass(Way.MEMBER, HOST, int(NOW) - 5, int(NOW) + 3600, generation=3, visitor=hash_mark(MARK))
PASSWORD = replace(MEMBER, way=Way.PASSWORD, generation=5)
LINK = Pass(Way.LINK, HOST, int(NOW) - 5000, int(NOW) + 3600, link="lnk_1")
PAGE = {"accept": "text/html,*/*", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


def visit(
    path: str = "/",
    *,
    method: str = "GET",
    query: str = "",
    scheme: str = "https",
    protection: Protection = PROTECTION,
    now_s: float = NOW,
    **headers: str,
) -> Visit:
    fields = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    request = Request(method, HOST, path, query, fields, scheme)
    return decide_visit(protection, request, origin=f"{scheme}://{HOST}", now_s=now_s, mark=FRESH)


def cookie(text: str, mark: str = MARK, name: str = "__Host-vclone-pass") -> str:
    return f"{name}={mark}.{text}"


def forge(asked: Pass, **changed: Any) -> str:
    """A pass whose payload was changed after it was signed."""
    payload, signature = sign_pass(SIGNING, asked).split(".")
    raw = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))) | changed
    return f"{base64.urlsafe_b64encode(json.dumps(raw).encode()).rstrip(b'=').decode()}.{signature}"


OPENED = [
    ("member", {"cookie": cookie(sign_pass(SIGNING, MEMBER))}),
    ("member", {"cookie": f"a=b; {cookie(sign_pass(SIGNING, MEMBER))}; c=d"}),
    ("member", {"cookie": f"__Host-vclone-pass=junk; {cookie(sign_pass(SIGNING, MEMBER))}"}),
    ("password", {"cookie": cookie(sign_pass(SIGNING, PASSWORD))}),
    ("link", {"cookie": cookie(sign_pass(SIGNING, LINK), mark="whatever-mark-there-is")}),
    ("bypass", {"x_vclone_protection_bypass": SECRET}),
    ("bypass cookie", {"cookie": f"__Host-vclone-pass=automation.{hash_secret(SECRET)}"}),
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "PUT"])
@pytest.mark.parametrize(("by", "headers"), OPENED)
def test_what_opens_it(by: str, headers: dict[str, str], method: str) -> None:
    found = visit("/a", method=method, query="x=1", **headers)
    assert isinstance(found, Allowed)
    assert found.by == by
    # Nothing of it goes on.
    seen = found.request
    assert (seen.path, seen.query, seen.method) == ("/a", "x=1", method)
    assert not any(b"vclone" in name or b"vclone-pass" in value for name, value in seen.headers.items())
    assert (b"cookie" in seen.headers) is ("a=b" in headers.get("cookie", ""))


ATTACKS = {
    "nothing": {},
    "no pass": {"cookie": f"__Host-vclone-pass={MARK}"},
    "an empty pass": {"cookie": cookie("")},
    "junk": {"cookie": cookie("eyJ9.AAAA")},
    "a very long one": {"cookie": cookie("A" * 5000 + "." + "B" * 86)},
    "bytes that are no text": {"cookie": cookie("ÿÿ.ÿÿ")},
    "another project's key": {"cookie": cookie(sign_pass(OTHER_SIGNING, MEMBER))},
    "another host": {"cookie": cookie(sign_pass(SIGNING, replace(MEMBER, host="other.example")))},
    "host changed after signing": {"cookie": cookie(forge(replace(MEMBER, host="other.example"), host=HOST))},
    "way changed after signing": {"cookie": cookie(forge(replace(LINK, link="gone"), link="lnk_1"))},
    "end changed after signing": {
        "cookie": cookie(forge(replace(MEMBER, ends_s=int(NOW) - 1), ends_s=int(NOW) + 9_999))
    },
    "no signature": {"cookie": cookie(sign_pass(SIGNING, MEMBER).split(".")[0] + ".")},
    "the signature of another": {
        "cookie": cookie(sign_pass(SIGNING, MEMBER).split(".")[0] + "." + sign_pass(SIGNING, PASSWORD).split(".")[1])
    },
    "over": {"cookie": cookie(sign_pass(SIGNING, replace(MEMBER, ends_s=int(NOW))))},
    "of the future": {"cookie": cookie(sign_pass(SIGNING, replace(MEMBER, made_s=int(NOW) + 31)))},
    "a generation before": {"cookie": cookie(sign_pass(SIGNING, replace(MEMBER, generation=2)))},
    "a generation to come": {"cookie": cookie(sign_pass(SIGNING, replace(MEMBER, generation=4)))},
    "by password, with the members' generation": {
        "cookie": cookie(sign_pass(SIGNING, replace(MEMBER, way=Way.PASSWORD)))
    },
    "in another browser": {"cookie": cookie(sign_pass(SIGNING, MEMBER), mark="the-mark-of-another")},
    "a pass for a person that is for nobody": {"cookie": cookie(sign_pass(SIGNING, replace(MEMBER, visitor="")))},
    "a share link that was revoked": {"cookie": cookie(sign_pass(SIGNING, replace(LINK, link="lnk_2")))},
    "a share link that is over": {"cookie": cookie(sign_pass(SIGNING, replace(LINK, ends_s=int(NOW) - 1)))},
    "a share link of another deployment": {
        "cookie": cookie(sign_pass(SIGNING, replace(LINK, host="other-preview.example")))
    },
    "a cookie that any host could have set": {"cookie": cookie(sign_pass(SIGNING, MEMBER), name="vclone-pass")},
    "a cookie of a name like it": {"cookie": cookie(sign_pass(SIGNING, MEMBER), name="__host-vclone-pass")},
    "a wrong secret": {"x_vclone_protection_bypass": "secret-of-automatioN"},
    "what is kept of the secret, as the secret": {"x_vclone_protection_bypass": hash_secret(SECRET)},
    "what the edge knows, as the secret": {"x_vclone_protection_bypass": hash_bypass(hash_secret(SECRET))},
    "what the edge knows, as a cookie": {"cookie": f"__Host-vclone-pass=automation.{hash_bypass(hash_secret(SECRET))}"},
    "the secret itself as a cookie": {"cookie": f"__Host-vclone-pass=automation.{SECRET}"},
    "nothing, but says what it wants": {"x_vclone_set_bypass_cookie": "true"},
    "a condition": {"if_none_match": "*"},
    "a range": {"range": "bytes=0-0"},
    "headers of a proxy": {"x_forwarded_for": "127.0.0.1", "x_forwarded_host": "vclone.example"},
    "an authorisation": {"authorization": "Bearer vct_0000"},
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("headers", ATTACKS.values(), ids=ATTACKS.keys())
def test_what_does_not_open_it(headers: dict[str, str], method: str) -> None:
    assert visit(method=method, **headers) == Refused()
    page = visit(method=method, accept="text/html", **headers)
    if method == "GET":
        assert isinstance(page, Sent)
        assert page.location.startswith("https://vclone.example/enter?")
    else:
        assert page == Refused()


def test_nothing_opens_what_cant_be_read() -> None:
    closed = Protection("", "")
    for _, headers in OPENED:
        assert visit(protection=closed, **headers) == Refused()
        assert visit(protection=closed, **PAGE, **headers) == Refused()


@given(st.text(max_size=300))
def test_no_text_is_a_pass(text: str) -> None:
    assert read_pass(KEY, text) is None
    assert read_pass(text, sign_pass(SIGNING, MEMBER)) is None or text == KEY


def test_a_pass_is_read_as_it_was_made() -> None:
    for one in (MEMBER, PASSWORD, LINK):
        assert read_pass(KEY, sign_pass(SIGNING, one)) == one
        assert read_pass(OTHER_KEY, sign_pass(SIGNING, one)) is None


@pytest.mark.parametrize(
    ("method", "headers", "is_asked"),
    [
        ("GET", PAGE, True),
        ("GET", {"accept": "text/html"}, True),
        ("HEAD", PAGE, False),
        ("POST", PAGE, False),
        ("GET", {"accept": "*/*"}, False),
        ("GET", {"accept": "text/html", "sec-fetch-mode": "cors"}, False),
        ("GET", {"accept": "text/html", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, False),
        ("GET", {"accept": "image/avif", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, False),
    ],
)
def test_only_a_page_that_a_person_looks_at_is_asked_for(method: str, headers: dict[str, str], is_asked: bool) -> None:
    found = visit("/a b", query="c=d&_vclone_share=x", method=method, **headers)
    assert isinstance(found, Sent if is_asked else Refused)
    if isinstance(found, Sent):
        said = parse_qs(urlsplit(found.location).query)
        assert said == {"host": [HOST], "visitor": [hash_mark(FRESH)], "to": ["/a%20b?c=d"]}
        assert found.cookie == f"__Host-vclone-pass={FRESH}; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax; Secure"


def test_a_browser_keeps_its_mark_while_it_is_asked() -> None:
    found = visit(cookie=f"__Host-vclone-pass={MARK}", **PAGE)
    assert isinstance(found, Sent)
    assert (found.cookie, parse_qs(urlsplit(found.location).query)["visitor"]) == (None, [hash_mark(MARK)])


def test_over_plain_http_the_cookie_is_what_it_can_be() -> None:
    found = visit(scheme="http", **PAGE)
    assert isinstance(found, Sent)
    assert found.cookie == f"vclone-pass={FRESH}; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"
    # Another host of the domain may have set one of that name too: each is tried.
    mine = cookie(sign_pass(SIGNING, MEMBER), name="vclone-pass")
    assert isinstance(visit(scheme="http", cookie=f"vclone-pass=another-hosts-mark.x; {mine}"), Allowed)


GRANT = sign_pass(SIGNING, MEMBER)


def test_coming_back_sets_the_cookie_and_goes_on() -> None:
    found = visit(ENTER_PATH, query=f"grant={GRANT}&to=%2Fa%3Fb%3Dc", cookie=f"__Host-vclone-pass={MARK}")
    assert isinstance(found, Sent)
    assert found.location == f"{ORIGIN}/a?b=c"
    assert found.cookie is not None
    assert found.cookie == f"__Host-vclone-pass={MARK}.{GRANT}; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax; Secure"
    assert isinstance(visit(cookie=found.cookie.partition(";")[0]), Allowed)
    # Once in, the address of the way in leads on without it.
    again = visit(ENTER_PATH, query="grant=old&to=%2Fa", cookie=found.cookie.partition(";")[0])
    assert again == Sent(f"{ORIGIN}/a")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
@pytest.mark.parametrize(
    ("grant", "headers", "later_s"),
    [
        (GRANT, {}, 0),  # stolen: no mark
        (GRANT, {"cookie": "__Host-vclone-pass=the-mark-of-another"}, 0),  # played into another browser
        (GRANT, {"cookie": f"__Host-vclone-pass={MARK}"}, GRANT_S),  # replayed when it is old
        (GRANT, {"cookie": f"vclone-pass={MARK}"}, 0),
        (sign_pass(OTHER_SIGNING, MEMBER), {"cookie": f"__Host-vclone-pass={MARK}"}, 0),
        (sign_pass(SIGNING, replace(MEMBER, host="other.example")), {"cookie": f"__Host-vclone-pass={MARK}"}, 0),
        (sign_pass(SIGNING, replace(MEMBER, generation=2)), {"cookie": f"__Host-vclone-pass={MARK}"}, 0),
        (sign_pass(SIGNING, LINK), {"cookie": f"__Host-vclone-pass={MARK}"}, 0),  # a link is no sign-in
        (forge(replace(MEMBER, visitor=""), visitor=hash_mark(MARK)), {"cookie": f"__Host-vclone-pass={MARK}"}, 0),
        ("x", {"cookie": f"__Host-vclone-pass={MARK}"}, 0),
    ],
)
def test_grants_that_let_nobody_in(grant: str, headers: dict[str, str], later_s: float, method: str) -> None:
    found = visit(ENTER_PATH, query=f"grant={grant}", now_s=NOW + later_s, method=method, **headers)
    assert found == Refused()


def test_a_grant_is_for_a_get() -> None:
    for method in ("HEAD", "POST", "OPTIONS", "PUT"):
        mine = f"__Host-vclone-pass={MARK}"
        assert visit(ENTER_PATH, query=f"grant={GRANT}", method=method, cookie=mine) == Refused()


@pytest.mark.parametrize(
    "to",
    [
        "//evil.example", "/\\evil.example", "https://evil.example", "evil.example", "/%0d%0aset-cookie:a=b", "",
        "\\\\evil.example", "/a\r\nb", "/" + "a" * 600, "/a b", "javascript:alert(1)", "/\t/evil.example",
    ],
)  # fmt: skip
def test_the_way_back_leads_to_this_host_alone(to: str) -> None:
    from urllib.parse import quote

    query = f"grant={GRANT}&to={quote(to)}"
    found = visit(ENTER_PATH, query=query, cookie=f"__Host-vclone-pass={MARK}")
    assert isinstance(found, Sent)
    assert found.location in (f"{ORIGIN}/", f"{ORIGIN}/%0d%0aset-cookie:a=b")
    assert "\r" not in found.location
    asked = visit(ENTER_PATH, query=f"to={quote(to)}")
    assert isinstance(asked, Sent)
    assert parse_qs(urlsplit(asked.location).query)["to"] in (["/"], ["/%0d%0aset-cookie:a=b"])


@given(st.text(max_size=60))
def test_a_local_path_never_names_another_host(text: str) -> None:
    if is_local(text):
        split = urlsplit(f"https://preview.example{text}")
        assert split.hostname == "preview.example"
        assert urlsplit(text).netloc == ""


def test_a_path_with_two_slashes_comes_back_to_this_host() -> None:
    found = visit("//evil.example/x", query=f"_vclone_share={sign_pass(SIGNING, LINK)}")
    assert isinstance(found, Sent)
    assert found.location == f"{ORIGIN}//evil.example/x"


def test_a_share_link_becomes_a_cookie_and_leaves_the_address() -> None:
    text = sign_pass(SIGNING, LINK)
    found = visit("/a", query=f"b=c&_vclone_share={text}&d")
    assert isinstance(found, Sent)
    assert found.location == f"{ORIGIN}/a?b=c&d"
    assert found.cookie is not None
    assert found.cookie.startswith(f"__Host-vclone-pass={FRESH}.{text}; Path=/; Max-Age=3600;")
    assert isinstance(visit(cookie=found.cookie.partition(";")[0]), Allowed)
    # Who is in already keeps what they have.
    assert visit("/a", query=f"_vclone_share={text}", cookie=cookie(GRANT)) == Sent(f"{ORIGIN}/a")
    assert visit("/a", method="HEAD", query=f"_vclone_share={text}") == Refused()


@pytest.mark.parametrize(
    "text",
    [
        sign_pass(SIGNING, replace(LINK, host="other-preview.example")),
        sign_pass(SIGNING, replace(LINK, link="lnk_2")),
        sign_pass(SIGNING, replace(LINK, ends_s=int(NOW))),
        sign_pass(OTHER_SIGNING, LINK),
        forge(replace(LINK, host="other.example"), host=HOST),
        GRANT,
        "",
    ],
)
def test_share_links_that_open_nothing(text: str) -> None:
    assert visit("/a", query=f"_vclone_share={text}") == Refused()
    assert isinstance(visit("/a", query=f"_vclone_share={text}", **PAGE), Sent)


@pytest.mark.parametrize("way", ["header", "query"])
def test_automation_gets_a_cookie_where_it_asks_for_one(way: str) -> None:
    query, headers = "a=b", {}
    if way == "header":
        headers = {"x_vclone_protection_bypass": SECRET, "x_vclone_set_bypass_cookie": "true"}
    else:
        query += f"&x-vclone-protection-bypass={SECRET}&x-vclone-set-bypass-cookie=true"
    found = visit("/", query=query, **headers)
    assert isinstance(found, Sent)
    assert found.location == f"{ORIGIN}/?a=b"
    assert found.cookie is not None and SECRET not in found.cookie and "HttpOnly" in found.cookie
    opened = visit(cookie=found.cookie.partition(";")[0])
    assert isinstance(opened, Allowed)
    posted = visit("/", method="POST", query=query, **headers)
    assert isinstance(posted, Allowed)
    assert posted.request.query == "a=b"


def test_a_rotated_secret_closes_what_the_old_one_opened() -> None:
    rotated = replace(PROTECTION, bypass=hash_bypass(hash_secret("another")))
    for protection in (rotated, replace(PROTECTION, bypass=None)):
        kept = f"__Host-vclone-pass=automation.{hash_secret(SECRET)}"
        assert visit(protection=protection, cookie=kept) == Refused()
        assert visit(protection=protection, x_vclone_protection_bypass=SECRET) == Refused()
    # A browser whose cookie of automation opens nothing any more is given a mark when it is asked.
    asked = visit(protection=rotated, cookie=f"__Host-vclone-pass=automation.{hash_secret(SECRET)}", **PAGE)
    assert isinstance(asked, Sent)
    assert asked.cookie is not None and FRESH in asked.cookie


def test_ways_in_can_be_closed_one_by_one() -> None:
    member, password, link = (cookie(sign_pass(SIGNING, one)) for one in (MEMBER, PASSWORD, LINK))
    shut = replace(PROTECTION, password=None)
    assert isinstance(visit(protection=shut, cookie=member), Allowed)
    assert visit(protection=shut, cookie=password) == Refused()
    shut = replace(PROTECTION, members=None)
    assert visit(protection=shut, cookie=member) == Refused()
    assert isinstance(visit(protection=shut, cookie=password), Allowed)
    assert visit(protection=replace(PROTECTION, links=()), cookie=link) == Refused()
    for raised in (replace(PROTECTION, members=4), replace(PROTECTION, key=OTHER_KEY)):
        assert visit(protection=raised, cookie=member) == Refused()


@pytest.mark.parametrize(
    ("kind", "branch", "previews", "everything"),
    [
        (AliasKind.PRODUCTION, None, False, True),
        (AliasKind.CUSTOM, None, False, True),
        (AliasKind.CUSTOM, "next", True, True),
        (AliasKind.BRANCH, "main", True, True),
        (AliasKind.DEPLOYMENT, None, True, True),
    ],
)
def test_which_hosts_are_covered(kind: AliasKind, branch: str | None, previews: bool, everything: bool) -> None:
    assert not is_covered(Covers.OFF, kind, branch)
    assert is_covered(Covers.PREVIEWS, kind, branch) is previews
    assert is_covered(Covers.EVERYTHING, kind, branch) is everything
