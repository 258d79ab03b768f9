"""What we say of a certificate is what TLS clients say of it, strict ones and older ones."""

import ssl
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from provisioning.authority import usage
from provisioning.models import now
from provisioning.strict_tls import stands_alone

ADDRESS, ADDRESS6 = "192.0.2.7", "2001:db8::7"
# Python 3.13's default (partial chains are taken, too), and that of all before.
STRICT = ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_TRUSTED_FIRST
OLDER = ssl.VERIFY_X509_TRUSTED_FIRST
SERVER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
AUTHORITY = x509.BasicConstraints(ca=True, path_length=None)
NAMES = x509.SubjectAlternativeName([x509.IPAddress(ip_address(a)) for a in (ADDRESS, ADDRESS6)])

CASES: dict[str, tuple[bool, dict[str, Any]]] = {
    "with its address": (True, {}),
    "an RSA key": (True, {"bits": 2048}),
    "for servers": (True, {"says": [SERVER, usage(ca=False)]}),
    "a CA that does not say what its key is for": (True, {"says": [AUTHORITY]}),
    "a CA whose key signs only": (False, {"says": [AUTHORITY, usage(ca=True)]}),
    "for clients": (False, {"says": [CLIENT]}),
    "a weak key": (False, {"bits": 1024}),
    "a name only": (False, {"names": None}),
    "expired": (False, {"days": -1}),
    "issued by somebody": (False, {"issuer": "somebody"}),
}


def files(
    folder: Path,
    says: list[x509.ExtensionType] | None = None,
    bits: int = 0,
    names: x509.SubjectAlternativeName | None = NAMES,
    days: int = 9,
    issuer: str = "bmc",
) -> Path:
    """A BMC's certificate and key in one file."""
    key: Any = (
        rsa.generate_private_key(65537, bits) if bits else ec.generate_private_key(ec.SECP256R1())
    )
    subject, by = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in ("bmc", issuer))
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(by)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now() - timedelta(days=20)).not_valid_after(now() + timedelta(days=days))
    )  # fmt: skip
    for extension in [*(says or []), *([names] if names else [])]:
        builder = builder.add_extension(extension, critical=extension == AUTHORITY)
    pem = serialization.Encoding.PEM
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    both = folder / "both.pem"
    signed = builder.sign(key, hashes.SHA256())
    both.write_bytes(signed.public_bytes(pem) + key.private_bytes(pem, *plain))
    return both


def shakes_hands(both: Path, address: str, flags: ssl.VerifyFlags) -> bool:
    """A whole handshake of a client that trusts this one, with the server that has it."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.set_ciphers("ALL:@SECLEVEL=0")  # a BMC shows whatever it has
    serving.load_cert_chain(both)
    asking = ssl.create_default_context(cafile=str(both))
    asking.verify_flags = flags
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(down, up, server_hostname=address)
    server = serving.wrap_bio(up, down, server_side=True)
    for end in (client, server) * 4:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError:
            return False
    return client.version() is not None


@pytest.mark.parametrize("address", [ADDRESS, ADDRESS6, "192.0.2.8"])
@pytest.mark.parametrize("case", CASES)
def test_it_says_what_clients_say(tmp_path: Path, case: str, address: str) -> None:
    good, facts = CASES[case]
    good = good and address != "192.0.2.8"
    both = files(tmp_path, **facts)
    pem = both.read_text().split("-----BEGIN PRIVATE")[0]
    assert stands_alone(pem, address) is good
    assert shakes_hands(both, address, OLDER) is good
    # A partial chain lets in who was issued by somebody; whoever is older does not.
    assert shakes_hands(both, address, STRICT) is (good or _let_in(case, address))


def _let_in(case: str, address: str) -> bool:
    return case == "issued by somebody" and address != "192.0.2.8"


@pytest.mark.parametrize("nonsense", ["", "PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END C"])
def test_nonsense_stands_nowhere(nonsense: str) -> None:
    assert not stands_alone(nonsense, ADDRESS)
