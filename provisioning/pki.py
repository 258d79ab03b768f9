"""A Kubernetes cluster's keys and certificates, and kubeconfigs for its people.

As kubeadm makes them (kubernetes.io: "PKI certificates and requirements"; seen with 1.36.2), so it
finds them in place and uses them: ECDSA P-256, RSA for service accounts, a CA's SAN is its CN.
"""

import base64
import re
import secrets
import string
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from typing import Final

import yaml
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from provisioning import authority
from provisioning.errors import Invalid

AUTHORITIES: Final = {"ca": "kubernetes", "front-proxy-ca": "front-proxy-ca", "etcd/ca": "etcd-ca"}
"""Path below /etc/kubernetes/pki, without its ending -> common name."""
CA_LIFE: Final = timedelta(days=3650)
KUBECONFIG_LIFE: Final = timedelta(hours=12)
"""Nobody can take a client certificate back: Kubernetes knows no revocation."""
BACKDATE: Final = timedelta(minutes=5)
"""A server's clock may go behind ours."""
LONGEST: Final = 64
"""Characters of a CN or O: ub-common-name, ub-organization-name of RFC 5280."""
CSR: Final = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN=me"
_RESERVED = "system:"
_ALPHABET = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class Pair:
    """PEM: a certificate, or of service accounts the public key, and its private key."""

    public: str
    key: str = field(repr=False)


def certificates(now: datetime) -> dict[str, str]:
    """Path below /etc/kubernetes/pki -> PEM: what all control planes of a cluster have alike."""
    made: dict[str, str] = {}
    for path, name in AUTHORITIES.items():
        pair = make_authority(name, now)
        made |= {f"{path}.crt": pair.public, f"{path}.key": pair.key}
    accounts = service_account()
    return {**made, "sa.pub": accounts.public, "sa.key": accounts.key}


def make_authority(common_name: str, now: datetime) -> Pair:
    """A new CA. now: aware."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    signed = (
        _builder(name, name, key.public_key(), now, now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(authority.usage(ca=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(_pem(signed), _key_pem(key))


def service_account() -> Pair:
    """Signs the tokens of service accounts."""
    key = rsa.generate_private_key(65537, 2048)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return Pair(public.decode(), _key_pem(key))


def bootstrap_token() -> str:
    """`[a-z0-9]{6}\\.[a-z0-9]{16}`: an id that may be told, and 82 secret bits."""
    drawn = "".join(secrets.choice(_ALPHABET) for _ in range(22))
    return f"{drawn[:6]}.{drawn[6:]}"


def ca_cert_hash(certificate: str) -> str:
    """kubeadm's caCertHashes: of the DER SubjectPublicKeyInfo (RFC 7469), "sha256:HEX"."""
    public = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{sha256(der).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Person:
    """Who a kubeconfig is for. groups: "seed:PROJECT", or "system:masters", which may do all."""

    name: str
    groups: tuple[str, ...] = ()


def client_certificate(
    ca: Pair,
    key: CertificatePublicKeyTypes,
    person: Person,
    now: datetime,
    life: timedelta = KUBECONFIG_LIFE,
) -> str:
    """PEM: whoever has this key is that person, from five minutes ago. now: aware.

    Raises Invalid as `check` does.
    """
    check(person)
    return _pem(_client(ca, key, person, now, life))


def own_key(request: str) -> CertificatePublicKeyTypes:
    """The public key of a PKCS #10 request, in PEM; nothing else that it says counts.

    Raises Invalid: it is none, or its key is weak or not the one that it is signed with.
    """
    try:
        asked = x509.load_pem_x509_csr(request.encode())
        key = asked.public_key()
        if not _strong(key):
            raise Invalid(
                "csr: its key is none of P-256, P-384, Ed25519 or RSA of 2048 to 8192", CSR
            )
        proved = asked.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as problem:
        raise Invalid("csr: it is no certificate request in PEM (PKCS #10)", CSR) from problem
    if not proved:
        raise Invalid("csr: it is not signed with its own key", CSR)
    return key


def _strong(key: CertificatePublicKeyTypes) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return 2048 <= key.key_size <= 8192
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    return isinstance(key, ed25519.Ed25519PublicKey)


def kubeconfig(cluster: str, server: str, ca: str, person: str, certificate: str, key: str) -> str:
    """YAML with a client key in it: a secret. server: https://VIP:PORT; the last two, ca: PEM."""
    name = f"{person}@{cluster}"
    user = {
        "client-certificate-data": _packed(certificate),
        "client-key-data": _packed(key),
    }
    about = {"server": server, "certificate-authority-data": _packed(ca)}
    told = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": about}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": cluster, "user": name}}],
        "current-context": name,
    }
    return yaml.safe_dump(told, sort_keys=False, width=1_000_000)


def check(person: Person) -> None:
    """Raises Invalid: a name that Kubernetes keeps for itself, or that no certificate takes."""
    if person.name.startswith(_RESERVED):
        raise Invalid(
            f"{person.name!r} is a name that Kubernetes keeps for itself",
            "Ask as a person: `seed cluster kubeconfig NAME`.",
        )
    for what, word in [("name", person.name), *(("group", group) for group in person.groups)]:
        if not re.fullmatch(rf"[^\x00-\x1f\x7f]{{1,{LONGEST}}}", word):
            raise Invalid(
                f"the {what} {word[:80]!r} does not fit into a certificate: "
                f"1 to {LONGEST} printable characters do",
                "Take a shorter name of a user or project.",
            )


def _client(
    ca: Pair,
    key: CertificatePublicKeyTypes,
    person: Person,
    now: datetime,
    life: timedelta,
) -> x509.Certificate:
    """kube-apiserver reads CN as the user and each O as a group."""
    issuer = x509.load_pem_x509_certificate(ca.public.encode())
    signer = load_pem_private_key(ca.key.encode(), password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)  # noqa: S101  made above
    groups = (x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in person.groups)
    subject = x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, person.name)])
    client = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return (
        _builder(subject, issuer.subject, key, now, now + life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(authority.usage(ca=False), critical=True)
        .add_extension(client, critical=False)
        .add_extension(identifier, critical=False)
        .sign(signer, hashes.SHA256())
    )


def server_certificate(ca: Pair, name: str, addresses: Iterable[str], now: datetime) -> Pair:
    """For who answers at these addresses, bare; as long as its CA. now: aware."""
    issuer = x509.load_pem_x509_certificate(ca.public.encode())
    signer = load_pem_private_key(ca.key.encode(), password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)  # noqa: S101  made above
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = [x509.IPAddress(ip_address(one)) for one in addresses]
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    signed = (
        _builder(subject, issuer.subject, key.public_key(), now, issuer.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(authority.usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(identifier, critical=False)
        .sign(signer, hashes.SHA256())
    )
    return Pair(_pem(signed), _key_pem(key))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: CertificatePublicKeyTypes,
    now: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    """SEC 1 or PKCS #1, as kubeadm writes them."""
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return plain.decode()


def _packed(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
