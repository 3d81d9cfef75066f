"""The authority: its key in one private file, and the certificates it signs."""

from __future__ import annotations

import contextlib
import datetime
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vclone_core import IssuedCertificate, errors

AUTHORITY_DAYS: Final = 3650
LEAF_DAYS: Final = 7
# Clocks differ.
_EARLIER: Final = datetime.timedelta(hours=1)


class InternalIssuer:
    """Signs names below `base_domain`. Raises `BadSettings` where the authority can't be read or kept."""

    is_instant = True

    def __init__(self, path: Path, *, base_domain: str) -> None:
        self._base = base_domain
        try:
            if not path.exists():
                _keep(path, _make_authority(base_domain))
            text = path.read_bytes()
            self._key = serialization.load_pem_private_key(text, None)
            self._certificate = x509.load_pem_x509_certificate(text)
        except (OSError, ValueError) as error:
            raise errors.BadSettings(problems=f"the authority in {path} can't be used: {error}.") from error
        if _base_of(self._certificate) != base_domain:
            raise errors.BadSettings(
                problems=f"the authority in {path} was made for {_base_of(self._certificate)}, not for {base_domain}.",
                hint="Move the file away: a new authority is made, which clients have to trust in turn.",
            )
        self.authority = self._certificate.public_bytes(serialization.Encoding.PEM)

    def names_for(self, host: str) -> tuple[str, ...]:
        """Return the names of the certificate that stands for `host`; none for a host elsewhere."""
        parent = host.partition(".")[2]
        if host != self._base and not host.endswith("." + self._base):
            return ()
        # Clients refuse a wildcard for all of a top-level domain (`*.localhost`).
        if "." in self._base and (host == self._base or parent == self._base):
            return (self._base, f"*.{self._base}")
        return (host,)

    def issue(self, names: Sequence[str]) -> IssuedCertificate:
        """Return a new certificate for `names`, with a key of its own; about a millisecond of work."""
        assert isinstance(self._key, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        ends = min(now + datetime.timedelta(days=LEAF_DAYS), self._certificate.not_valid_after_utc)
        certificate = (
            x509.CertificateBuilder()
            # A common name has at most 64 letters; what counts is the alternative names.
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _EARLIER)
            .not_valid_after(ends)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return IssuedCertificate(
            chain=certificate.public_bytes(serialization.Encoding.PEM) + self.authority,
            key=_dump(key),
            not_after_s=ends.timestamp(),
        )


def _make_authority(base_domain: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "vclone"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"vclone internal authority for {base_domain}"[:64]),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + datetime.timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(is_authority=True), critical=True)
        .add_extension(x509.NameConstraints([x509.DNSName(base_domain)], None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _dump(key) + certificate.public_bytes(serialization.Encoding.PEM)


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _base_of(authority: x509.Certificate) -> str:
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    return str((constraints.permitted_subtrees or [x509.DNSName("")])[0].value)


def _dump(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _keep(path: Path, text: bytes) -> None:
    """Write the authority whole, private, and once: of several processes that try, one wins and all read its."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    early = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(number)
        with contextlib.suppress(FileExistsError):
            os.link(early, path)
    finally:
        early.unlink()
