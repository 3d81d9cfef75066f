"""docs/howto/two-teams.md does what it says: its commands are read from its text and run, in the order of the page.

The test does what the page asks of its reader and of others: it makes commits and sends the signed webhooks that a git
host would, sets DNS records (BIND answers), fills in the forms of the dashboard. The REST side of the git host is a
server that records.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from tests.e2e.person import Person
from tests.e2e.whole_platform import WholePlatform, fetch, running_platform
from tests.git_server import GitServer
from tests.host_server import TOKEN, HostServer, serve_host
from tests.named import Named, serving
from tests.needs import lacks
from tests.payloads import ZERO, GitHubRepository, Request

pytestmark = [pytest.mark.dns, pytest.mark.timeout(240)]
PAGE = (Path(__file__).parent.parent.parent / "docs/howto/two-teams.md").read_text(encoding="utf-8")
BLOCKS = {
    (half, name): dedent(text)
    for half, name, text in re.findall(
        r"<!-- (api|cli): (\w+) -->\n *```sh\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE
    )
}
SETTINGS = {name.lower(): value for name, value in re.findall(r"^export VCLONE_(\w+)=(\S+)$", PAGE, re.MULTILINE)}
CONFIG, BUILD = (re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[0] for kind in ("json", "sh"))
PASSWORD = "under the old bridge"
END = "-- end --"
LIMIT_S = 60
SitDown = Callable[[str, str], "Reader"]


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Named]:
    with serving(tmp_path_factory.mktemp("named"), ["shop.example", "blog.example"]) as named:
        yield named


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, named: Named) -> Iterator[WholePlatform]:
    for program in ("curl", "jq"):
        if shutil.which(program) is None:
            lacks(f"{program} is not installed")
    # What the page sets, and that repositories, their host and the DNS are on this machine.
    here = {
        "git_allow_insecure": "true",
        "outbound_allow": "127.0.0.0/8",
        "domain_resolvers": named.address,
        "domain_ask_zones": "false",
    }
    with running_platform(tmp_path_factory.mktemp("platform"), **SETTINGS, **here) as platform:
        yield platform


@pytest.fixture(scope="module")
def host() -> Iterator[HostServer]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    context = serve_host()
    try:
        yield asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result(30)
        asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Reader:
    """Somebody who types one half of the page into a shell, at a computer of their own."""

    def __init__(self, half: str, home: Path, places: Mapping[str, str], environ: Mapping[str, str]) -> None:
        self.half, self.home, self._places = half, home, places
        self.typed: list[str] = []
        home.mkdir()
        program = home / "bin/vclone"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m vclone_core.cli "$@"\n')
        program.chmod(0o755)
        own = {"HOME": str(home), "PATH": f"{program.parent}:{environ['PATH']}"}
        with (home / "stderr").open("w") as stderr:
            self.shell = subprocess.Popen(
                ["sh", "-eu"],
                cwd=home,
                env={**environ, **own},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    @property
    def told(self) -> str:
        """What was said on stderr so far."""
        return (self.home / "stderr").read_text()

    def begin(self, name: str) -> None:
        """Type a block, with the addresses that hold here."""
        text = BLOCKS[self.half, name]
        for written, real in self._places.items():
            text = text.replace(written, real)
        (self.home / "block.sh").write_text(text)
        assert self.shell.stdin is not None
        self.shell.stdin.write(f". ./block.sh < /dev/null\necho; echo '{END}'\n")
        self.shell.stdin.flush()
        self.typed.append(name)

    def end(self) -> str:
        """Return what the block has printed. The shell has ended with the first command that failed unexpectedly."""
        assert self.shell.stdout is not None
        printed = ""
        while (line := self.shell.stdout.readline()) != f"{END}\n":
            assert line, f"{self.typed[-1]}:\n{printed}\n{self.told}"
            printed += line
        return printed

    def run(self, name: str) -> str:
        self.begin(name)
        return self.end()


@pytest.fixture
def sit_down(platform: WholePlatform, git: GitServer, host: HostServer, tmp_path: Path) -> Iterator[SitDown]:
    """Gives somebody a computer: `sit_down("api", "ann")`."""
    places = {
        "https://git.example.com/api/v3": host.url,
        "https://git.example.com": git.url,
        "TOKEN-OF-THE-HOST": TOKEN,
        ":9000": f":{platform.api_port}",
        ":8080": f":{platform.port}",
    }
    environ = {name: value for name, value in platform.environ.items() if not name.startswith("VCLONE_")}
    readers: list[Reader] = []

    def give(half: str, name: str) -> Reader:
        readers.append(Reader(half, tmp_path / name, places, environ))
        return readers[-1]

    yield give
    for reader in readers:
        reader.shell.kill()
        reader.shell.communicate()


@dataclass
class Repository:
    """A repository whose host tells the platform of what happens in it."""

    name: str
    git: GitServer
    secret: str = ""
    webhook_url: str = ""

    def commit(self, branch: str, build: str) -> str:
        return self.git.commit(self.name, {"vercel.json": CONFIG, "build.sh": build}, branch=branch, message=branch)

    def push(self, branch: str, build: str) -> str:
        """Make a commit and send the webhook's push; return the commit's id."""
        sha = self.commit(branch, build)
        self.send(self.signed.push(branch, ZERO, sha))
        return sha

    @property
    def signed(self) -> GitHubRepository:
        return GitHubRepository(self.name, self.secret)

    def send(self, request: Request) -> None:
        assert post(self.webhook_url, request) == 202


def post(url: str, request: Request) -> int:
    asked = urllib.request.Request(url, request.body, dict(request.headers))
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def until(look: Callable[[], Any], platform: WholePlatform) -> Any:
    """Return the first answer of `look` that isn't empty."""
    ends = time.monotonic() + LIMIT_S
    while not (found := look()):
        assert time.monotonic() < ends, platform.all_logs()
        time.sleep(0.1)
    return found


