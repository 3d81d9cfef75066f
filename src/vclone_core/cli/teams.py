"""`vclone teams`: one's teams, their members, and invitations."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import click

from vclone_core.cli.client import ApiClient, call_api
from vclone_core.cli.context import find_platform, json_option, platform_file, platform_options, save_platform
from vclone_core.cli.progress import say
from vclone_core.cli.render import format_table, print_json, print_outcome
from vclone_core.embedded.datadir import read_json
from vclone_core.errors import NotFound

ROLE = click.Choice(["owner", "admin", "developer", "viewer"])


@click.group()
def teams() -> None:
    """Your teams, their members and invitations."""


@teams.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def list_teams(as_json: bool, **options: str | None) -> None:
    """List your teams, and your role in each."""
    answer = call_api(options, lambda api: api.get_all("/api/teams"))
    if as_json:
        print_json(answer)
        return
    click.echo(format_table(["TEAM", "NAME", "ROLE"], [[it["slug"], it["name"], it["role"]] for it in answer["items"]]))


@teams.command("create")
@click.argument("name")
@click.option("--slug", help="How the team is called in addresses and options.  [from the name]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def create(name: str, slug: str | None, as_json: bool, **options: str | None) -> None:
    """Make a team, whose owner you are."""
    answer = call_api(options, lambda api: api.post("/api/teams", {"name": name, "slug": slug}))
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{answer['name']} is made. `vclone teams switch {answer['slug']}` goes there.")


@teams.command("switch")
@click.argument("slug")
@json_option
@platform_options
def switch(slug: str, *, as_json: bool, **options: str | None) -> None:
    """Act in another team from now on, on this computer."""
    found = call_api(options, lambda api: api.get(f"/api/teams/{slug}"))
    place = find_platform(api=options["api"], token=options["token"], data_dir=options["data_dir"])
    kept = read_json(platform_file(os.environ)) or {}
    save_platform(
        platform_file(os.environ),
        api_url=place.api_url,
        token=place.token,
        data_dir=kept.get("data_dir"),
        team=found["slug"],
    )
    print_outcome(found, f"The CLI acts in {found['slug']} ({found['role']}).", as_json=as_json)


@teams.command("members")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def list_members(as_json: bool, **options: str | None) -> None:
    """List the members of the team."""
    answer = call_api(options, in_team(lambda api, team: api.get_all(f"/api/teams/{team}/members")))
    if as_json:
        print_json(answer)
        return
    rows = [
        [
            it["user"]["email"],
            it["role"],
            "all" if it["projects"] is None else str(len(it["projects"])),
            it["user"]["id"],
        ]
        for it in answer["items"]
    ]
    click.echo(format_table(["MEMBER", "ROLE", "PROJECTS", "ID"], rows))


@teams.command("invite")
@click.argument("email")
@click.option("--role", type=ROLE, default="developer", show_default=True, help="What they may do.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@platform_options
def invite(email: str, role: str, as_json: bool, **options: str | None) -> None:
    """Invite EMAIL into the team; prints the link to send them, this once."""
    body = {"email": email, "role": role}
    answer = call_api(options, in_team(lambda api, team: api.post(f"/api/teams/{team}/invitations", body)))
    if as_json:
        print_json(answer)
    else:
        say(
            f"{answer['email']} is invited as {answer['role']}, until {answer['expires_at'][:10]}. Send them this link:"
        )
        click.echo(answer["url"])


@teams.command("role")
@click.argument("member")
@click.argument("role", type=ROLE)
@click.option("--project", "projects", multiple=True, help="Restrict them to this project; may be given again.")
@click.option("--all-projects", is_flag=True, help="Let them see every project again.")
@json_option
@platform_options
def change_role(
    member: str, role: str, projects: tuple[str, ...], *, all_projects: bool, as_json: bool, **options: str | None
) -> None:
    """Make MEMBER (address or id) a ROLE of the team."""
    body: dict[str, Any] = {"role": role, "sees_all_projects": all_projects}
    if projects:
        body["projects"] = list(projects)

    async def change(api: ApiClient, team: str) -> Any:
        return await api.patch(f"/api/teams/{team}/members/{await find_member(api, team, member)}", body)

    changed = call_api(options, in_team(change))
    print_outcome(changed, f"{changed['user']['email']} is {changed['role']}.", as_json=as_json)


@teams.command("remove")
@click.argument("member")
@json_option
@platform_options
def remove(member: str, *, as_json: bool, **options: str | None) -> None:
    """Take MEMBER (address or id) out of the team; your own leaves it."""

    async def leave(api: ApiClient, team: str) -> None:
        await api.delete(f"/api/teams/{team}/members/{await find_member(api, team, member)}")

    call_api(options, in_team(leave))
    print_outcome({"removed": member}, f"{member} is no member any more.", as_json=as_json)


async def find_member(api: ApiClient, team: str, text: str) -> str:
    """Return the id of a member named by address or id."""
    for it in (await api.get_all(f"/api/teams/{team}/members"))["items"]:
        if text in (it["user"]["id"], it["user"]["email"]):
            return str(it["user"]["id"])
    raise NotFound(what=f"member {text}")


def in_team(action: Callable[[ApiClient, str], Awaitable[Any]]) -> Callable[[ApiClient], Awaitable[Any]]:
    """Return an action that is given the team the CLI acts in."""

    async def run(api: ApiClient) -> Any:
        me = await api.get("/api/auth/me")
        return await action(api, me["team"]["id"])

    return run
