"""The BMCs that were found."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict
from sqlmodel import Session, col, select

from api.auth import Destroyer, Insider, Operator
from api.parts import Here
from provisioning import enrollment, expected
from provisioning.errors import NotFound
from provisioning.models import Bmc, Credential, HostLabel, Name
from provisioning.ranges import address as one_form

router = APIRouter(tags=["bmcs"])


class BmcOut(BaseModel):
    """A BMC as people see it. No login has a field here."""

    address: str
    protocol: str
    state: str
    login: str
    credential: str
    vendor: str
    model: str
    serial: str
    system_uuid: str
    firmware: str
    manager_mac: str
    macs: list[str]
    fingerprint: str
    node: str
    resource_class: str
    detail: str
    problem: str
    remedy: str
    seen_at: str


class AcceptAsk(BaseModel):
    """name: the node's; by default a list's or its serial. resource_class: by default a list's."""

    model_config = ConfigDict(extra="forbid")
    name: HostLabel | None = None
    resource_class: Name | None = None
    mac: str | None = None


@router.get("/v1/bmcs")
def list_bmcs(caller: Insider, parts: Here) -> list[BmcOut]:
    """Every BMC ever found, by address."""
    with parts.store.read() as session:
        rows = session.exec(select(Bmc).order_by(col(Bmc.address))).all()
        return [_out(session, b) for b in rows]


@router.get("/v1/bmcs/{address}")
def show_bmc(address: str, caller: Insider, parts: Here) -> BmcOut:
    """One BMC."""
    with parts.store.read() as session:
        return _out(session, find(session, address))


@router.post("/v1/bmcs/{address}:accept", status_code=202)
def accept_bmc(
    address: Annotated[str, Path()], ask: AcceptAsk, caller: Operator, parts: Here
) -> BmcOut:
    """This server is ours: enroll and inspect it. Its disks are not touched."""
    with parts.store.write() as session:
        bmc = find(session, address)
        if ask.mac:
            enrollment.add_mac(bmc, ask.mac)
        name = ask.name or expected.name_for(session, bmc)
        resource_class = ask.resource_class or expected.class_for(session, bmc)
        enrollment.accept(session, bmc, name, resource_class, caller.name)
        return _out(session, bmc)


@router.post("/v1/bmcs/{address}:forget", status_code=202)
def forget_bmc(address: str, caller: Destroyer, parts: Here) -> BmcOut:
    """This server is not ours any more. Its power and its disks stay as they are."""
    with parts.store.write() as session:
        bmc = find(session, address)
        told = _out(session, bmc)
        enrollment.forget(session, bmc, caller.name)
        return told


def find(session: Session, address: str) -> Bmc:
    """The BMC at an address, in whatever form IPv6 was written. Raises NotFound."""
    address = one_form(address)
    found = session.exec(select(Bmc).where(Bmc.address == address)).first()
    if found is None:
        raise NotFound(f"no BMC {address} was found yet", f"Look there: `seed discover {address}`.")
    return found


def _out(session: Session, bmc: Bmc) -> BmcOut:
    credential = session.get(Credential, bmc.credential_id) if bmc.credential_id else None
    facts: dict[str, Any] = bmc.model_dump(include=set(BmcOut.model_fields))
    facts |= {
        "state": "accepted" if bmc.node_uuid else "observed",
        "node": bmc.node_name or "",
        "credential": credential.name if credential else "",
        "seen_at": bmc.seen_at.isoformat(timespec="seconds"),
    }
    return BmcOut(**facts)