def set_records(named: Named, zone: str, printed: str) -> None:
    """Set the records that a block has printed: type, name and value, parted by blanks."""
    records = [line.split(None, 3)[:3] for line in printed.splitlines() if re.match(r"(A|AAAA|TXT|CNAME)\s", line)]
    assert {kind for kind, _, _ in records} == {"A", "TXT"}, printed
    for kind, name, value in records:
        named.set(zone, name, f"{kind} {value}")


def blocks_of(half: str) -> list[str]:
    return [name for found, name in BLOCKS if found == half]


def test_every_block_of_shell_is_read() -> None:
    assert PAGE.count("```sh") == len(BLOCKS) + 2  # those that show `build.sh` and start the platform
    assert PAGE.count("<!-- api: ") + PAGE.count("<!-- cli: ") == len(BLOCKS)


def test_two_teams_over_the_api(
    platform: WholePlatform, named: Named, host: HostServer, git: GitServer, sit_down: SitDown
) -> None:
    shell, repository = sit_down("api", "everybody"), Repository("acme/shop", git)
    shell.run("accounts")
    assert "ben@example.com\tdeveloper" in shell.run("invitation")
    shell.run("project")
    repository.webhook_url, repository.secret = shell.run("repository").split()
    forged = Repository("acme/shop", git, "another secret", repository.webhook_url)
    sha = repository.commit("main", BUILD)
    assert post(forged.webhook_url, forged.signed.push("main", ZERO, sha)) == 401
    repository.push("main", BUILD)
    assert "<h1>Good morning</h1>" in shell.run("production")

    sha = repository.push("next", BUILD.replace("<h1>", "<h1>Next: "))
    repository.send(repository.signed.pull(7, "next", sha))
    until(lambda: host.of_sha(sha)[-1:] == ["success"] and host.comments_on(7), platform)
    shown = shell.run("preview")
    assert "<h1>Next: Good morning</h1>" in shown and "comment" in shown
    (comment,) = host.comments_on(7)
    assert "shop-git-next.localhost" in comment

    set_records(named, "shop.example", shell.run("domain"))
    verified = shell.run("verify")
    assert "active" in verified and "<h1>Good morning</h1>" in verified
    assert "<h1>Next: Good morning</h1>" in shell.run("promote")
    assert fetch(platform.port, "shop.example", "/").text == "<h1>Next: Good morning</h1>\n"
    assert "<h1>Good morning</h1>" in shell.run("rollback")
    assert fetch(platform.port, "shop.example", "/").text == "<h1>Good morning</h1>\n"

    tried = shell.run("token")
    assert tried.startswith("shop\n") and '"status":403' in tried.replace(" ", "") and "refused" in tried
    assert fetch(platform.port, "shop.localhost", "/").text == "<h1>Good morning</h1>\n"
    actions = [line.split("\t")[2] for line in shell.run("audit").splitlines() if line]
    check_actions(actions, "create_project")

    assert "<h1>Den</h1>" in shell.run("other")
    unseen = shell.run("unseen").split("\n")
    assert {line[:4] for line in unseen if line} == {"404 "} and len([line for line in unseen if line]) == 14, unseen
    assert shell.typed == blocks_of("api")


