"""The authority is made once, kept private, and signs what it may."""

from __future__ import annotations

import datetime
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import verification

from vclone_certificates_internal import make_issuer
from vclone_certificates_internal.authority import InternalIssuer
from vclone_core import IssuerConfig, errors


def issuer_for(folder: Path, base: str) -> InternalIssuer:
    return make_issuer(IssuerConfig(folder, base))


def test_it_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: issuer_for(tmp_path, "apps.example").authority, range(16)))
    assert len(found) == 1
    (path,) = (tmp_path / "certificates").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert b"PRIVATE KEY" not in found.pop()


@pytest.mark.parametrize(
    ("base", "host", "names"),
    [
        ("apps.example", "shop.apps.example", ("apps.example", "*.apps.example")),
        ("apps.example", "apps.example", ("apps.example", "*.apps.example")),
        ("apps.example", "a.shop.apps.example", ("a.shop.apps.example",)),
        ("apps.example", "shop.example", ()),
        ("apps.example", "notapps.example", ()),
        ("apps.example", "", ()),
        ("localhost", "shop.localhost", ("shop.localhost",)),
        ("localhost", "localhost", ("localhost",)),
        ("localhost", "127.0.0.1", ()),
    ],
)
def test_names(tmp_path: Path, base: str, host: str, names: tuple[str, ...]) -> None:
    assert issuer_for(tmp_path, base).names_for(host) == names


def verify(issuer: InternalIssuer, names: tuple[str, ...], host: str) -> x509.Certificate:
    issued = issuer.issue(names)
    leaf, authority = x509.load_pem_x509_certificates(issued.chain)
    store = verification.Store([authority])
    verification.PolicyBuilder().store(store).build_server_verifier(x509.DNSName(host)).verify(leaf, [])
    return leaf


def test_what_it_signs_is_accepted_for_its_names_for_a_week(tmp_path: Path) -> None:
    issuer = issuer_for(tmp_path, "apps.example")
    leaf = verify(issuer, issuer.names_for("shop.apps.example"), "shop.apps.example")
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert datetime.timedelta(days=7) <= life < datetime.timedelta(days=8)
    with pytest.raises(verification.VerificationError):
        verify(issuer, ("apps.example", "*.apps.example"), "a.b.apps.example")


def test_trusting_it_opens_no_other_name(tmp_path: Path) -> None:
    with pytest.raises(verification.VerificationError, match="constraint"):
        verify(issuer_for(tmp_path, "apps.example"), ("bank.example",), "bank.example")


def test_an_authority_for_another_domain_or_a_broken_one_is_refused(tmp_path: Path) -> None:
    issuer_for(tmp_path, "apps.example")
    with pytest.raises(errors.BadSettings, match=r"was made for apps\.example, not for other\.example"):
        issuer_for(tmp_path, "other.example")
    (tmp_path / "certificates" / "authority.pem").write_text("nonsense")
    with pytest.raises(errors.BadSettings, match="can't be used"):
        issuer_for(tmp_path, "apps.example")
