"""Custom domains over the API: from a claim to a served name, redirects, branches, loss, and the checks' own work."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.dns_server import servfail

from vclone_core.actions import accounts, domain_checks, owners
from vclone_core.stores import records
from vclone_core.stores.dns import open_dns

from .browser import CookieBrowser
from .claims import ADDRESS, EDGE, Rivals


async def test_from_a_claim_to_a_served_domain(rivals: Rivals) -> None:
    deployment = await rivals.api.live(rivals.project)
    added = await rivals.add("Shop.Example")
    assert (added["host"], added["state"], added["problem"]) == ("shop.example", "pending", "")
    assert [(one["type"], one["name"], one["purpose"]) for one in added["records"]] == [
        ("TXT", "_vclone.shop.example", "ownership"), ("A", "shop.example", "routing"),
        ("AAAA", "shop.example", "routing"),
    ]  # fmt: skip
    await rivals.look()
    assert "_vclone.shop.example does not exist (NXDOMAIN)" in (await rivals.show("shop.example"))["problem"]
    assert await rivals.served("shop.example") is None
    # The proof alone has it served: who moves a site here changes its way last, and is never without a page.
    rivals.prove(added, leads=False)
    rivals.dns.names["shop.example"] = ["A 192.0.2.1"]
    await rivals.look()
    found = await rivals.show("shop.example")
    assert found["state"] == "misrouted" and found["verified_at"]
    assert found["problem"] == f"shop.example has A 192.0.2.1, expected 2001:db8::5 or {ADDRESS}."
    assert await rivals.served("shop.example") == deployment.id
    rivals.dns.names["shop.example"] = [f"A {ADDRESS}", "AAAA 2001:db8::5"]
    await rivals.look()
    found = await rivals.show("shop.example")
    assert (found["state"], found["problem"]) == ("active", "")
    status, resolved = await rivals.api.ask("GET", "/api/domains/resolve/SHOP.example.")
    assert status == 200
    assert (resolved["kind"], resolved["project"], resolved["deployment"]) == (
        "custom", rivals.project.name, deployment.id,
    )  # fmt: skip


async def test_production_moves_are_shown_there_too(rivals: Rivals) -> None:
    """Also where the domain was proved before anything was deployed."""
    rivals.prove(await rivals.add("shop.example"))
    await rivals.look()
    assert (await rivals.state("shop.example"), await rivals.served("shop.example")) == ("active", None)
    first = await rivals.api.live(rivals.project)
    assert await rivals.served("shop.example") == first.id
    second = await rivals.api.live(rivals.project)
    assert await rivals.served("shop.example") == second.id
    await rivals.api.ask("POST", f"/api/projects/{rivals.project.name}/rollback", json={})
    assert await rivals.served("shop.example") == first.id
    await rivals.api.ask("POST", f"/api/deployments/{second.id}/promote")
    assert await rivals.served("shop.example") == second.id


async def test_removed_is_gone_at_once_and_edges_are_told(rivals: Rivals) -> None:
    await rivals.api.live(rivals.project)
    rivals.prove(await rivals.add("shop.example"))
    await rivals.look()
    assert await rivals.served("shop.example")
    assert await rivals.api.ask("DELETE", "/api/domains/shop.example") == (204, "")
    assert await rivals.served("shop.example") is None
    assert [host for host, site in await rivals.told() if site is None] == ["shop.example"]
    assert (await rivals.api.ask("DELETE", "/api/domains/shop.example"))[0] == 404
    await rivals.api.live(rivals.project)
    assert await rivals.served("shop.example") is None


async def test_apex_and_www(rivals: Rivals) -> None:
    await rivals.api.live(rivals.project)
    apex, www = await rivals.add("shop.example"), await rivals.add("www.shop.example", redirect_to="shop.example")
    rivals.prove(www)
    await rivals.look()
    # Nobody is sent to a name that isn't held: until then it shows the site itself.
    assert (await rivals.site("www.shop.example") or {})["redirect_to"] is None
    rivals.prove(apex)
    await rivals.look()
    assert (await rivals.site("www.shop.example") or {})["redirect_to"] == "shop.example"
    assert (await rivals.told())[-1][0] == "www.shop.example"
    await rivals.api.live(rivals.project)
    assert (await rivals.site("www.shop.example") or {})["redirect_to"] == "shop.example"
    assert '"redirect_to": "shop.example"' in str((await rivals.told())[-1][1])
    path = "/api/domains/www.shop.example"
    status, changed = await rivals.api.ask("PATCH", path, json={"redirect_to": None})
    assert (status, changed["redirect_to"]) == (200, None)
    assert (await rivals.site("www.shop.example") or {})["redirect_to"] is None
    for target in ("www.shop.example", "elsewhere.example", "http://x", "a..b"):
        status, problem = await rivals.api.ask("PATCH", path, json={"redirect_to": target})
        assert (status, problem["problems"][0]["field"]) == (400, "redirect_to"), target
    await rivals.api.ask("PATCH", path, json={"redirect_to": "shop.example"})
    status, _ = await rivals.api.ask("PATCH", "/api/domains/shop.example", json={"redirect_to": "www.shop.example"})
    assert status == 400
    # Its target lost: visitors aren't sent to what may become somebody else's.
    await rivals.api.ask("DELETE", "/api/domains/shop.example")
    assert (await rivals.site("www.shop.example") or {})["redirect_to"] is None
    assert (await rivals.show("www.shop.example"))["redirect_to"] is None


async def test_a_domain_of_a_branch(rivals: Rivals) -> None:
    api, project = rivals.api, rivals.project
    await api.live(project)
    rivals.prove(await rivals.add("next.shop.example", branch="main"))
    await rivals.look()
    shown = await api.live(project)
    assert await rivals.served("next.shop.example") == shown.id
    # A rollback of production doesn't move it.
    await api.ask("POST", f"/api/projects/{project.name}/rollback", json={})
    assert await rivals.served("next.shop.example") == shown.id
    path = "/api/domains/next.shop.example"
    assert (await api.ask("PATCH", path, json={"branch": "none-yet"}))[0] == 200
    assert await rivals.served("next.shop.example") is None
    assert (await api.ask("PATCH", path, json={}))[0] == 200
    assert await rivals.served("next.shop.example") != shown.id
    assert (await api.ask("PATCH", path, json={"branch": "a..b"}))[0] == 400
    assert (await api.ask("PATCH", path, json={"branch": "main", "redirect_to": "x.example"}))[0] == 400


REFUSED = [
    ("localhost", "the platform"),
    ("shop.localhost", "the platform"),
    ("SHOP.LocalHost.", "the platform"),
    ("\uff53\uff48\uff4f\uff50.localhost", "the platform"),  # `shop` in full width
    (EDGE, "the platform"),
    ("co.uk", "public suffix"),
    ("github.io", "public suffix"),
    ("printer.local", "no owner"),
    ("127.0.0.1", "an address"),
    ("[::1]", "an address"),
    ("*.shop.example", "wildcard"),
    ("https://shop.example/", "no scheme"),
    ("shop..example", "no host name"),
    (f"{'a' * 64}.example", "no host name"),
]


async def test_names_that_nobody_can_claim(rivals: Rivals) -> None:
    for host, words in REFUSED:
        status, problem = await rivals.api.ask(
            "POST", f"/api/domains/projects/{rivals.project.name}", json={"host": host}
        )
        assert (status, problem["problems"][0]["field"]) == (400, "host"), host
        assert words in problem["problems"][0]["message"], host


async def test_what_is_refused_over_the_api(rivals: Rivals) -> None:
    api, path = rivals.api, f"/api/domains/projects/{rivals.project.name}"
    await rivals.add("shop.example")
    status, problem = await api.ask("POST", path, json={"host": "SHOP.example."})
    assert (status, problem["code"]) == (409, "conflict")
    for body in ({}, {"host": ""}, {"host": 5}, {"host": "a.example", "token": "mine"}, {"host": "x" * 400}):
        assert (await api.ask("POST", path, json=body))[0] == 400
    assert (await api.ask("GET", "/api/domains/nothing.example"))[0] == 404
    assert (await api.ask("GET", "/api/domains/resolve/nothing.example"))[0] == 404
    await rivals.sql(
        "insert into domains (id, project_id, host, token)"
        f" select 'dom_' || n, '{rivals.project.id}', n || '.example', 't' from generate_series(1, 49) n"
    )
    assert (await api.ask("POST", path, json={"host": "one-more.example"}))[0] == 429
    status, page = await api.ask("GET", "/api/domains?limit=30")
    rest = (await api.ask("GET", f"/api/domains?limit=30&cursor={page['next_cursor']}"))[1]
    assert len({one["id"] for one in (*page["items"], *rest["items"])}) == 50 and rest["next_cursor"] is None


async def test_a_lost_domain_is_served_for_its_grace_and_then_released(rivals: Rivals) -> None:
    await rivals.api.live(rivals.project)
    rivals.prove(await rivals.add("shop.example"))
    await rivals.look()
    rivals.forget("shop.example")
    await rivals.look()
    found = await rivals.show("shop.example")
    assert found["state"] == "failing" and "It is released on" in found["problem"]
    assert await rivals.served("shop.example")
    await rivals.pass_days(6)
    await rivals.look()
    assert await rivals.state("shop.example") == "failing"
    await rivals.pass_days(2)
    await rivals.look()
    found = await rivals.show("shop.example")
    assert found["state"] == "lapsed" and found["problem"].startswith("Released: ") and found["next_check_at"] is None
    assert await rivals.served("shop.example") is None
    assert (await rivals.told())[-1] == ("shop.example", None)
    actions = [one["action"] for one in (await rivals.api.ask("GET", "/api/audit"))[1]["items"]]
    assert actions[:3] == ["domain_lapsed", "domain_failing", "domain_active"]
    # What somebody else sets up there now isn't shown by the old claim.
    rivals.dns.names["shop.example"] = [f"A {ADDRESS}"]
    await rivals.look()
    assert await rivals.served("shop.example") is None


async def test_an_outage_of_the_dns_releases_nothing(rivals: Rivals) -> None:
    await rivals.api.live(rivals.project)
    rivals.prove(await rivals.add("shop.example"))
    await rivals.look()
    for said in (servfail(), servfail(is_signed_wrongly=True)):
        for name in ("shop.example", "_vclone.shop.example"):
            rivals.dns.names[name] = said
        await rivals.pass_days(100)
        await rivals.look()
        found = await rivals.show("shop.example")
        assert found["state"] == "active" and "says SERVFAIL" in found["problem"]
        assert await rivals.served("shop.example")


async def test_the_record_may_go_once_it_is_through(rivals: Rivals) -> None:
    rivals.prove(await rivals.add("shop.example"))
    await rivals.look()
    del rivals.dns.names["_vclone.shop.example"]
    await rivals.look()
    found = await rivals.show("shop.example")
    assert (found["state"], found["problem"]) == ("active", "")


async def test_processes_share_the_work(rivals: Rivals) -> None:
    for number in range(12):
        rivals.prove(await rivals.add(f"shop{number}.example"))
    rivals.dns.asked.clear()
    counts = await asyncio.gather(*(domain_checks.check_due(rivals.api.platform) for _ in range(4)))
    assert sum(counts) == 12
    assert len([one for one in rivals.dns.asked if one.startswith("_vclone.")]) == 12
    assert await domain_checks.check_due(rivals.api.platform) == 0


async def test_a_process_that_died_leaves_its_work_due(rivals: Rivals) -> None:
    rivals.prove(await rivals.add("shop.example"))
    await rivals.api.platform.db.fetch("claim_due_domains", 10, 60.0)
    assert await domain_checks.check_due(rivals.api.platform) == 0
    await rivals.sql("update domains set next_check_at = next_check_at - interval '61 seconds'")
    assert await domain_checks.check_due(rivals.api.platform) == 1
    assert await rivals.state("shop.example") == "active"


async def test_a_look_that_comes_late_decides_nothing(rivals: Rivals) -> None:
    """The claim is removed, and made again, while the DNS is asked about the old one."""
    await rivals.api.live(rivals.project)
    old = await rivals.add("shop.example")
    rivals.prove(old)
    rows = await rivals.api.platform.db.fetch("claim_due_domains", 10, 60.0)
    assert len(rows) == 1
    await rivals.api.ask("DELETE", "/api/domains/shop.example")
    await rivals.add("shop.example")
    resolvers = open_dns(rivals.api.platform.settings)
    await domain_checks._check(rivals.api.platform, resolvers, records.domain_from(rows[0]), actor_id=None)
    assert await rivals.state("shop.example") == "pending"
    assert await rivals.served("shop.example") is None


async def test_asking_again_at_once_asks_no_server(rivals: Rivals) -> None:
    await rivals.add("shop.example")
    for _ in range(5):
        assert (await rivals.api.ask("POST", "/api/domains/shop.example/verify"))[0] == 200
    assert rivals.dns.asked.count("_vclone.shop.example TXT") == 1


async def test_audit_and_other_teams(rivals: Rivals) -> None:
    added = await rivals.add("shop.example")
    for method, path, body in (
        ("GET", f"/api/domains/{added['id']}", None),
        ("GET", "/api/domains/shop.example", None),
        ("PATCH", "/api/domains/shop.example", {}),
        ("POST", "/api/domains/shop.example/verify", None),
        ("DELETE", "/api/domains/shop.example", None),
        ("GET", f"/api/domains/projects/{rivals.project.name}", None),
        ("GET", f"/api/domains?project={rivals.project.name}", None),
        ("GET", "/api/domains/resolve/shop.example", None),
    ):
        answer = await rivals.api.ask(method, path, "stranger", **({} if body is None else {"json": body}))
        assert answer[0] == 404, path
    assert (await rivals.api.ask("GET", "/api/domains", "stranger"))[1]["items"] == []
    await rivals.api.ask("DELETE", "/api/domains/shop.example")
    entries = (await rivals.api.ask("GET", "/api/audit"))[1]["items"]
    assert [one["action"] for one in entries[:2]] == ["remove_domain", "add_domain"]
    assert entries[1]["facts"]["host"] == "shop.example"
    token = added["records"][0]["value"].partition("=")[2]
    assert token not in str(entries)


async def test_the_page_works_without_script(rivals: Rivals) -> None:
    api = rivals.api
    await api.live(rivals.project)
    browser = CookieBrowser(api.app)
    link = await owners.sign_in_link(api.platform.db, api.owner.user_id)
    browser.cookies["vclone_session"] = await accounts.redeem_sign_in_link(api.platform, link)
    path = f"/projects/{rivals.project.name}/domains"
    assert "No domains yet" in (await browser.get(path))[1]
    status, page = await browser.post(path, host="co.uk")
    assert status == 400 and "is a public suffix" in page and 'value="co.uk"' in page
    assert await browser.post(path, host="shop.example") == (303, path)
    await browser.post(path, host="www.shop.example")
    domain = await rivals.show("shop.example")
    page = (await browser.get(path))[1]
    assert domain["records"][0]["value"] in page and "_vclone.shop.example" in page and "pending" in page
    rivals.dns.names["_vclone.shop.example"] = ['TXT "<script>alert(1)</script>"']
    assert (await browser.post(f"{path}/{domain['id']}/verify"))[0] == 303
    page = (await browser.get(path))[1]
    assert "&lt;script&gt;alert(1)" in page and "<script>alert" not in page
    www = await rivals.show("www.shop.example")
    assert (await browser.post(f"{path}/{www['id']}/redirect", redirect_to="shop.example"))[0] == 303
    assert (await rivals.show("www.shop.example"))["redirect_to"] == "shop.example"
    assert (await browser.post(f"{path}/{www['id']}/delete"))[0] == 303
    assert "www.shop.example" not in (await browser.get(path))[1]
    assert f'href="{path}"' in (await browser.get(f"/projects/{rivals.project.name}"))[1]


async def test_an_edge_without_an_address_costs_no_domain(rivals: Rivals) -> None:
    """The operator's own zone is broken, and the proof is long gone."""
    api = rivals.api
    unset = replace(api.platform, settings=api.platform.settings.model_copy(update={"domain_addresses": ""}))
    await api.live(rivals.project)
    rivals.prove(await rivals.add("shop.example"))
    await rivals.look()
    del rivals.dns.names["_vclone.shop.example"]
    del rivals.dns.names[EDGE]
    await rivals.sql("update domains set next_check_at = now()")
    assert await domain_checks.check_due(unset) == 1
    found = await rivals.show("shop.example")
    assert found["state"] == "active" and f"{EDGE}, where shop.example is to lead, has no address" in found["problem"]
    assert await rivals.served("shop.example")