def test_two_teams_over_the_cli(
    platform: WholePlatform, named: Named, host: HostServer, git: GitServer, sit_down: SitDown
) -> None:
    repository = Repository("globex/blog", git)
    cleo, dan, fay = (sit_down("cli", name) for name in ("cleo", "dan", "fay"))
    browsers = [sign_up(platform, reader) for reader in (cleo, dan, fay)]
    link = re.search(r"http://\S+(/invitations/vci_\w+)$", cleo.run("invitation"), re.MULTILINE)
    assert link is not None
    browsers[1].submit(browsers[1].get(link[1]), link[1])
    assert "dan@example.com (developer of globex)" in dan.run("join")

    repository.commit("main", BUILD)
    printed = dan.run("project")
    found = re.search(r"^URL +(\S+)\nSecret +(\S+)$", printed, re.MULTILINE)
    assert found is not None, printed
    assert platform.fetch(platform.url("blog")).text == "<h1>Hello</h1>\n"
    repository.webhook_url, repository.secret = found.groups()
    sha = repository.push("main", BUILD)
    until(lambda: sha in shas(platform, dan), platform)
    shown = dan.run("production")
    assert "push" in shown and "<h1>Good evening</h1>" in shown

    sha = repository.push("next", BUILD.replace("<h1>", "<h1>Next: "))
    repository.send(repository.signed.pull(3, "next", sha))
    until(lambda: host.of_sha(sha)[-1:] == ["success"] and host.comments_on(3), platform)
    shown = dan.run("preview")
    assert sha[:12] in shown and "comment" in shown and "<h1>Next: Good evening</h1>" in shown
    (comment,) = host.comments_on(3)
    assert "blog-git-next.localhost" in comment

    set_records(named, "blog.example", dan.run("domain"))
    assert "<h1>Good evening</h1>" in dan.run("verify")
    assert "<h1>Next: Good evening</h1>" in dan.run("promote")
    assert fetch(platform.port, "blog.example", "/").text == "<h1>Next: Good evening</h1>\n"
    assert "<h1>Good evening</h1>" in dan.run("rollback")
    assert fetch(platform.port, "blog.example", "/").text == "<h1>Good evening</h1>\n"

    kept = cleo.run("token")
    assert "preview" in kept and "exit 4" in kept and "entries hold. The last hash is" in kept
    actions = [json.loads(line)["action"] for line in (cleo.home / "audit.jsonl").read_text().splitlines()]
    check_actions(actions, "create_deployment")

    fay.run("other")
    assert platform.fetch(platform.url("nest")).text == "<h1>Nest</h1>\n"
    unseen = fay.run("unseen").splitlines()
    assert [line[:8] for line in unseen if line] == ["exit 3: "] * 10, unseen
    assert dan.run("back").strip() == "exit 3: project show nest"
    assert platform.fetch(platform.url("blog")).text == "<h1>Good evening</h1>\n"
    assert sorted({*cleo.typed, *dan.typed, *fay.typed}) == sorted(blocks_of("cli"))


def check_actions(actions: list[str], makes_project: str) -> None:
    """Compare a team's audit log with what its people did; the platform may have found DNS records besides."""
    begun = ["create_team", "invite", "accept_invitation", makes_project, "create_variables", "connect_repository"]
    shown = ["add_domain", "verify_domain", "promote_deployment", "roll_back", "create_token"]
    assert [one for one in actions if not one.startswith("domain_")] == [*begun, *shown], " ".join(actions)
    assert "domain_active" in actions


def sign_up(platform: WholePlatform, reader: Reader) -> Person:
    """Make an account in a browser, and sign the reader's computer in by the code that it shows."""
    person = Person(f"http://127.0.0.1:{platform.api_port}")
    person.send("/sign-up", name="", email=f"{reader.home.name}@example.com", password=PASSWORD)
    reader.begin("login")
    code = until(lambda: re.search(r"confirm this code:\s+([A-Z]{4}-[A-Z]{4})", reader.told), platform)
    person.confirm(code[1], "approve")
    assert f"{reader.home.name}@example.com" in reader.end()
    return person


def shas(platform: WholePlatform, reader: Reader) -> list[str]:
    """The commits of the deployments that somebody's computer sees."""
    kept = json.loads((reader.home / ".config/vclone/platform.json").read_text())
    headers = {"Authorization": f"Bearer {kept['token']}", "X-Vclone-Team": kept["team"]}
    answer = fetch(platform.api_port, "127.0.0.1", "/api/deployments", headers)
    return [one["source"]["sha"] for one in json.loads(answer.body)["items"]]
