"""Seed's own certificate authority and the certificates of its TLS listeners."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from provisioning.authority import builder, usage
from seed.settings import Settings

CA_YEARS = 10
SERVER_DAYS = 397
RENEW_DAYS = 30


def ensure(settings: Settings) -> None:
    """Make or renew what is missing, about to end, or made for other addresses. Safe to repeat.

    Needs nothing but a writable state_dir/tls: images may call it before the first `seed up` to
    put ca.pem into the ramdisk. Owners are set by users.fix_files.
    """
    folder = settings.state_dir / "tls"
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = _ensure_ca(folder)
    for name, address in servers(settings).items():
        _ensure_server(folder, name, [address], certificate, key)


def servers(settings: Settings) -> dict[str, IPv4Address]:
    """Certificate -> the address that it is for."""
    autoscaler = settings.autoscaler_address.rpartition(":")[0]
    return {
        "management": settings.management.address.ip,
        "gateway": settings.provisioning.address.ip,
        **({"autoscaler": IPv4Address(autoscaler)} if autoscaler else {}),
    }


def days_left(path: Path) -> float:
    """Days until the certificate in `path` ends; negative once it has."""
    end = load(path).not_valid_after_utc
    return (end - datetime.now(UTC)) / timedelta(days=1)


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _ensure_ca(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    pem, key_file = folder / "ca.pem", folder / "ca.key"
    if pem.exists() and key_file.exists() and days_left(pem) > RENEW_DAYS:
        return load(pem), _load_key(key_file)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"Seed CA {datetime.now(UTC):%Y-%m-%d}")
    certificate = (
        builder(name, name, key.public_key(), timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(key_file, _pem(key), 0o600)
    _write(pem, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return certificate, key


def _ensure_server(
    folder: Path,
    name: str,
    addresses: Sequence[IPv4Address],
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
) -> None:
    pem, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    if pem.exists() and key_file.exists() and _good(load(pem), addresses, ca):
        return
    key = ec.generate_private_key(ec.SECP256R1())
    sans = x509.SubjectAlternativeName([x509.IPAddress(address) for address in addresses])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    certificate = (
        builder(_name(f"seed {name}"), ca.subject, key.public_key(), timedelta(days=SERVER_DAYS))
        .add_extension(sans, critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    # The key first: a crash in between leaves a pair that `_good` does not accept.
    pem.unlink(missing_ok=True)
    _write(key_file, _pem(key), 0o600)
    _write(pem, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _good(
    certificate: x509.Certificate, addresses: Sequence[IPv4Address], ca: x509.Certificate
) -> bool:
    """Signed by `ca`, for exactly `addresses`, and more than RENEW_DAYS from its end."""
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    named = set(extension.value.get_values_for_type(x509.IPAddress))
    if named != set(addresses):
        return False
    try:
        certificate.verify_directly_issued_by(ca)
    except Exception:  # ValueError, TypeError or InvalidSignature: not ours in any case
        return False
    return certificate.not_valid_after_utc - datetime.now(UTC) > timedelta(days=RENEW_DAYS)


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Seed"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{path} holds no EC key")
    return key


def _write(path: Path, data: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        os.fchmod(fd, mode)
        os.fsync(fd)
    temporary.replace(path)
