"""settings: every problem at once, secrets never shown, files for secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from vclone_core.errors import BadSettings
from vclone_core.settings import Settings, load_settings


def test_every_problem_is_reported_at_once_and_no_secret_with_it() -> None:
    with pytest.raises(BadSettings) as caught:
        load_settings({"VCLONE_EDGE_PORT": "x", "VCLONE_LEASE_S": "0", "VCLONE_SECRET_KEY": "hush-hush"})
    text = str(caught.value)
    assert "VCLONE_EDGE_PORT" in text and "VCLONE_LEASE_S" in text
    assert "hush-hush" not in text


def test_a_secret_prints_as_stars() -> None:
    settings = load_settings({"VCLONE_SECRET_KEY": "hush-hush", "VCLONE_DATABASE_URL": "postgresql://u:pw@h/d"})
    assert "hush-hush" not in repr(settings) + str(settings)
    assert "pw" not in repr(settings.database_url)


def test_a_secret_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-a-file\n")
    settings = load_settings({"VCLONE_SECRET_KEY_FILE": str(tmp_path / "key")})
    assert settings.secret_key.get_secret_value() == "from-a-file"


def test_a_secret_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="VCLONE_SECRET_KEY_FILE"):
        load_settings({"VCLONE_SECRET_KEY_FILE": str(tmp_path / "none")})


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().edge_port = 1


@pytest.mark.parametrize(
    ("port", "public", "url"),
    [(8080, None, "http://a.test:8080"), (8080, 80, "http://a.test"), (80, None, "http://a.test")],
)
def test_urls_name_the_public_port(port: int, public: int | None, url: str) -> None:
    assert Settings(edge_port=port, edge_public_port=public).site_url("a.test") == url


def test_trusted_proxies_are_networks() -> None:
    assert load_settings({"VCLONE_API_TRUSTED_PROXIES": "10.0.0.0/8, fd00::/8"}).api_trusted_proxies
    with pytest.raises(BadSettings, match="VCLONE_API_TRUSTED_PROXIES"):
        load_settings({"VCLONE_API_TRUSTED_PROXIES": "10.0.0.0/8, proxy.example"})


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("DOMAIN_RESOLVERS", "192.0.2.53, [2001:db8::53]:5353", "ns.example"),
        ("DOMAIN_ADDRESSES", "203.0.113.5, 2001:db8::5", "203.0.113.5/24"),
        ("DOMAIN_TARGET", "edge.example.net", "https://edge.example.net"),
    ],
)
def test_settings_of_domains_are_checked_at_the_start(name: str, good: str, bad: str) -> None:
    assert load_settings({f"VCLONE_{name}": good})
    with pytest.raises(BadSettings, match=f"VCLONE_{name}"):
        load_settings({f"VCLONE_{name}": bad})
