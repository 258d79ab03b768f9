"""A served provider, and a client of it as Cluster Autoscaler's: gRPC over mutual TLS."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from provisioning import authority
from provisioning.autoscalers import ClientAuthority, Given, give
from provisioning.autoscaling import Autoscaling
from provisioning.store import Store
from seed.autoscaler import externalgrpc_pb2 as pb
from seed.autoscaler.provider import serve
from seed.host import tls
from seed.host.paths import Paths
from seed.settings import AutoscalerSettings, Settings, Wire
from tests.fakes.settings import some_settings

SERVICE = pb.DESCRIPTOR.services_by_name["CloudProvider"]


@dataclass
class Key:
    """A private key and a request for it, PEM."""

    pem: bytes
    csr: str


def a_key(key: Any = None) -> Key:
    key = key or ec.generate_private_key(ec.SECP256R1())
    asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = asked.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    return Key(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), csr)


def served_settings(base: Path, port: int = 8444) -> Settings:
    """Autoscalers are answered on loopback."""
    loopback = Wire(interface="lo", address=IPv4Interface("127.0.0.1/8"))
    told = AutoscalerSettings(wire="management", port=port)
    return some_settings(base, namespace="", management=loopback, autoscaler=told)


@dataclass
class Door:
    """A provider that answers, and what its clients need."""

    store: Store
    settings: Settings
    port: int = 0
    opened: list[grpc.Channel] = field(default_factory=list)

    @property
    def authority(self) -> ClientAuthority:
        paths = Paths(self.settings)
        return ClientAuthority(paths.autoscaler_key, paths.autoscaler_pem)

    @property
    def ca(self) -> bytes:
        return (Paths(self.settings).tls / "ca.pem").read_bytes()

    def give(
        self, name: str, key: Key | None = None, project: str = "p", **limits: int
    ) -> tuple[Given, Key]:
        key = key or a_key()
        return give(self.store, self.authority, project, name, "me", key.csr, limits), key

    def client(self, name: str, project: str = "p", **limits: int) -> "Client":
        """As the autoscaler of this cluster, with a certificate of its own."""
        given, key = self.give(name, None, project, **limits)
        return self.client_with(key.pem, given.certificate.encode())

    def client_with(
        self, key: bytes | None, certificate: bytes | None, ca: bytes | None = None
    ) -> "Client":
        credentials = grpc.ssl_channel_credentials(ca or self.ca, key, certificate)
        # Else gRPC gives two clients of one process one connection, and with it one certificate.
        alone = (("grpc.use_local_subchannel_pool", 1),)
        channel = grpc.secure_channel(f"127.0.0.1:{self.port}", credentials, options=alone)
        self.opened.append(channel)
        return Client(channel)


@dataclass
class Client:
    channel: grpc.Channel

    def __call__(self, method: str, timeout: float = 30, **asked: Any) -> Any:
        known = SERVICE.methods_by_name[method]
        request = getattr(pb, known.input_type.name)(**asked)
        return self.raw(method, request.SerializeToString(), timeout)

    def raw(self, method: str, request: bytes, timeout: float = 30) -> Any:
        answers = getattr(pb, SERVICE.methods_by_name[method].output_type.name)
        call = self.channel.unary_unary(
            f"/{SERVICE.full_name}/{method}",
            request_serializer=bytes,
            response_deserializer=answers.FromString,
        )
        return call(request, timeout=timeout)


def make_keys(settings: Settings) -> None:
    """As `seed up` makes them."""
    paths = Paths(settings)
    paths.keys.mkdir(parents=True, exist_ok=True)
    tls.ensure(settings)
    authority.make(paths.autoscaler_key, paths.autoscaler_pem, "autoscaler")


@contextmanager
def a_door(base: Path, scaling: Autoscaling) -> Iterator[Door]:
    settings = served_settings(base)
    make_keys(settings)
    paths = Paths(settings)
    files = (paths.tls / "autoscaler.key", paths.tls / "autoscaler.pem", paths.autoscaler_pem)
    server, port = serve(scaling, "127.0.0.1:0", *(path.read_bytes() for path in files))
    door = Door(scaling.store, settings, port)
    try:
        yield door
    finally:
        for channel in door.opened:
            channel.close()
        server.stop(0).wait()
