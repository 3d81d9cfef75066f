"""`vclone up --tls`: sites by https://, for those who trust the platform's own authority, and for nobody else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.needs import need_chromium, need_program
from tests.platform.running import RunningUp, wait_until
from tests.ports import pick_port

pytestmark = pytest.mark.platform


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningUp, int, Path]]:
    """A platform with TLS, its TLS port, and the file of its authority."""
    folder = tmp_path_factory.mktemp("up")
    running, port = RunningUp(folder / "data", folder), pick_port()
    running.start("--tls", "--tls-port", str(port))
    wait_until(lambda: "ready in" in running.output, 60)
    printed = running.run("tls", "ca")
    assert printed.returncode == 0, printed.stderr
    (folder / "ca.pem").write_text(printed.stdout)
    yield running, port, folder / "ca.pem"
    running.stop()


def curl(*words: str) -> str:
    return subprocess.run(["curl", "-sS", *words], capture_output=True, text=True, check=True, timeout=30).stdout


def test_curl_is_content_and_urls_say_https(up: tuple[RunningUp, int, Path]) -> None:
    running, port, ca = up
    url = f"https://welcome.localhost:{port}"
    assert f"Sites       {url}" in running.output
    assert "tls ca" in running.output
    page = curl("--cacert", str(ca), "-w", "%{http_version} %{http_code}", url)
    assert "vclone is running" in page
    assert page.endswith("2 200")
    moved = curl(
        "-w", "%{http_code} %{redirect_url}", "-o", "/dev/null", f"http://welcome.localhost:{running.edge_port}/a"
    )
    assert moved == f"308 {url}/a"
    wrong = curl("--cacert", str(ca), "-w", "%{http_code}", "-o", "/dev/null", "-H", "Host: other.localhost", url)
    assert wrong == "421"
    shown = running.run("inspect", "welcome", "--json")
    assert url in shown.stdout, shown.stderr


def test_openssl_and_strangers_to_the_authority(up: tuple[RunningUp, int, Path]) -> None:
    _, port, ca = up
    words = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "welcome.localhost"]
    check = ["-verify_return_error", "-verify_hostname", "welcome.localhost"]
    good = subprocess.run([*words, "-CAfile", ca, *check], input=b"", capture_output=True, timeout=30)
    assert (good.returncode, b"Verification: OK" in good.stdout) == (0, True), good.stderr
    assert subprocess.run([*words, *check], input=b"", capture_output=True, timeout=30).returncode
    with pytest.raises(subprocess.CalledProcessError):
        curl(f"https://welcome.localhost:{port}")


@pytest.mark.browser
def test_chromium_trusts_what_the_authority_signed(
    up: tuple[RunningUp, int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, port, ca = up
    chromium, certutil = need_chromium(), need_program("certutil", package="libnss3-tools")
    from playwright.sync_api import Error, sync_playwright

    url = f"https://welcome.localhost:{port}/"
    for is_trusting in (False, True):
        home = tmp_path / str(is_trusting)
        store = home / ".pki" / "nssdb"
        store.mkdir(parents=True)
        subprocess.run([certutil, "-d", f"sql:{store}", "-N", "--empty-password"], check=True)
        if is_trusting:
            words = ["-d", f"sql:{store}", "-A", "-t", "C,,", "-n", "vclone", "-i", ca]
            subprocess.run([certutil, *words], check=True)
        monkeypatch.setenv("HOME", str(home))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page()
            if is_trusting:
                answer = page.goto(url)
                assert answer is not None
                assert (answer.status, page.title()) == (200, "vclone is running")
                assert page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
                assert page.evaluate("window.isSecureContext")
            else:
                with pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
                    page.goto(url)
            browser.close()
