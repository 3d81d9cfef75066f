"""A private repository over SSH, as its owner sets it up: a key, its public half at the host, a deployment."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.whole_platform import WholePlatform
from tests.git_server import GitServer
from tests.ssh_server import serve_ssh


def test_a_private_repository_over_ssh_goes_live(platform: WholePlatform, git: GitServer, tmp_path: Path) -> None:
    git.commit("hidden", {"index.html": "<h1>hidden</h1>"})
    with serve_ssh(git.root, tmp_path / "sshd") as ssh:
        url = ssh.address("hidden")
        without = platform.run("deploy", url, "--project", "hidden-too")
        assert without.code == 21 and "vclone deploykey create" in without.err
        # The key comes before the project's first deployment.
        public = platform.ask("deploykey", "create", "--project", "hidden")["public_key"]
        assert public.startswith("ssh-ed25519 ") and public.endswith(" vclone-hidden")
        ssh.authorize(public)
        done = platform.ask("deploy", url, "--project", "hidden")
        assert platform.fetch(done["url"] + "/").text == "<h1>hidden</h1>"
        shown = platform.run("deploykey", "show", "--project", "hidden").out
        assert public in shown and f"[127.0.0.1]:{ssh.port}" in shown and "SHA256:" in shown
        (tmp_path / "known_hosts").write_text("nonsense")
        refused = platform.run("deploykey", "trust", str(tmp_path / "known_hosts"), "--project", "hidden")
        assert refused.code == 2 and "ssh-keyscan" in refused.err
        assert platform.run("deploykey", "trust", "--project", "hidden").code == 0
        assert platform.run("deploykey", "rm", "--project", "hidden").code == 0
        assert platform.ask("deploykey", "show", "--project", "hidden")["items"] == []
