"""Seed's certificate authority for BMCs: signs a BMC's own key for the BMC's own address."""

import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from provisioning.errors import BmcRefused

CA_LIFE: Final = timedelta(days=365 * 20)
BMC_LIFE: Final = timedelta(days=365 * 10)
"""Long: nobody stands by to renew it, and a rotation does it anyway."""
RENEW: Final = timedelta(days=90)
BACKDATE: Final = timedelta(days=2)
"""A BMC whose battery is empty, or a new server, may be hours off or have local time."""


def make(key_file: Path, pem_file: Path, what: str = "BMC") -> None:
    """A new authority: `key_file` 0600, `pem_file` 0644. An existing one is kept."""
    if key_file.exists() and pem_file.exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"Seed {what} CA {os.urandom(4).hex()}")]
    )
    certificate = (
        builder(name, name, key.public_key(), CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain
    )
    key_file.unlink(missing_ok=True)
    fd = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(encoded)
    pem_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem_file.chmod(0o644)


@dataclass(frozen=True)
class Authority:
    """Held by the reconciler alone."""

    key_file: Path
    pem_file: Path

    @property
    def pem(self) -> str:
        return self.pem_file.read_text()

    @cached_property
    def _certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.pem_file.read_bytes())

    def sign(self, csr: str, address: str) -> str:
        """A certificate (PEM) for the key of this request. Of the request only the key counts."""
        try:
            asked = x509.load_pem_x509_csr(csr.encode())
            good = asked.is_signature_valid
        except ValueError:
            good = False
        if not good:
            raise BmcRefused(
                f"BMC {address} made a certificate request that is none",
                "Update the BMC's firmware; until then its certificate stays.",
            )
        key = serialization.load_pem_private_key(self.key_file.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101  made above
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
        sans = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        signed = (
            builder(name, self._certificate.subject, asked.public_key(), BMC_LIFE)
            .add_extension(sans, critical=False)
            .add_extension(issuer, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage(ca=False), critical=True)
            .add_extension(server, critical=False)
            .sign(key, hashes.SHA256())
        )
        return signed.public_bytes(serialization.Encoding.PEM).decode()

    def signed(self, pem: str, address: str) -> bool:
        """Is this one of ours, for this address, and not about to end?"""
        certificate = _load(pem)
        if certificate is None or not _names(certificate, address):
            return False
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return certificate.not_valid_after_utc - datetime.now(UTC) > RENEW


def usage(*, ca: bool) -> x509.KeyUsage:
    """What its key is for. Strict clients (Python 3.13's default) refuse a CA that does not say."""
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def fingerprint(pem: str) -> str:
    """SHA-256 of the certificate, hex."""
    return sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def _load(pem: str) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        return None


def _names(certificate: x509.Certificate, address: str) -> bool:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return ip_address(address) in extension.value.get_values_for_type(x509.IPAddress)


def builder(
    subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
