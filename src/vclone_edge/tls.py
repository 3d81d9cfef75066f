"""Certificates by server name (SNI), taken up and made at run time, so that no restart is needed for a new one.

They come from a folder of `NAME.crt` and `NAME.key` pairs (PEM) and from an issuer (a plugin). A pair answers for the
names in its certificate, and comes before the issuer; the pair called `default`, or else the first, or else the
issuer's for the base domain, answers for every other name.
"""

from __future__ import annotations

import os
import ssl
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

from cryptography import x509

from vclone_core.errors import BadSettings, VcloneError
from vclone_core.log import get_log
from vclone_core.plugins import Plugins
from vclone_core.protocols import CertificateIssuer, IssuerConfig
from vclone_core.settings import Settings

ALPN = ("h2", "http/1.1")
ISSUED_KEPT: Final = 1024
ISSUED_PER_S: Final = 20
# A certificate is made anew when this share of its life is left.
_RENEW_S: Final = 2 * 86_400

_log = get_log(__name__)
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate ready to serve. `identity` says what it is for, in eight letters."""

    context: ssl.SSLContext
    identity: str
    chain: bytes
    key: bytes
    renew_at_s: float = float("inf")


def make_context(chain: bytes, key: bytes) -> ssl.SSLContext:
    """Return a server context for one certificate: TLS 1.2 or newer, HTTP/2 offered first. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(list(ALPN))
    # OpenSSL reads files only; this one is in memory and has no name.
    number = os.memfd_create("certificate")
    with os.fdopen(number, "wb") as file:
        file.write(chain + b"\n" + key)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{number}")
    return context


def names_of(pem: bytes) -> tuple[str, ...]:
    """Return the DNS names a PEM certificate is for, lower case."""
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(name.lower() for name in names.get_values_for_type(x509.DNSName))


def choose(by_name: Mapping[str, _Found], name: str | None) -> _Found | None:
    """Return what stands for a server name, exactly or as `*.parent` (RFC 9525 §6.3)."""
    if not name:
        return None
    name = name.lower().rstrip(".")
    found = by_name.get(name)
    return found if found is not None else by_name.get("*." + name.partition(".")[2])


@lru_cache(maxsize=4096)
def identify(names: tuple[str, ...]) -> str:
    """Return a certificate's identity, which follows from what it is for: fronts and workers agree on it unasked."""
    return f"{zlib.crc32(','.join(names).encode()):08x}"


