"""What is weak about the TLS certificate that a BMC showed."""

from datetime import UTC, datetime
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

LEAST_RSA_BITS = 2048


def findings(pem: str, address: str) -> tuple[str, ...]:
    """One sentence each. The names that matter are those a client checks (RFC 6125)."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        return tuple(_validity(certificate) + _names(certificate, address) + _strength(certificate))
    except ValueError:
        return ("its certificate cannot be read",)


def _validity(certificate: x509.Certificate) -> list[str]:
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc < now:
        return [f"its certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}"]
    if certificate.not_valid_before_utc > now:
        return [f"its certificate is valid only from {certificate.not_valid_before_utc:%Y-%m-%d}"]
    return []


def _names(certificate: x509.Certificate, address: str) -> list[str]:
    try:
        kind = x509.SubjectAlternativeName
        names = certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return ["its certificate has a common name only, which no client checks"]
    if ip_address(address) in names.get_values_for_type(x509.IPAddress):
        return []
    return [f"its certificate does not carry its address {address} as a name"]


def _strength(certificate: x509.Certificate) -> list[str]:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < LEAST_RSA_BITS:
        return [f"its certificate's RSA key has {key.key_size} bits only"]
    return []
