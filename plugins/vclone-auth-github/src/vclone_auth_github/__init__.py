"""Sign in with GitHub, for `VCLONE_AUTH_PROVIDERS={"github": …}`."""

from __future__ import annotations

from collections.abc import Mapping

from vclone_core import AuthProvider, AuthProviderConfig, AuthProviderFactory, errors, hookimpl

OPTIONS = frozenset({"url", "api_url"})


def make_provider(config: AuthProviderConfig) -> AuthProvider:
    """Return a provider for github.com, or for the server that `url` names; raise `BadSettings` for other options."""
    if unknown := sorted(config.options.keys() - OPTIONS):
        raise errors.BadSettings(problems=f"VCLONE_AUTH_PROVIDERS: github has no option {unknown[0]}.")
    url = config.options.get("url", "https://github.com").rstrip("/")
    api_url = config.options.get(
        "api_url", "https://api.github.com" if url == "https://github.com" else f"{url}/api/v3"
    )
    for address in (url, api_url):
        if not address.startswith(("https://", "http://")):
            raise errors.BadSettings(problems=f"VCLONE_AUTH_PROVIDERS: {address!r} is no URL.")
    # Every process loads this module; an HTTP client is needed by those that sign somebody in.
    from vclone_auth_github.provider import GitHubProvider

    return GitHubProvider(config.client_id, config.client_secret, url=url, api_url=api_url.rstrip("/"))


@hookimpl
def register_auth_providers() -> Mapping[str, AuthProviderFactory]:
    return {"github": make_provider}
