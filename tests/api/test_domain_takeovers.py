"""Taking over a host name that is, was or looks like somebody else's: the attacker is the owner of another team."""

from __future__ import annotations

import asyncio

from vclone_core.actions import domain_checks

from .claims import ADDRESS, Rivals


async def test_a_claim_that_was_first_keeps_nobody_out(rivals: Rivals) -> None:
    await rivals.add("shop.example", "stranger")
    mine = await rivals.add("shop.example")
    rivals.prove(mine)
    await rivals.look()
    assert await rivals.state("shop.example") == "active"
    assert await rivals.state("shop.example", "stranger") == "pending"
    # Each claim has a record of its own.
    theirs = await rivals.show("shop.example", "stranger")
    assert theirs["records"][0]["value"] != mine["records"][0]["value"]


async def test_a_dangling_way_proves_nothing(rivals: Rivals) -> None:
    await rivals.api.live(rivals.project)
    await rivals.live(rivals.other)
    rivals.prove(await rivals.add("www.shop.example"))
    await rivals.look()
    await rivals.api.ask("DELETE", f"/api/projects/{rivals.project.name}")
    assert await rivals.served("www.shop.example") is None
    # The CNAME and the old record are still there.
    claimed = await rivals.add("www.shop.example", "stranger")
    await rivals.look()
    found = await rivals.show("www.shop.example", "stranger")
    assert found["state"] == "pending" and "expected" in found["problem"]
    assert await rivals.served("www.shop.example") is None
    await rivals.pass_days(15)
    await rivals.look()
    assert await rivals.state("www.shop.example", "stranger") == "lapsed"
    # Begun anew, it needs another record: the one shown before proves nothing any more.
    rivals.prove(claimed, leads=False)
    status, again = await rivals.api.ask("POST", f"/api/domains/{claimed['id']}/verify", "stranger")
    assert (status, again["state"]) == (200, "pending")
    assert again["records"][0]["value"] != claimed["records"][0]["value"]


async def test_a_removed_claim_has_to_be_proved_anew(rivals: Rivals) -> None:
    await rivals.api.live(rivals.project)
    first = await rivals.add("shop.example")
    rivals.prove(first)
    await rivals.look()
    await rivals.api.ask("DELETE", "/api/domains/shop.example")
    again = await rivals.add("shop.example")
    await rivals.look()
    assert await rivals.state("shop.example") == "pending"
    assert again["records"][0]["value"] != first["records"][0]["value"]


async def test_names_around_a_held_one_need_their_own_proof(rivals: Rivals) -> None:
    await rivals.live(rivals.other)
    rivals.prove(await rivals.add("b.shop.example"))
    await rivals.look()
    for wanted in ("a.b.shop.example", "shop.example", "xn--b-9fa.shop.example", "b.shop.example.other.example"):
        await rivals.add(wanted, "stranger")
        rivals.dns.names[wanted] = [f"A {ADDRESS}"]
        await rivals.look()
        assert await rivals.state(wanted, "stranger") == "pending"
        assert await rivals.served(wanted) is None
    assert await rivals.state("b.shop.example") == "active"


async def test_a_wildcard_cname_proves_nothing(rivals: Rivals) -> None:
    """`*.shop.example CNAME evil.example` has every name of the zone say what evil.example says."""
    claimed = await rivals.add("a.shop.example", "stranger")
    rivals.dns.names["_vclone.a.shop.example"] = ["CNAME evil.example."]
    rivals.dns.names["evil.example"] = [f"TXT {claimed['records'][0]['value']}"]
    await rivals.look()
    found = await rivals.show("a.shop.example", "stranger")
    assert found["state"] == "pending" and "is a CNAME to evil.example" in found["problem"]


async def test_other_spellings_are_the_same_name(rivals: Rivals) -> None:
    rivals.prove(await rivals.add("shop.example"))
    await rivals.look()
    for spelling in ("SHOP.EXAMPLE", "shop.example.", "\N{FULLWIDTH LATIN SMALL LETTER S}hop.example"):
        assert (await rivals.add(spelling, "stranger"))["host"] == "shop.example"
        await rivals.look()
        assert await rivals.state("shop.example") == "active"
        assert await rivals.state("shop.example", "stranger") == "pending"
        await rivals.api.ask("DELETE", "/api/domains/shop.example", "stranger")


async def test_whoever_proves_it_last_has_it(rivals: Rivals) -> None:
    """Somebody who can set the new record owns the name now; the old record doesn't bring it back."""
    first = await rivals.api.live(rivals.project)
    theirs = await rivals.live(rivals.other)
    old = await rivals.add("shop.example")
    await rivals.add("www.shop.example", redirect_to="shop.example")
    rivals.prove(old)
    rivals.prove(await rivals.show("www.shop.example"))
    await rivals.look()
    assert await rivals.served("shop.example") == first.id
    rivals.prove(await rivals.add("shop.example", "stranger"))
    await rivals.look()
    assert await rivals.served("shop.example") == theirs.id
    lost = await rivals.show("shop.example")
    assert lost["state"] == "lapsed" and "Another project has proved" in lost["problem"]
    # What still redirects there shows its own site instead.
    assert (await rivals.site("www.shop.example") or {})["redirect_to"] is None
    await rivals.look()
    status, again = await rivals.api.ask("POST", "/api/domains/shop.example/verify")
    assert (status, again["state"]) == (200, "pending")
    assert again["records"][0]["value"] != old["records"][0]["value"]
    assert await rivals.served("shop.example") == theirs.id
    audit = (await rivals.api.ask("GET", "/api/audit?action=domain_displaced"))[1]["items"]
    assert [one["subject"] for one in audit] == ["shop.example"]


async def test_exactly_one_of_many_at_once(rivals: Rivals) -> None:
    await rivals.api.live(rivals.project)
    await rivals.live(rivals.other)
    for round_ in range(10):
        host = f"shop{round_}.example"
        for caller in ("owner", "stranger"):
            rivals.prove(await rivals.add(host, caller), leads=False)
        ids = [(await rivals.show(host, caller))["id"] for caller in ("owner", "stranger")]
        answers = await asyncio.gather(
            *(
                rivals.api.ask("POST", f"/api/domains/{one}/verify", caller)
                for one, caller in zip(ids, ("owner", "stranger"), strict=True)
            ),
            domain_checks.check_due(rivals.api.platform),
        )
        assert [status for status, _ in answers[:2]] == [200, 200]
        held = await rivals.sql(f"select project_id from domains where host = '{host}' and verified_at is not null")
        shown = await rivals.sql(f"select project_id from aliases where host = '{host}'")
        assert [row["project_id"] for row in held] == [row["project_id"] for row in shown]
        assert len(held) == 1
