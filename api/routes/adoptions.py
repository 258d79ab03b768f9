"""Nodes of another Ironic: what would be taken over, and taking them."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.auth import Operator
from api.parts import Here
from provisioning import adoption
from provisioning.adoption import Foreign, Line

router = APIRouter(prefix="/v1/adoptions", tags=["adoptions"])


class AdoptionAsk(BaseModel):
    """cloud: what that Ironic is called. nodes: as it tells them; no password is among that."""

    model_config = ConfigDict(extra="forbid")
    cloud: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    nodes: list[Foreign] = Field(max_length=5000)


class AdoptionLine(BaseModel):
    """action: take, ours, cannot."""

    uuid: str
    name: str
    state: str
    action: str
    bmc: str
    why: str
    remedy: str


@router.post(":plan")
def plan_adoption(ask: AdoptionAsk, caller: Operator, parts: Here) -> list[AdoptionLine]:
    """What would be taken over, what is ours already, what cannot be and why. Changes nothing."""
    with parts.store.read() as session:
        return [_out(line) for line in adoption.difference(session, ask.nodes)]


@router.post("", status_code=202)
def adopt(ask: AdoptionAsk, caller: Operator, parts: Here) -> list[AdoptionLine]:
    """Take over all that can be: in our Ironic as they are there. Nothing is powered or booted."""
    with parts.store.write() as session:
        return [_out(x) for x in adoption.take(session, ask.cloud, ask.nodes, caller.name)]


def _out(line: Line) -> AdoptionLine:
    return AdoptionLine(
        uuid=str(line.node.uuid),
        name=line.name or line.node.name,
        state=line.node.provision_state,
        action=line.action,
        bmc=line.bmc or line.node.bmc_address,
        why=line.why,
        remedy=line.remedy,
    )
