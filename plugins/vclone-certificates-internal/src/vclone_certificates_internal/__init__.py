"""Certificates from an authority of the platform's own, for `VCLONE_EDGE_CERTIFICATE_ISSUER=internal`."""

from __future__ import annotations

from collections.abc import Mapping

from vclone_certificates_internal.authority import InternalIssuer
from vclone_core import CertificateIssuerFactory, IssuerConfig, hookimpl

__all__ = ["InternalIssuer", "make_issuer", "register_certificate_issuers"]


def make_issuer(config: IssuerConfig) -> InternalIssuer:
    """Return the issuer whose authority is in `config.data_dir`, made there now if there is none."""
    return InternalIssuer(config.data_dir / "certificates" / "authority.pem", base_domain=config.base_domain)


@hookimpl
def register_certificate_issuers() -> Mapping[str, CertificateIssuerFactory]:
    return {"internal": make_issuer}
