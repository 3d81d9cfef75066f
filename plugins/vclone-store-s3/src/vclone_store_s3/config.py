"""What `VCLONE_STORE=s3://…` says, as one frozen value."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from vclone_core import StoreConfig, errors

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_BOOLEANS: Final = {"true": True, "false": False}
_PARAMETERS: Final = frozenset(
    {"endpoint", "region", "path_style", "connections", "connect_timeout_s", "read_timeout_s"}
)


@dataclass(frozen=True, slots=True)
class BucketConfig:
    """One bucket and how to reach it. `endpoint` is an origin, `http://host:port`, without a slash at its end."""

    bucket: str
    endpoint: str
    region: str
    access_key: str
    secret_key: str = field(repr=False)
    is_path_style: bool = True
    connections: int = 64
    connect_timeout_s: float = 2.0
    read_timeout_s: float = 30.0

    @property
    def base(self) -> str:
        """Return the URL that keys are appended to."""
        if self.is_path_style:
            return f"{self.endpoint}/{self.bucket}/"
        scheme, _, host = self.endpoint.partition("://")
        return f"{scheme}://{self.bucket}.{host}/"


def parse_config(config: StoreConfig) -> BucketConfig:
    """Return what `config` says; raise `BadSettings` with every problem at once."""
    parts = urlsplit(config.url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    problems = [f"VCLONE_STORE has the unknown parameter {name!r}." for name in sorted(options.keys() - _PARAMETERS)]
    if not _BUCKET.fullmatch(parts.netloc) or parts.path not in ("", "/") or parts.fragment:
        problems.append("VCLONE_STORE names no bucket; write s3://bucket?endpoint=https://host&region=name.")
    for name, value in (("VCLONE_STORE_ACCESS_KEY", config.access_key), ("VCLONE_STORE_SECRET_KEY", config.secret_key)):
        if not value:
            problems.append(f"{name} is empty.")
    region = options.get("region", "us-east-1")
    endpoint = options.get("endpoint", f"https://s3.{region}.amazonaws.com").rstrip("/")
    if not re.fullmatch(r"https?://[A-Za-z0-9._\[\]:-]+", endpoint):
        problems.append(f"VCLONE_STORE: endpoint={endpoint} is no origin such as https://host:port.")
    path_style = options.get("path_style", "true").lower()
    if path_style not in _BOOLEANS:
        problems.append("VCLONE_STORE: path_style is true or false.")
    numbers = {"connections": 64.0, "connect_timeout_s": 2.0, "read_timeout_s": 30.0}
    for name in numbers.keys() & options.keys():
        if not re.fullmatch(r"\d{1,5}(\.\d+)?", options[name]) or not float(options[name]):
            problems.append(f"VCLONE_STORE: {name} is a number above 0.")
        else:
            numbers[name] = float(options[name])
    if problems:
        raise errors.BadSettings(problems=" ".join(problems))
    return BucketConfig(
        bucket=parts.netloc,
        endpoint=endpoint,
        region=region,
        access_key=config.access_key or "",
        secret_key=config.secret_key or "",
        is_path_style=_BOOLEANS[path_style],
        connections=max(1, int(numbers["connections"])),
        connect_timeout_s=numbers["connect_timeout_s"],
        read_timeout_s=numbers["read_timeout_s"],
    )
