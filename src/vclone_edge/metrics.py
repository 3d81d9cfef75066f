"""What one edge process has counted and holds, as Prometheus reads it (text format 0.0.4).

`GET /.well-known/vclone/metrics` on a loopback name, from this machine. With several workers one of them answers: the
label `edge` says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vclone_edge.parts import EdgeParts

TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[str, str, str, float]
"""Name without the prefix, further labels, kind, value."""


def format_metrics(parts: EdgeParts) -> bytes:
    """Return every figure of a process with its kind."""
    lines: list[str] = []
    named = ""
    for name, labels, kind, value in _samples(parts):
        if name != named:
            lines.append(f"# TYPE vclone_edge_{name} {kind}")
            named = name
        lines.append(f'vclone_edge_{name}{{edge="{parts.edge_id}"{labels}}} {value:.15g}')
    return "\n".join([*lines, ""]).encode()


def _samples(parts: EdgeParts) -> Iterator[Sample]:
    counters, objects, blobs, disk = parts.counters, parts.objects, parts.blobs, parts.disk
    yield "requests_total", "", "counter", counters.requests
    for digit in range(1, 6):
        yield "responses_total", f',status="{digit}xx"', "counter", counters.by_status[digit]
    yield "sent_bytes_total", "", "counter", counters.bytes_sent
    yield "responses_aborted_total", "", "counter", counters.aborted
    yield "clients_gone_total", "", "counter", counters.clients_gone
    yield "failures_total", "", "counter", counters.failures
    yield "stale_total", "", "counter", counters.stale
    yield "fallbacks_total", "", "counter", counters.fallbacks
    yield "sites", "", "gauge", len(parts.cache)
    yield "look_ups_total", "", "counter", parts.resolver.look_ups
    yield "look_ups_failed_total", "", "counter", parts.resolver.failures
    yield "events_connected", "", "gauge", int(parts.control.is_connected)
    yield "events_version", "", "gauge", parts.control.version or 0
    yield "events_refused_total", "", "counter", parts.control.refused
    yield "manifests_loaded_total", "", "counter", parts.manifests.loads
    yield "manifests_refused_total", "", "counter", parts.manifests.refusals
    yield "hot_hits_total", "", "counter", counters.hot_hits
    yield "hot_fills_total", "", "counter", blobs.fills
    yield "hot_bytes", "", "gauge", blobs.used_bytes
    yield "disk_hits_total", "", "counter", blobs.disk_hits
    if disk is not None:
        yield "disk_on", "", "gauge", int(disk.is_on)
        yield "disk_bytes", "", "gauge", disk.files.used_bytes
        yield "disk_skipped_total", "", "counter", disk.skips
    yield "store_connected", "", "gauge", int(objects.is_started)
    yield "store_reads_total", "", "counter", objects.opens
    yield "store_reads_resumed_total", "", "counter", objects.resumes
    yield "store_reads_parked_total", "", "counter", objects.parks
    yield "store_reads_refused_total", "", "counter", objects.slots.refused
    yield "store_reads_now", "", "gauge", objects.slots.used
    yield "store_reads_waiting", "", "gauge", objects.slots.waiting
    yield "proxied_total", "", "counter", parts.proxy.requests
    yield "proxied_failed_total", "", "counter", parts.proxy.failures
    yield "proxied_now", "", "gauge", parts.proxy.by_project.used
    yield "proxied_waiting", "", "gauge", parts.proxy.by_project.waiting + parts.proxy.by_server.waiting