class Folder:
    """The PEM pairs in a folder, and whether they have changed."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._seen: object = None

    def find(self) -> list[tuple[Path, Path]]:
        """Return certificate and key of every pair, `default` first. Raises OSError."""
        if self.path is None:
            return []
        paths = sorted(self.path.glob("*.crt"), key=lambda path: (path.stem != "default", path))
        return [(path, path.with_suffix(".key")) for path in paths if path.with_suffix(".key").is_file()]

    def find_new(self) -> list[tuple[Path, Path]] | None:
        """Return the pairs if anything about them is new since the last call."""
        pairs = self.find()
        seen = [(str(path), path.stat().st_mtime_ns) for pair in pairs for path in pair]
        if seen == self._seen:
            return None
        self._seen = seen
        return pairs


class Certificates:
    """What fronts serve. `context` is what a listener accepts with; it never changes identity."""

    def __init__(self, folder: Path | None, issuer: CertificateIssuer | None = None, *, base_domain: str = "") -> None:
        self._folder = Folder(folder)
        self._issuer = issuer if issuer is not None and issuer.is_instant else None
        self._by_name: dict[str, Certificate] = {}
        self._issued: OrderedDict[tuple[str, ...], Certificate] = OrderedDict()
        self._second = 0
        self._made = 0
        try:
            pairs = self._folder.find_new() or []
            loaded = self._load(pairs)
            if loaded:
                self.fallback = loaded[0]
            elif self._issuer is not None:
                self.fallback = self._issue(self._issuer, self._issuer.names_for(base_domain))
            else:
                raise BadSettings(problems=f"VCLONE_EDGE_CERTIFICATES: {folder} holds no NAME.crt with its NAME.key.")
        except (OSError, ValueError) as error:
            raise BadSettings(problems=f"VCLONE_EDGE_CERTIFICATES: {folder}: {error}.") from error
        self.context = make_context(self.fallback.chain, self.fallback.key)
        self.context.sni_callback = self._on_server_name
        self._unknown = self.context

    def _load(self, pairs: Iterable[tuple[Path, Path]]) -> list[Certificate]:
        loaded: list[Certificate] = []
        by_name: dict[str, Certificate] = {}
        for certificate, key in pairs:
            chain, secret = certificate.read_bytes(), key.read_bytes()
            names = names_of(chain)
            found = Certificate(make_context(chain, secret), identify(names), chain, secret)
            loaded.append(found)
            for name in names:
                by_name.setdefault(name, found)
        self._by_name = by_name
        return loaded

    def refresh(self) -> None:
        """Take up new, renewed and removed pairs; on trouble keep what is there."""
        try:
            pairs = self._folder.find_new()
            if not pairs:
                return
            self.fallback = self._load(pairs)[0]
            self._unknown = make_context(self.fallback.chain, self.fallback.key)
        except (OSError, ValueError) as error:
            _log.warning("certificates.not_loaded", folder=str(self._folder.path), why=str(error))
            return
        _log.info("certificates.loaded", names=len(self._by_name))

    def find(self, name: str | None) -> Certificate | None:
        """Return the certificate for a server name, made now if it has to be; None: there is none."""
        found = choose(self._by_name, name)
        if found is not None or self._issuer is None or not name:
            return found
        names = self._issuer.names_for(name.lower().rstrip("."))
        return self._find_issued(self._issuer, names) if names else None

    def _find_issued(self, issuer: CertificateIssuer, names: tuple[str, ...]) -> Certificate | None:
        found = self._issued.get(names)
        if found is not None and time.time() < found.renew_at_s:
            self._issued.move_to_end(names)
            return found
        # Whoever asks for one made-up name after the other gets so many, and the fallback's.
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._made = second, 0
        self._made += 1
        if self._made > ISSUED_PER_S:
            return found
        try:
            return self._issue(issuer, names)
        except (OSError, ValueError, VcloneError) as error:
            _log.warning("certificate.not_issued", names=names, why=str(error))
            return found

    def _issue(self, issuer: CertificateIssuer, names: tuple[str, ...]) -> Certificate:
        issued = issuer.issue(names)
        made = Certificate(
            make_context(issued.chain, issued.key),
            identify(names),
            issued.chain,
            issued.key,
            renew_at_s=issued.not_after_s - _RENEW_S,
        )
        self._issued[names] = made
        if len(self._issued) > ISSUED_KEPT:
            self._issued.popitem(last=False)
        return made

    def _on_server_name(self, connection: Any, name: str | None, _context: ssl.SSLContext) -> None:
        # Within the handshake, on the front's only thread: a look-up, or a millisecond for a name of ours that is new.
        found = self.find(name)
        connection.context = self._unknown if found is None else found.context
        connection.certificate_identity = "" if found is None else found.identity


class Coverage:
    """What the edge's certificates are for, without their keys: what workers need to know."""

    def __init__(self, folder: Path | None, issuer: CertificateIssuer | None) -> None:
        self._folder = Folder(folder)
        self._issuer = issuer
        self._by_name: dict[str, bool] = {}
        self._by_identity: dict[str, dict[str, bool]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take up changes of the folder; on trouble keep what is there."""
        try:
            pairs = self._folder.find_new()
            if pairs is None:
                return
            names = [names_of(certificate.read_bytes()) for certificate, _ in pairs]
        except (OSError, ValueError):
            return  # The front says so.
        self._by_name = {name: True for certificate in names for name in certificate}
        self._by_identity = {identify(certificate): dict.fromkeys(certificate, True) for certificate in names}

    def has(self, host: str) -> bool:
        """Say whether there is a certificate for a host."""
        if choose(self._by_name, host):
            return True
        return self._issuer is not None and bool(self._issuer.names_for(host))

    def allows(self, identity: str, host: str) -> bool:
        """Say whether a connection under the certificate `identity` may ask for a host (RFC 9110 §7.4).

        An empty identity, of clients that named no server or one that there is no certificate for, allows every host;
        so does one that is not known here, yet or any more.
        """
        if not identity:
            return True
        names = self._by_identity.get(identity)
        if names is not None:
            return choose(names, host) is not None
        if self._issuer is None:
            return True
        return identify(self._issuer.names_for(host)) == identity


def open_issuer(settings: Settings, plugins: Plugins) -> CertificateIssuer | None:
    """Return the issuer that the settings name. Raises `BadSettings` where no plugin offers it, or it can't start."""
    if not settings.edge_certificate_issuer:
        return None
    config = IssuerConfig(settings.data_dir, settings.base_domain)
    issuer: CertificateIssuer = plugins.make("certificate_issuers", settings.edge_certificate_issuer, config)
    if not issuer.is_instant and settings.edge_certificates is None:
        name = settings.edge_certificate_issuer
        raise BadSettings(problems=f"VCLONE_EDGE_CERTIFICATE_ISSUER: {name} can't issue while a handshake waits.")
    return issuer
