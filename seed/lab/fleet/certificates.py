"""Certificates as BMCs come with: self-signed. One key for all, signing is what costs."""

import ssl
import tempfile
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from seed.lab.fleet.bmc import Bmc

KEPT = 64  # TLS contexts kept for BMCs with their own certificate; one takes some 30 kB
PEM = serialization.Encoding.PEM


class Certificates:
    """One TLS context for each BMC, or one for all."""

    def __init__(self, *, shared: bool) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.key_pem = self._key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._contexts: OrderedDict[str, ssl.SSLContext] = OrderedDict()
        self._shared = self._context(self._signed("bmc.local")) if shared else None

    def of(self, bmc: Bmc) -> ssl.SSLContext:
        """The context of this BMC; its certificate stays the same until it is replaced."""
        if self._shared is not None and not bmc.certificate:
            return self._shared
        bmc.certificate = bmc.certificate or self._signed(bmc.address)
        context = self._contexts.pop(bmc.certificate, None) or self._context(bmc.certificate)
        self._contexts[bmc.certificate] = context
        if len(self._contexts) > KEPT:
            self._contexts.popitem(last=False)
        return context

    def renew(self, bmc: Bmc) -> None:
        """Another certificate, as after a factory reset."""
        bmc.certificate = self._signed(bmc.address)

    def _context(self, certificate: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile("wb", suffix=".pem") as both:  # 0600, as mkstemp makes it
            both.write(self.key_pem + certificate.encode())
            both.flush()
            context.load_cert_chain(Path(both.name))
        return context

    def _signed(self, name: str) -> str:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=3650))
        )
        if name != "bmc.local":
            names = [x509.IPAddress(ip_address(name))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(PEM).decode()
