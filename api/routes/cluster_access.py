"""Getting into a cluster that is there, and asking whether it works."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, StringConstraints

from api.auth import Anyone, Claimer
from api.discreet import of_bmcs
from api.parts import Here
from api.roles import Caller
from provisioning import cluster_access
from provisioning.cluster_access import LARGEST
from provisioning.cluster_rows import Cluster, ClusterCheck
from provisioning.store import Store

router = APIRouter(tags=["clusters"])

EXAMPLE = """\
-----BEGIN CERTIFICATE REQUEST-----
MIHEMGwCAQAwDTELMAkGA1UEAwwCbWUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
-----END CERTIFICATE REQUEST-----
"""


class CertificateAsk(BaseModel):
    """csr: PKCS #10, PEM, of P-256, P-384, Ed25519, or RSA from 2048 bits; its subject does not
    count: the certificate is the caller's."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"csr": EXAMPLE}})
    csr: Annotated[str, StringConstraints(max_length=LARGEST)]


class CertificateOut(BaseModel):
    """state: asked, until the reconciler has signed it; detail: what it waits for meanwhile.

    server: https://VIP:PORT; ca: PEM, whom to trust there; certificate: PEM, until expires_at.
    """

    id: UUID
    cluster: str
    project: str
    who: str
    groups: list[str]
    state: Literal["asked", "signed"]
    detail: str
    asked_at: datetime
    expires_at: datetime | None
    server: str
    ca: str
    certificate: str


class ItemOut(BaseModel):
    """state: empty while it is not known; none: the cluster has no such thing."""

    name: str
    state: Literal["", "ok", "failed", "none"]
    sentence: str
    seconds: float


class CheckOut(BaseModel):
    """state: running; then failed where one item is, else ok."""

    id: UUID
    cluster: str
    project: str
    who: str
    state: Literal["running", "ok", "failed"]
    asked_at: datetime
    ended_at: datetime | None
    items: list[ItemOut]


@router.post("/v1/clusters/{name}/certificates", status_code=202)
def ask_certificate(
    name: str, ask: CertificateAsk, caller: Claimer, parts: Here, request: Request,
    response: Response,
) -> CertificateOut:  # fmt: skip
    """Ask for a certificate for the cluster's Kubernetes API. Follow `Location` until it is signed.

    It is good for 12 hours, for the caller, with the rights of the group seed:PROJECT.
    """
    row = cluster_access.ask_certificate(parts.store, looks_in(caller), name, caller.name, ask.csr)
    url = request.url_for("show_certificate", name=name, certificate_id=str(row.id))
    response.headers["Location"] = str(url)
    return _certificate(parts.store, caller, name, row.id)


@router.get("/v1/clusters/{name}/certificates/{certificate_id}")
def show_certificate(
    name: str, certificate_id: UUID, caller: Claimer, parts: Here
) -> CertificateOut:
    """The certificate, the CA and the server once it is signed."""
    return _certificate(parts.store, caller, name, certificate_id)


@router.post("/v1/clusters/{name}/checks", status_code=202)
def ask_check(
    name: str, caller: Claimer, parts: Here, request: Request, response: Response
) -> CheckOut:
    """Check that nodes, pods, DNS, a service and a volume work; one that runs already is meant.

    Follow `Location`. What it makes in the cluster it takes away again.
    """
    row = cluster_access.ask_check(parts.store, looks_in(caller), name, caller.name)
    url = request.url_for("show_check", name=name, check_id=str(row.id))
    response.headers["Location"] = str(url)
    return check_out(row, name)


@router.get("/v1/clusters/{name}/checks/{check_id}")
def show_check(name: str, check_id: UUID, caller: Anyone, parts: Here) -> CheckOut:
    """What has been found so far."""
    with parts.store.read() as session:
        row = cluster_access.check(session, caller.looks_in, name, check_id)
    return check_out(row, name)


def looks_in(caller: Caller) -> str | None:
    """A cluster's own project only; root speaks for each."""
    return None if caller.root and not caller.named else caller.project


def _certificate(store: Store, caller: Caller, name: str, identity: UUID) -> CertificateOut:
    with store.read() as session:
        cluster, row = cluster_access.certificate(session, looks_in(caller), name, identity)
    signed = row.signed_at is not None
    facts = row.model_dump(include=set(CertificateOut.model_fields))
    return CertificateOut(
        **facts, cluster=cluster.name, state="signed" if signed else "asked",
        detail="" if signed else _waits(cluster, caller),
    )  # fmt: skip


def _waits(cluster: Cluster, caller: Caller) -> str:
    told = cluster.problem or cluster.detail
    if not caller.sees_all and of_bmcs(told):
        told = "a server of it is being seen to"
    return f"{cluster.name} is {cluster.state}" + (f": {told}" if told else "")


def check_out(row: ClusterCheck, name: str) -> CheckOut:
    failed = any(item["state"] == "failed" for item in row.items)
    over: Literal["ok", "failed"] = "failed" if failed else "ok"
    return CheckOut(
        **row.model_dump(include=set(CheckOut.model_fields) - {"items"}),
        cluster=name, state=over if row.ended_at else "running",
        items=[ItemOut.model_validate(item) for item in row.items],
    )  # fmt: skip
