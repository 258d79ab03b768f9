"""A receiver of webhooks: HTTPS, with a certificate of a CA of its own."""

import base64
import hashlib
import hmac
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from provisioning.models import now
from seed.host import netns
from tests.fakes.serving import serving
from tests.fakes.tls import over_tls

NAME = "hooks.example.org"


@dataclass
class Got:
    """One post; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    def is_signed_with(self, secret: str) -> bool:
        """By Standard Webhooks 1.0, told anew here."""
        head = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}."
        key = base64.b64decode(secret.removeprefix("whsec_"))
        mac = hmac.new(key, head.encode() + self.body, hashlib.sha256).digest()
        right = f"v1,{base64.b64encode(mac).decode()}"
        return hmac.compare_digest(self.headers["webhook-signature"], right)


Answer = Callable[[Got, BaseHTTPRequestHandler], int]


@dataclass
class Receiver:
    """answer: the status for a post; it may write what it likes and return 0."""

    host: str = NAME
    port: int = 0
    ca: Path = Path()
    got: list[Got] = field(default_factory=list)
    answer: Answer = lambda got, handler: 204

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}/seed?room=1"

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))


@contextmanager
def receiving(folder: Path, name: str = NAME, namespace: str = "") -> Iterator[Receiver]:
    """name: whose certificate it has; if it is an address, it listens there, else on loopback."""
    receiver = Receiver(name if _is_address(name) else NAME, ca=folder / f"{name}.ca.pem")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", "0"))
            headers = {key.lower(): value for key, value in self.headers.items()}
            got = Got(self.path, headers, self.rfile.read(length))
            receiver.got.append(got)
            status = receiver.answer(got, self)
            if status:
                self.send_response(status)
                self.send_header("content-length", "0")
                if status in (301, 302, 307):
                    self.send_header("location", f"https://{name}:{receiver.port}/elsewhere")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Clients that hang up are what is tested."""

    own = name if _is_address(name) else "127.0.0.1"
    server = netns.call(namespace, lambda: Server((own, 0), Handler))
    over_tls(server, a_certificate(folder, name, receiver.ca))
    receiver.port = server.server_address[1]
    with serving(server):
        yield receiver


def _is_address(name: str) -> bool:
    return name.replace(".", "").isdigit()


def a_certificate(folder: Path, name: str, ca_file: Path) -> Path:
    """Certificate and key in one file; the CA's certificate in `ca_file`."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name.from_rfc4514_string(f"CN=CA of {name}")
    own = x509.Name.from_rfc4514_string(f"CN={name}")
    ca = _made(ca_name, ca_name, ca_key.public_key(), x509.BasicConstraints(True, None), ca_key)
    said = x509.IPAddress(ip_address(name)) if _is_address(name) else x509.DNSName(name)
    names = x509.SubjectAlternativeName([said])
    made = _made(own, ca_name, key.public_key(), names, ca_key)
    ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    path = folder / f"{name}.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(*form, serialization.NoEncryption())
    )
    return path


def _made(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey,
    extension: x509.ExtensionType, ca_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:  # fmt: skip
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    begin = now() - timedelta(hours=1)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begin)
    builder = builder.not_valid_after(begin + timedelta(days=2))
    builder = builder.add_extension(extension, critical=True)
    return builder.sign(ca_key, hashes.SHA256())
