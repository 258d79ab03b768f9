"""A cluster's autoscaler: its client certificate, and between which sizes it works."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StrictInt, field_validator
from pydantic.json_schema import SkipJsonSchema

from api.auth import Anyone
from api.parts import Here
from api.roles import may_change
from provisioning import autoscalers
from provisioning.cluster_spec import MANY_WORKERS
from provisioning.errors import Conflict

router = APIRouter(tags=["clusters"])
LARGEST = 16 * 1024
PEM = "-----BEGIN CERTIFICATE REQUEST-----\n..."
Workers = Annotated[StrictInt, Field(ge=0, le=MANY_WORKERS)]


def _unsaid(schema: dict[str, Any]) -> None:
    """It may be left out, and cannot be null."""
    schema.pop("default", None)


class AutoscalerAsk(BaseModel):
    """csr: a certificate request (PKCS #10, PEM); of it only the key counts.

    min, max: workers that the autoscaler leaves at least and makes at most; without: as before.
    """

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"csr": PEM, "min": 1, "max": 5}}
    )
    csr: str = Field(max_length=LARGEST)
    min: Workers | SkipJsonSchema[None] = Field(default=None, json_schema_extra=_unsaid)
    max: Annotated[Workers, Field(ge=1)] | SkipJsonSchema[None] = Field(
        default=None, json_schema_extra=_unsaid
    )

    @field_validator("min", "max", mode="before")
    @classmethod
    def _said(cls, value: object) -> object:
        if value is None:
            raise ValueError("leave it out, or say it")
        return value


class AutoscalerOut(BaseModel):
    """address: HOST:PORT of the provider. certificate, ca: PEM; ca signed the provider's own."""

    cluster: str
    node_group: str
    min: int
    max: int
    address: str
    certificate: str
    ca: str
    expires_at: datetime


class AutoscalerGone(BaseModel):
    cluster: str


@router.post("/v1/clusters/{name}:autoscaler")
def give_autoscaler(name: str, ask: AutoscalerAsk, caller: Anyone, parts: Here) -> AutoscalerOut:
    """A client certificate for this cluster's autoscaler; the one before it ends."""
    project = may_change(caller, "clusters")
    if parts.autoscaler is None:
        raise Conflict(
            "this Seed answers no autoscalers",
            'Set wire = "provisioning" below [autoscaler] in seed.toml, then `seed down` and '
            "`seed up`.",
        )
    told = {"min": ask.min, "max": ask.max}
    limits = {word: number for word, number in told.items() if number is not None}
    authority, store = parts.autoscaler.authority, parts.store
    given = autoscalers.give(store, authority, project, name, caller.name, ask.csr, limits)
    return AutoscalerOut(
        cluster=given.cluster, node_group=given.group.id, min=given.group.min, max=given.group.max,
        address=parts.autoscaler.address, certificate=given.certificate,
        ca=parts.ca_pem.read_text(), expires_at=given.expires_at,
    )  # fmt: skip


@router.post("/v1/clusters/{name}:revoke-autoscaler")
def revoke_autoscaler(name: str, caller: Anyone, parts: Here) -> AutoscalerGone:
    """From the next call on the certificate of this cluster's autoscaler opens nothing."""
    gone = autoscalers.revoke(parts.store, may_change(caller, "clusters"), name, caller.name)
    return AutoscalerGone(cluster=gone)
