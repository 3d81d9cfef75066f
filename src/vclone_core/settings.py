"""One frozen `Settings`, read from `VCLONE_*` once per process; the only reader of the environment.

Start-up settings only: what a project says about itself is a row in `projects`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from vclone_core.errors import BadSettings, InvalidFields

PREFIX = "VCLONE_"


def _read_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


class Settings(BaseSettings):
    """Everything a process is told at its start. Each field is `VCLONE_` + its name in capitals.

    A secret may also come from a file: `VCLONE_<NAME>_FILE` names it.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    data_dir: Path = Field(Path(".vclone"), description="Folder for everything this machine keeps.")
    base_domain: str = Field("localhost", description="Deployments get host names below this domain.")
    database_url: SecretStr = Field(SecretStr(""), description="PostgreSQL, `postgresql://…` (api, worker).")
    redis_url: SecretStr = Field(SecretStr(""), description="Redis or Valkey, `redis://…` or `unix://…` (api, worker).")
    store: str = Field("", description="Object store URL, `file:///…` or `s3://bucket?endpoint=…&region=…`.")
    store_access_key: SecretStr = Field(SecretStr(""), description="Access key of the object store.")
    store_secret_key: SecretStr = Field(SecretStr(""), description="Secret key of the object store.")
    secret_key: SecretStr = Field(SecretStr(""), description="Signs what browsers carry; at least 32 characters.")
    secret_key_previous: SecretStr = Field(SecretStr(""), description="The key before: what it signed still holds.")
    encryption_keys: SecretStr = Field(
        SecretStr(""),
        description="Keys of secrets in the database, `ID:BASE64,…`, the sealing one first. Else of the secret key.",
    )
    secrets_path: Path | None = Field(
        None, description="JSON file whose `encryption_keys` count instead; `vclone keys rotate` adds one, unnoticed."
    )
    edge_token: SecretStr = Field(SecretStr(""), description="Shared by API and edges; opens `/internal`.")

    edge_host: str = Field("127.0.0.1", description="Address the edge listens on.")
    edge_port: int = Field(8080, ge=1, le=65535, description="Port the edge listens on.")
    edge_public_port: int | None = Field(None, ge=1, le=65535, description="Port in URLs when a proxy changes it.")
    edge_workers: int = Field(1, ge=1, le=64, description="Edge worker processes.")
    edge_server: str = Field("granian", pattern="^(granian|hypercorn)$", description="Edge engine.")
    edge_fronts: int = Field(1, ge=1, le=16, description="Connection fronts; one feeds three or four workers.")
    edge_certificates: Path | None = Field(None, description="Folder of NAME.crt and NAME.key; turns TLS on.")
    edge_certificate_issuer: str = Field("", description="Plugin that makes certificates, `internal`; turns TLS on.")
    edge_tls_port: int = Field(8443, ge=1, le=65535, description="Port for TLS, where there are certificates.")
    edge_public_tls_port: int | None = Field(None, ge=1, le=65535, description="TLS port in URLs, when not that one.")
    edge_https_redirect: bool = Field(True, description="Send http:// on to https:// for hosts with a certificate.")
    edge_hsts_s: int = Field(0, ge=0, description="Have browsers insist on https:// this long (HSTS); 0: don't.")
    edge_http3: bool = Field(False, description="Also offer HTTP/3, on the UDP port of the TLS port's number.")
    edge_h2_prior_knowledge: bool = Field(False, description="Accept HTTP/2 without TLS, by prior knowledge.")
    edge_connections_per_address: int = Field(
        100, ge=1, le=60_000, description="Open connections per client address, or IPv6 /64; raise it behind a proxy."
    )
    edge_header_s: float = Field(15.0, ge=0.1, le=60, description="How long a client may take to send a request head.")
    edge_idle_s: float = Field(60.0, ge=0.1, description="How long a connection without requests is kept.")
    edge_stall_s: float = Field(60.0, ge=0.1, description="How long a client may take under 1 KiB/s of waiting data.")
    edge_drain_s: float = Field(30.0, ge=0, description="How long a stopping edge lets downloads finish.")
    edge_domain_ttl_s: float = Field(300.0, gt=0, description="How long an edge trusts a resolved host without news.")
    edge_negative_ttl_s: float = Field(5.0, gt=0, le=10, description="How long an edge remembers an unknown host.")
    edge_stale_s: float = Field(86_400.0, ge=86_400, description="How long a site is served when the API is silent.")
    edge_hot_bytes: int = Field(64 * 1024**2, ge=0, description="Memory for hot blobs, per edge worker.")
    edge_store_reads: int = Field(48, ge=1, le=1024, description="Reads of the object store at once, per edge worker.")
    edge_proxied: int = Field(256, ge=1, le=4096, description="Rewrites to other servers at once, per edge worker.")
    edge_proxy_wait_s: float = Field(
        60.0, gt=0, le=900, description="How long another server may take to answer, and to go on with its answer."
    )
    edge_proxy_body_bytes: int = Field(
        100 * 1024**2, ge=0, description="Largest request body that goes on to another server."
    )
    edge_disk_bytes: int = Field(512 * 1024**2, ge=0, description="Disk for manifests and hot blobs, per edge.")

    outbound_allow: str = Field(
        "",
        description="Servers that rewrites and webhooks may reach although their addresses are not public, or at ports"
        " other than 80 and 443: `api.internal:8080, *.corp.example, 10.1.0.0/16`.",
    )

    api_host: str = Field("127.0.0.1", description="Address the API and dashboard listen on.")
    api_port: int = Field(9000, ge=1, le=65535, description="Port the API and dashboard listen on.")
    api_url: str = Field("http://127.0.0.1:9000", description="Where edges, functions and the CLI reach the API.")
    api_trusted_proxies: str = Field(
        "", description="Networks, comma-separated, whose `X-Forwarded-For` the API believes: `10.0.0.0/8`."
    )
    api_rate_factor: float = Field(
        1.0, ge=0, le=1000, description="Multiplies the API's rate limits; 0: no limits but those on sign-in."
    )

    domain_target: str = Field(
        "", description="Host that custom domains are to be a CNAME of: a name of the edges. Else the base domain."
    )
    domain_addresses: str = Field(
        "", description="Addresses of the edges, comma-separated, for the A and AAAA of an apex. Else the target's."
    )
    domain_resolvers: str = Field(
        "", description="Resolvers that domains are checked with, `192.0.2.53, [2001:db8::53]:53`. Else the machine's."
    )
    domain_ask_zones: bool = Field(True, description="Also ask the name servers of a domain's own zone, port 53.")
    domain_claim_days: float = Field(14.0, gt=0, le=365, description="How long a domain may wait for its TXT record.")
    domain_grace_days: float = Field(
        7.0, gt=0, le=90, description="How long a domain whose DNS was lost is served before it is released."
    )
    domain_recheck_h: float = Field(24.0, gt=0, le=720, description="How often a good domain is checked, in hours.")

    sign_up: str = Field(
        "invite", pattern="^(open|invite|closed)$", description="Who may make an account: anyone, the invited, nobody."
    )
    access_token_s: float = Field(900.0, ge=60, le=86_400, description="How long an access token of the API holds.")
    session_days: float = Field(30.0, gt=0, le=365, description="A session ends after so many days without use.")
    session_max_days: float = Field(90.0, gt=0, le=3650, description="A session ends after so many days in any case.")
    invitation_days: float = Field(7.0, gt=0, le=90, description="How long an invitation can be accepted.")
    auth_providers: SecretStr = Field(
        SecretStr(""), description='Ways to sign in, JSON: `{"github": {"client_id": "…", "client_secret": "…"}}`.'
    )

    runner: str = Field("process", description="Build runner plugin.")
    runner_options: Annotated[dict[str, str], BeforeValidator(_read_json)] = Field(
        default_factory=dict, description='Options of the runner, JSON: `{"env.NPM_CONFIG_REGISTRY": "…"}`.'
    )
    worker_slots: int = Field(2, ge=1, le=64, description="Builds at once per worker.")
    worker_beat: Path | None = Field(
        None, description="File that a worker touches every two seconds while it is well; for health checks."
    )
    project_slots: int = Field(1, ge=1, le=64, description="Builds at once per project.")
    build_timeout_s: float = Field(900.0, ge=10, le=2700, description="Wall clock limit of one build.")
    build_memory_mib: int = Field(2048, ge=64, description="Memory of one build, in MiB.")
    build_cpus: float = Field(2.0, gt=0, le=256, description="Processors of one build, where the runner limits them.")
    build_processes: int = Field(512, ge=16, description="Processes of one build, where the runner limits them.")
    build_disk_mib: int = Field(5120, ge=16, description="Disk of one build, in MiB.")
    lease_s: float = Field(45.0, ge=2, description="A build whose worker is silent this long is given to another.")
    heartbeat_s: float = Field(3.0, gt=0, description="How often a worker renews its lease, and sees a cancellation.")
    drain_s: float = Field(30.0, ge=0, description="How long a worker that is told to stop lets its builds end.")
    max_attempts: int = Field(3, ge=1, le=10, description="Starts of one build before it counts as failed.")
    earlier_assets_days: float = Field(
        7.0, ge=0, le=365, description="How long a host serves fingerprinted files of builds it showed before."
    )
    collect_every_h: float = Field(6.0, gt=0, description="How often storage that nothing needs is freed, in hours.")
    collect_grace_h: float = Field(
        24.0, ge=2, description="How long a blob is kept after somebody asked for it, in hours."
    )
    git_allow_insecure: bool = Field(False, description="Also clone from http:// and loopback addresses.")

    postgres_bin: Path | None = Field(None, description="Folder of the PostgreSQL programs that `up` runs.")
    valkey_bin: Path | None = Field(None, description="The valkey-server that `up` runs.")

    plugins: str | None = Field(None, description="Only these plugins, comma-separated; empty: none; unset: all.")
    plugins_dir: Path | None = Field(None, description="Folder of drop-in plugins and framework files.")
    log_format: str = Field("console", pattern="^(console|json)$", description="How log lines look.")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least serious line logged.")

    @field_validator("api_trusted_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        # Rules are loaded where a setting asks for them: every command starts with the settings.
        from vclone_core.rules.clients import parse_networks

        parse_networks(text)
        return text

    @field_validator("domain_resolvers")
    @classmethod
    def _are_servers(cls, text: str) -> str:
        from vclone_core.rules.domains import parse_servers

        parse_servers(text)
        return text

    @field_validator("domain_addresses")
    @classmethod
    def _are_addresses(cls, text: str) -> str:
        from vclone_core.rules.domains import parse_addresses

        parse_addresses(text)
        return text

    @field_validator("domain_target")
    @classmethod
    def _is_host(cls, text: str) -> str:
        from vclone_core.rules.domains import parse_domain

        # What an error of ours says is not for pydantic.
        try:
            return parse_domain(text) if text else ""
        except InvalidFields as error:
            raise ValueError(error.problems[0].message) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The environment is handed in by `load_settings`, so that a test or an embedder can pass its own.
        return (init_settings,)

    @property
    def has_tls(self) -> bool:
        """Whether the edge speaks TLS itself."""
        return self.edge_certificates is not None or bool(self.edge_certificate_issuer)

    def public_port(self, scheme: str) -> int:
        """The port that belongs in a deployment's URL."""
        if scheme == "https":
            return self.edge_public_tls_port or self.edge_tls_port
        return self.edge_public_port or self.edge_port

    def list_secrets(self) -> tuple[str, ...]:
        """Return the values that nobody may see."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))

    def site_url(self, host: str) -> str:
        """Return the URL a visitor types for `host`."""
        scheme = "https" if self.has_tls else "http"
        return f"{scheme}://{join_port(host, scheme, self.public_port(scheme))}"


def join_port(host: str, scheme: str, port: int) -> str:
    """Return an authority, without the port that its scheme stands for."""
    return host if port == {"http": 80, "https": 443}[scheme] else f"{host}:{port}"


def load_settings(environ: Mapping[str, str], **overrides: Any) -> Settings:
    """Return the settings found in `environ`; `overrides` win. Raises `BadSettings` with every problem at once."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    known = {f"{PREFIX}{name.upper()}": name for name in Settings.model_fields}
    for variable, text in environ.items():
        if variable in known:
            values[known[variable]] = text
        elif variable.endswith("_FILE") and (name := known.get(variable.removesuffix("_FILE"))):
            try:
                values[name] = Path(text).read_text(encoding="utf-8").strip()
            except OSError as error:
                problems.append(f"{variable}: {text} can't be read ({error.strerror}).")
    try:
        settings = Settings(**{**values, **overrides})
    except ValidationError as error:
        for item in error.errors(include_url=False, include_input=False):
            name = ".".join(str(part) for part in item["loc"])
            problems.append(f"{PREFIX}{name.upper()}: {item['msg']}.")
    if problems:
        raise BadSettings(problems=" ".join(problems))
    return settings
