"""What the operator may say of GitHub; the flow is tested through vclone's own door, in tests/api/test_providers.py."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from vclone_auth_github import make_provider
from vclone_core import AuthProviderConfig, errors


def make(**options: str) -> str:
    provider = make_provider(AuthProviderConfig("id", "secret", options))
    return provider.authorise_url(state="s", code_challenge="c", redirect_uri="https://v.example/cb?x=1")


def test_the_authorise_url_says_all_that_the_flow_needs_and_no_secret() -> None:
    url = urlsplit(make())
    assert (url.scheme, url.netloc, url.path) == ("https", "github.com", "/login/oauth/authorize")
    assert {name: value for name, (value,) in parse_qs(url.query).items()} == {
        "client_id": "id",
        "redirect_uri": "https://v.example/cb?x=1",
        "scope": "read:user user:email",
        "state": "s",
        "code_challenge": "c",
        "code_challenge_method": "S256",
    }


def test_an_enterprise_server_is_named_by_its_url() -> None:
    assert make(url="https://git.example/").startswith("https://git.example/login/oauth/authorize?")


@pytest.mark.parametrize("options", [{"uri": "https://x.example"}, {"url": "git.example"}, {"api_url": "file:///x"}])
def test_what_is_no_option_is_refused_at_the_start(options: dict[str, str]) -> None:
    with pytest.raises(errors.BadSettings):
        make(**options)
