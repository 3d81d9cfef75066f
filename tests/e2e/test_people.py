"""People over the whole platform: the CLI signs in by a code, acts in teams, and its changes are in the audit log."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.e2e.person import Person
from tests.e2e.whole_platform import VCLONE, WholePlatform


def owner(platform: WholePlatform) -> Person:
    """A browser that the link of `vclone dashboard` has signed in."""
    person = Person(f"http://127.0.0.1:{platform.api_port}")
    person.send(platform.run("dashboard", "--no-browser").out.strip().removeprefix(person.base), x="")
    return person


def begin_login(platform: WholePlatform, home: Path) -> tuple[subprocess.Popen[str], str]:
    """Run `vclone login` on another computer; return it waiting, and the code that it shows."""
    environ = {**platform.environ, "HOME": str(home)}
    environ.pop("VCLONE_DATA_DIR")
    login = subprocess.Popen(
        [*VCLONE, "login", f"http://127.0.0.1:{platform.api_port}", "--no-browser"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert login.stderr is not None
    lines = [login.stderr.readline(), login.stderr.readline()]
    code = re.search(r"confirm this code:\s+([A-Z]{4}-[A-Z]{4})", lines[1])
    assert code is not None, lines
    return login, code[1]


def other_computer(platform: WholePlatform, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {**platform.environ, "HOME": str(home)}
    environ.pop("VCLONE_DATA_DIR")
    return subprocess.run([*VCLONE, *words], env=environ, capture_output=True, text=True, timeout=60)


def test_a_computer_signs_in_by_a_code_and_out_again(platform: WholePlatform, tmp_path: Path) -> None:
    person = owner(platform)
    login, code = begin_login(platform, tmp_path)
    assert "Signed in" in person.confirm(code, "approve")
    out, err = login.communicate(timeout=60)
    assert login.returncode == 0, err
    assert "Signed in to" in out and "owner" in out
    assert "(owner of owner)" in other_computer(platform, tmp_path, "whoami").stdout
    kept = json.loads((tmp_path / ".config/vclone/platform.json").read_text())
    assert "Signed out." in other_computer(platform, tmp_path, "logout").stdout
    used = other_computer(platform, tmp_path, "whoami", "--api", kept["api_url"], "--token", kept["token"])
    assert used.returncode == 4  # revoked, not just forgotten
    # The machine of the platform itself needs no login, before and after.
    assert "the CLI uses the platform of this machine" in platform.run("logout").out
    assert platform.run("whoami").code == 0


def test_a_code_that_is_refused_signs_nobody_in(platform: WholePlatform, tmp_path: Path) -> None:
    login, code = begin_login(platform, tmp_path)
    assert "Refused" in owner(platform).confirm(code, "refuse")
    _, err = login.communicate(timeout=60)
    assert login.returncode == 4 and "refused" in err
    assert not (tmp_path / ".config/vclone/platform.json").exists()


def test_teams_tokens_and_the_audit_log_by_the_cli(platform: WholePlatform, tmp_path: Path) -> None:
    assert platform.run("teams", "create", "Blue Crew").code == 0
    in_blue = ("--team", "blue-crew")
    invited = platform.run("teams", "invite", "ann@example.com", "--role", "viewer", *in_blue)
    assert re.fullmatch(r"http://\S+/invitations/vci_\w+", invited.out.strip())
    token = platform.run("tokens", "create", "ci", "--scope", "read", *in_blue).out.strip()
    assert platform.run("whoami", "--token", token).out.endswith("(owner of blue-crew)\n")
    refused = platform.run("teams", "create", "x", "--token", token)
    assert refused.code == 4 and "that needs somebody who signed in" in refused.err
    listed = platform.run("tokens", "ls", "--json", *in_blue).json["items"]
    assert [one["scopes"] for one in listed] == [["read"]]
    assert platform.run("tokens", "revoke", listed[0]["id"], *in_blue).code == 0
    assert platform.run("whoami", "--token", token).code == 4
    log = tmp_path / "audit.jsonl"
    assert platform.run("audit", "export", "-o", str(log), *in_blue).code == 0
    actions = [json.loads(line)["action"] for line in log.read_text().splitlines()]
    assert actions == ["create_team", "invite", "create_token", "revoke_token"]
    assert platform.run("audit", "verify", str(log)).out.startswith("4 entries hold. The last hash is ")
    log.write_text(log.read_text().replace("ann@example.com", "eve@example.com"))
    forged = platform.run("audit", "verify", str(log))
    assert forged.code == 5 and "does not fit" in forged.err
