"""TLS for the front: one context per certificate, chosen by SNI from a dictionary while the handshake runs.

Certificates come from a folder of `NAME.crt` and `NAME.key` pairs (PEM). A pair answers for the names in its
certificate; the pair called `default`, or else the first, answers for every other name.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cryptography import x509

from vclone_core.errors import BadSettings
from vclone_core.log import get_log

ALPN = ("h2", "http/1.1")

_log = get_log(__name__)


def make_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a server context for one PEM pair: TLS 1.2 or newer, HTTP/2 offered first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(list(ALPN))
    context.load_cert_chain(certificate, key)
    return context


def names_of(pem: bytes) -> tuple[str, ...]:
    """Return the DNS names a PEM certificate is for, lower case."""
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(name.lower() for name in names.get_values_for_type(x509.DNSName))


def choose(by_name: Mapping[str, ssl.SSLContext], name: str | None) -> ssl.SSLContext | None:
    """Return what stands for a server name, exactly or as `*.parent`."""
    if not name:
        return None
    name = name.lower().rstrip(".")
    found = by_name.get(name)
    return found if found is not None else by_name.get("*." + name.partition(".")[2])


class Certificates:
    """The folder's pairs as contexts. `context` is what a listener accepts with; it never changes identity."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_name: dict[str, ssl.SSLContext] = {}
        self._seen: object = None
        pairs = self._pairs()
        if not pairs:
            raise BadSettings(problems=f"VCLONE_EDGE_CERTIFICATES: {folder} holds no NAME.crt with its NAME.key.")
        first = next((pair for pair in pairs if pair[0].stem == "default"), pairs[0])
        try:
            self.context = make_context(*first)
            self._by_name = self._load(pairs)
        except (OSError, ValueError) as error:
            raise BadSettings(problems=f"VCLONE_EDGE_CERTIFICATES: {folder}: {error}.") from error
        self._fallback = self.context
        self._seen = self._stamp(pairs)
        self.context.sni_callback = self._choose

    def _pairs(self) -> list[tuple[Path, Path]]:
        certificates = sorted(self._folder.glob("*.crt"))
        return [(path, path.with_suffix(".key")) for path in certificates if path.with_suffix(".key").is_file()]

    @staticmethod
    def _stamp(pairs: Iterable[tuple[Path, Path]]) -> object:
        return [(str(path), path.stat().st_mtime_ns) for pair in pairs for path in pair]

    @staticmethod
    def _load(pairs: Iterable[tuple[Path, Path]]) -> dict[str, ssl.SSLContext]:
        by_name: dict[str, ssl.SSLContext] = {}
        for certificate, key in pairs:
            context = make_context(certificate, key)
            for name in names_of(certificate.read_bytes()):
                by_name.setdefault(name, context)
            if certificate.stem == "default":
                by_name[""] = context
        return by_name

    def refresh(self) -> None:
        """Take up new, renewed and removed pairs; on trouble keep what is there."""
        try:
            pairs = self._pairs()
            stamp = self._stamp(pairs)
            if stamp == self._seen or not pairs:
                return
            self._seen = stamp
            self._by_name = self._load(pairs)
        except (OSError, ValueError) as error:
            _log.warning("certificates.not_loaded", folder=str(self._folder), why=str(error))
            return
        self._fallback = self._by_name.get("", self.context)
        _log.info("certificates.loaded", names=len(self._by_name))

    def _choose(self, connection: Any, name: str | None, _context: ssl.SSLContext) -> None:
        # Runs within the handshake, on the front's only thread: a dictionary look-up and nothing else.
        connection.context = choose(self._by_name, name) or self._fallback
