"""Sweeps that find BMCs."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StringConstraints

from api.auth import Insider, Operator
from api.parts import Here
from provisioning import discovery
from provisioning.errors import NotFound
from provisioning.models import Discovery
from provisioning.sweep import DEFAULT_RATE

router = APIRouter(tags=["discoveries"])

Range = Annotated[str, StringConstraints(max_length=100)]


class DiscoveryAsk(BaseModel):
    """ranges: networks, addresses or first-last; at most 65,536 addresses in all.

    exclude: not these. credential: a login's name, or vault:MOUNT/PATH. rate: addresses a second,
    0: no limit. mac: which BMC has the one address now, where several come with the same. defaults:
    try what vendors ship, two at most per BMC in ten minutes.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "ranges": ["172.22.1.0/24"],
                "exclude": ["172.22.1.1"],
                "credential": "rack-a",
            }
        },
    )
    ranges: list[Range] = Field(max_length=256)
    exclude: list[Range] = Field(default_factory=list, max_length=256)
    credential: str | None = None
    rate: StrictFloat = DEFAULT_RATE
    mac: Range = ""
    defaults: StrictBool = False


@router.post("/v1/discoveries", status_code=202)
def discover(ask: DiscoveryAsk, caller: Operator, parts: Here) -> Discovery:
    """Sweep address ranges for BMCs; follow it until `state` is done or failed."""
    with parts.store.write() as session:
        return discovery.request(
            session, ask.ranges, ask.credential, caller.name,
            exclude=ask.exclude, rate=ask.rate, mac=ask.mac, defaults=ask.defaults,
        )  # fmt: skip


@router.get("/v1/discoveries/{discovery_id}")
def show_discovery(discovery_id: UUID, caller: Insider, parts: Here) -> Discovery:
    """One sweep and how far it is."""
    with parts.store.read() as session:
        found = session.get(Discovery, discovery_id)
    if found is None:
        raise NotFound("there is no such sweep", "Start one: `seed discover RANGE`.")
    return found
