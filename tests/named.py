"""BIND's `named`, a real DNS server: authoritative for zones that tests change by dynamic updates (RFC 2136), and a
resolver for everybody on loopback.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.update
from tests.needs import lacks
from tests.ports import pick_port

# Its own root, so that names elsewhere don't exist rather than time out: there is no network in tests.
_CONFIG = """
options {{
    directory "{folder}"; pid-file none; session-keyfile none;
    listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
    allow-query {{ 127.0.0.1; }}; allow-recursion {{ 127.0.0.1; }};
    recursion yes; dnssec-validation no; querylog no;
}};
controls {{ }};
zone "." {{ type primary; file "root"; }};
{zones}
"""
_ZONE = 'zone "{name}" {{ type primary; file "{name}.zone"; allow-update {{ 127.0.0.1; }}; }};\n'
_DATA = """$TTL 60
@ IN SOA ns hostmaster 1 3600 600 86400 30
@ IN NS ns
ns IN A 127.0.0.1
"""


@dataclass(frozen=True)
class Named:
    """A running server. Changes are in effect when `set` returns."""

    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def set(self, zone: str, name: str, *records: str) -> None:
        """Have a name say exactly these records (`A 203.0.113.5`); none: it is gone."""
        update = dns.update.UpdateMessage(zone)
        update.delete(f"{name}.")
        for record in records:
            kind, _, value = record.partition(" ")
            update.add(f"{name}.", 1, kind, value)
        reply = dns.query.tcp(update, "127.0.0.1", port=self.port, timeout=5)
        assert reply.rcode() == dns.rcode.NOERROR, reply


@contextmanager
def serving(folder: Path, zones: Sequence[str]) -> Iterator[Named]:
    """Run a server with these zones, each with a server of its own and nothing else."""
    program = shutil.which("named") or shutil.which("named", path="/usr/sbin")
    if program is None:
        lacks("named is not installed (Debian: bind9)")
    port = pick_port()
    for zone in zones:
        (folder / f"{zone}.zone").write_text(_DATA)
    (folder / "root").write_text(_DATA)
    text = _CONFIG.format(folder=folder, port=port, zones="".join(_ZONE.format(name=zone) for zone in zones))
    (folder / "named.conf").write_text(text)
    with (folder / "named.log").open("w") as log:
        process = subprocess.Popen(
            [program, "-g", "-4", "-n", "1", "-c", str(folder / "named.conf")], stdout=log, stderr=log, cwd=folder
        )
    try:
        _wait(process, port, zones[0], folder / "named.log")
        yield Named(port)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, zone: str, log: Path) -> None:
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        assert process.poll() is None, log.read_text()
        try:
            dns.query.udp(dns.message.make_query(zone, "SOA"), "127.0.0.1", port=port, timeout=0.3)
            return
        except (TimeoutError, dns.exception.DNSException, OSError):
            continue
    raise AssertionError(log.read_text())
