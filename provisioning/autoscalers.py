"""Who may speak for a cluster as its autoscaler: a client certificate, one per cluster.

It names the cluster in a URI (RFC 5280, 4.2.1.6) and is good while the cluster's row has its
digest, so that a new one, a revocation and a release end it at the next call. The key that signs is
therefore worth nothing alone.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from sqlmodel import Session

from provisioning import autoscaling, clusters, pki
from provisioning.authority import builder, usage
from provisioning.autoscaling import NodeGroup
from provisioning.cluster_rows import Cluster
from provisioning.cluster_spec import Autoscale, ClusterSpec, not_scaled
from provisioning.errors import Conflict, Invalid, Unauthenticated
from provisioning.models import now
from provisioning.store import Store, record

LIFE: Final = timedelta(days=90)
URI: Final = "seed://cluster/"
MOST_BITS: Final = 4096
HOW: Final = "Let the CLI make one: `seed cluster autoscaler NAME`."


@dataclass(frozen=True)
class ClientAuthority:
    """Made by provisioning.authority.make. Signs for autoscalers and nobody else."""

    key_file: Path
    pem_file: Path

    def sign(self, csr: str, cluster: Cluster) -> x509.Certificate:
        """For the key of this request; nothing else in it counts. Raises Invalid."""
        public = _asked(csr)
        authority = x509.load_pem_x509_certificate(self.pem_file.read_bytes())
        key = serialization.load_pem_private_key(self.key_file.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101  authority.make's
        name = x509.NameAttribute(NameOID.COMMON_NAME, f"autoscaler of {cluster.name}")
        sans = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"{URI}{cluster.id}")])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        client = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        return (
            builder(x509.Name([name]), authority.subject, public, LIFE)
            .add_extension(sans, critical=False)
            .add_extension(issuer, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage(ca=False), critical=True)
            .add_extension(client, critical=False)
            .sign(key, hashes.SHA256())
        )


@dataclass(frozen=True, slots=True)
class Given:
    """certificate: PEM. group: what it may change."""

    cluster: str
    group: NodeGroup
    certificate: str
    expires_at: datetime


def give(
    store: Store,
    authority: ClientAuthority,
    project: str | None,
    name: str,
    who: str,
    csr: str,
    limits: dict[str, int],
) -> Given:
    """A certificate for the key of `csr` (PEM); an older one ends. limits: min, max, as they shall
    be from now on; what is left out stays.

    Raises NotFound, Conflict (given back, nobody said limits), Invalid (csr, limits, kind).
    """
    with store.write() as session:
        row = _living(session, project, name)
        spec = ClusterSpec.model_validate(row.spec)
        autoscale = _limits(spec, limits)
        signed = authority.sign(csr, row)
        workers = spec.workers.model_copy(update={"autoscale": autoscale})
        row.spec = row.spec | {"workers": workers.model_dump(mode="json")}
        row.autoscaler = _digest(signed)
        session.add(row)
        session.flush()
        ends = signed.not_valid_after_utc
        record(
            session, "cluster.autoscaler", row.id,
            f"{row.name}: {autoscale.min} to {autoscale.max} workers, until {ends:%Y-%m-%d}",
            who=who, project=row.project,
        )  # fmt: skip
        (group,) = autoscaling.seen_groups(session, row.id)
    pem = signed.public_bytes(serialization.Encoding.PEM).decode()
    return Given(row.name, group, pem, ends)


def revoke(store: Store, project: str | None, name: str, who: str) -> str:
    """From now on no autoscaler speaks for it; its limits stay. Gives its name."""
    with store.write() as session:
        row = _living(session, project, name)
        if row.autoscaler:
            row.autoscaler = ""
            session.add(row)
            record(
                session, "cluster.autoscaler-revoked", row.id, row.name,
                who=who, project=row.project,
            )  # fmt: skip
        return row.name


def cluster_of(session: Session, pem: bytes) -> Cluster:
    """Whose certificate this is. TLS said already that we signed it. Raises Unauthenticated."""
    identity, digest, ends = _read(pem)
    row = session.get(Cluster, identity) if identity else None
    alive = row is not None and row.ended_at is None and not row.released
    if row is None or not alive or row.autoscaler != digest or ends <= now():
        raise Unauthenticated(
            "this certificate is of no living cluster, has expired or was replaced",
            "seed cluster autoscaler NAME",
        )
    return row


@lru_cache(maxsize=256)
def _read(pem: bytes) -> tuple[UUID | None, str, datetime]:
    certificate = x509.load_pem_x509_certificate(pem)
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    uris = found.value.get_values_for_type(x509.UniformResourceIdentifier)
    ours = [uri.removeprefix(URI) for uri in uris if uri.startswith(URI)]
    identity = UUID(ours[0]) if len(ours) == 1 else None
    return identity, _digest(certificate), certificate.not_valid_after_utc


def _digest(certificate: x509.Certificate) -> str:
    return sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def _living(session: Session, project: str | None, name: str) -> Cluster:
    row = clusters.find(session, project, name)
    if row.released or row.ended_at is not None:
        raise Conflict(f"cluster {name} is being given back", "seed cluster list")
    return row


def _limits(spec: ClusterSpec, told: dict[str, int]) -> Autoscale:
    if why := not_scaled(spec.kind):
        raise Invalid(why, "Take another kind for a new cluster.")
    old = spec.workers.autoscale
    whole = (old.model_dump() if old else {}) | told
    if set(whole) != {"min", "max"}:
        raise Invalid(
            f"nobody said how many workers {spec.name} may have",
            f"Say both: `seed cluster autoscaler {spec.name} --min 1 --max 5`.",
        )
    if whole["min"] > whole["max"]:
        raise Invalid(f"min: {whole['min']} is more than max, {whole['max']}", "Change one.")
    return Autoscale.model_validate(whole)


def _asked(csr: str) -> CertificatePublicKeyTypes:
    """Of the keys that Seed takes those that gRPC's TLS takes: no Ed25519 (BoringSSL)."""
    key = pki.own_key(csr)
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey) or (
        isinstance(key, rsa.RSAPublicKey) and key.key_size > MOST_BITS
    ):
        raise Invalid("csr: its key is not of P-256, P-384 or RSA with 2048 to 4096 bits", HOW)
    return key
