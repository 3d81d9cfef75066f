"""Certificates from an authority of the platform's own, for `VCLONE_EDGE_CERTIFICATE_ISSUER=internal`."""

from __future__ import annotations

from collections.abc import Mapping

from vclone_core import CertificateIssuer, CertificateIssuerFactory, IssuerConfig, hookimpl


def make_issuer(config: IssuerConfig) -> CertificateIssuer:
    """Return the issuer whose authority is in `config.data_dir`, made there now if there is none."""
    # Every process loads this module, and hardly any makes certificates.
    from vclone_certificates_internal.authority import InternalIssuer

    return InternalIssuer(config.data_dir / "certificates" / "authority.pem", base_domain=config.base_domain)


@hookimpl
def register_certificate_issuers() -> Mapping[str, CertificateIssuerFactory]:
    return {"internal": make_issuer}
