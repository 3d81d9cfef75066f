"""The manifest as bytes and back: one immutable JSON document per deployment (docs/architecture.md §5)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from vclone_core.errors import Invalid
from vclone_core.models import EarlierFile, FileEntry, Manifest, Pack, Route, Variant
from vclone_core.rules.jsonpieces import parse_pieces

VERSION: Final = 2
# The first version had no packs; it is read as before.
_READ: Final = (1, 2)
WHOLE_BYTES: Final = 256 * 1024  # More is read in steps, between which others get their turn.
# Names of `Route` whose spelling in the Build Output API v3 differs from ours.
_ROUTE_NAMES: Final = {"is_continue": "continue", "case_sensitive": "caseSensitive"}
_ROUTE_FIELDS: Final = tuple(
    (name, _ROUTE_NAMES.get(name, name))
    for name in (
        "handle", "src", "dest", "headers", "status", "methods", "has", "missing",
        "is_continue", "check", "case_sensitive", "important", "origin",
    )
)  # fmt: skip
_ROUTE_KEYS: Final = {theirs: ours for ours, theirs in _ROUTE_FIELDS}
_ROUTE_LISTS: Final = frozenset({"methods", "has", "missing"})


def encode_route(route: Route) -> dict[str, Any]:
    """Return a route as the Build Output API v3 spells it, without the fields that say nothing.

    `origin` is ours: where in the user's files the rule stands (`vercel.json redirects[3]`).
    """
    encoded: dict[str, Any] = {}
    for ours, theirs in _ROUTE_FIELDS:
        value = getattr(route, ours)
        if value not in (None, False, (), {}):
            encoded[theirs] = list(value) if isinstance(value, tuple) else value
    return encoded


def decode_route(raw: Mapping[str, Any]) -> Route:
    """Return the route that `encode_route` wrote. Unknown fields are ignored."""
    values = {_ROUTE_KEYS[key]: value for key, value in raw.items() if key in _ROUTE_KEYS}
    for name in _ROUTE_LISTS & values.keys():
        values[name] = tuple(values[name])
    return Route(**values)


def _encode_entry(entry: FileEntry) -> dict[str, Any]:
    encoded: dict[str, Any] = {"sha256": entry.sha256, "size": entry.size, "type": entry.type}
    if entry.immutable:
        encoded["immutable"] = True
    if entry.variants:
        encoded["variants"] = {coding: _encode_variant(variant) for coding, variant in entry.variants.items()}
    return encoded


def _encode_variant(variant: Variant) -> dict[str, Any]:
    encoded: dict[str, Any] = {"sha256": variant.sha256, "size": variant.size}
    if (pack := variant.pack) is not None:
        encoded["pack"] = {"sha256": pack.sha256, "size": pack.size, "start": pack.start}
    return encoded


def _decode_variant(raw: Mapping[str, Any]) -> Variant:
    pack = raw.get("pack")
    return Variant(raw["sha256"], raw["size"], pack and Pack(pack["sha256"], pack["size"], pack["start"]))


def _decode_entry(raw: Mapping[str, Any]) -> FileEntry:
    return FileEntry(
        sha256=raw["sha256"],
        size=raw["size"],
        type=raw["type"],
        immutable=raw.get("immutable", False),
        variants={coding: _decode_variant(variant) for coding, variant in raw.get("variants", {}).items()},
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest's JSON: the same manifest always gives the same bytes."""
    document = {
        "version": VERSION,
        "deployment": manifest.deployment_id,
        "project": manifest.project_id,
        "framework": manifest.framework,
        "files": {path: _encode_entry(entry) for path, entry in manifest.files.items()},
        "earlier": {
            path: {**_encode_entry(file.entry), "replaced": file.replaced_s} for path, file in manifest.earlier.items()
        },
        "routes": [encode_route(route) for route in manifest.routes],
        "functions": dict(manifest.functions),
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def decode_manifest(data: bytes) -> Manifest:
    """Return the manifest in `data`; raise `Invalid` when it isn't one, or is of a newer version."""
    try:
        raw = json.loads(data) if len(data) <= WHOLE_BYTES else parse_pieces(data.decode())
        if raw["version"] not in _READ:
            raise Invalid(what=f"this manifest has version {raw['version']}, this program reads {VERSION}")
        return Manifest(
            deployment_id=raw["deployment"],
            project_id=raw["project"],
            framework=raw["framework"],
            files={path: _decode_entry(entry) for path, entry in raw["files"].items()},
            routes=tuple(decode_route(route) for route in _take(raw["routes"])),
            functions=raw["functions"],
            earlier={
                path: EarlierFile(_decode_entry(entry), int(entry["replaced"]))
                for path, entry in raw.get("earlier", {}).items()
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Invalid(what=f"this is no manifest ({type(error).__name__}: {error})") from error


def _take(items: list[Any]) -> Iterator[Any]:
    """Yield a list's items and let go of each: a hundred thousand freed at once are a pause, too."""
    items.reverse()
    while items:
        yield items.pop()


def list_blobs(entries: Iterable[FileEntry]) -> dict[str, int]:
    """Return the size of every blob the entries need, by SHA-256."""
    sizes: dict[str, int] = {}
    for entry in entries:
        sizes[entry.sha256] = entry.size
        for variant in entry.variants.values():
            blob = variant.pack or variant
            sizes[blob.sha256] = blob.size
    return sizes
