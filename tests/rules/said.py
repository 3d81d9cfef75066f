"""A deployment in a few words, and what a request to it gets, for tests of the routing table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vclone_core.models import FileEntry, Manifest
from vclone_core.rules.decisions import Decision, Redirect, Refuse, Rewrite, Serve
from vclone_core.rules.headers_file import parse_headers
from vclone_core.rules.manifests import decode_manifest, encode_manifest
from vclone_core.rules.redirects_file import parse_redirects
from vclone_core.rules.requests import Request
from vclone_core.rules.route_sources import Sources, clean_pages, parse_output_config, plan_routes
from vclone_core.rules.routes import match
from vclone_core.rules.tables import Table, compile_table
from vclone_core.rules.targets import parse_target
from vclone_core.rules.vercel_config import parse_vercel_config

# vercel/vercel: packages/routing-utils, packages/cli/src/util/dev/router.ts; vercel.com/docs/project-configuration
VERCEL = "vercel"
# netlify/build: packages/redirect-parser, packages/headers-parser; docs.netlify.com/routing/redirects
NETLIFY = "netlify"
# cloudflare/workers-sdk: packages/workers-shared/asset-worker, packages/pages-shared/asset-server
CLOUDFLARE = "cloudflare"
# What this platform decides where they differ, or say nothing.
OWN = "own"

FILES = (
    "index.html", "about.html", "docs/index.html", "docs/a.html", "app.js", "a b.txt", "café.html", "new.html",
    "blog/one.html", ".well-known/security.txt", "x%2Fy.txt", "app.1a2b3c4d.js", "LICENSE",
)  # fmt: skip


@dataclass(frozen=True)
class Said:
    """What a deployment says."""

    vercel: Any = None
    redirects: str = ""
    headers: str = ""
    ready: Any = None
    is_single_page: bool = False
    files: Sequence[str] = FILES


def build(said: Said) -> Table:
    return compile_table(manifest_of(said))


def manifest_of(said: Said) -> Manifest:
    vercel = parse_vercel_config(json.dumps(said.vercel or {}))
    clean = clean_pages(said.files) if vercel.clean_urls and said.ready is None else {}
    files = {
        f"/{clean.get(path, path)}": FileEntry(f"{number:064x}", 9, "text/html", immutable="1a2b" in path)
        for number, path in enumerate(said.files)
    }
    ready = None if said.ready is None else parse_output_config(json.dumps({"version": 3, "routes": said.ready})).routes
    sources = Sources(ready, vercel, parse_redirects(said.redirects), parse_headers(said.headers), said.is_single_page)
    manifest = Manifest("dep_x", "prj_x", None, files, plan_routes(sources, files))
    # What the edge reads is what was written: the table goes through its JSON.
    return decode_manifest(encode_manifest(manifest))


def ask(said: Said, target: str, **facts: Any) -> Decision:
    path, _, query = target.partition("?")
    request = Request(
        facts.pop("method", "GET"), facts.pop("host", "a.example"), parse_target(path.encode()).path, query, **facts
    )
    table = build(said)
    first = match(table, request)
    assert match(table, request) == first
    return first


def tell(decision: Decision) -> str:
    """A decision in one line."""
    match decision:
        case Serve():
            return decision.file if decision.status == 200 else f"{decision.status} {decision.file}"
        case Redirect():
            return f"{decision.status} -> {decision.location}"
        case Rewrite():
            return f"~> {decision.url}"
        case Refuse():
            return str(decision.status)
