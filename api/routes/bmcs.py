"""The BMCs that were found."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field, StrictBool
from sqlmodel import Session, col, select

from api.auth import Destroyer, Insider, Operator
from api.parts import Here
from provisioning import (
    acceptance,
    expected,
    interfaces,
    logins,
    oui,
    pinning,
    rotation,
    survey,
)
from provisioning.abilities import Abilities
from provisioning.acceptance import OnAccept
from provisioning.errors import NotFound
from provisioning.hardware import Inventory
from provisioning.models import Bmc, Credential
from provisioning.names import Name, NewHostLabel
from provisioning.ranges import address as one_form
from provisioning.room import Rotation

router = APIRouter(tags=["bmcs"])


class BmcOut(BaseModel):
    """A BMC as people see it. No login has a field here."""

    address: str
    protocol: str
    state: str
    login: str
    credential: str
    rotation: str
    rotation_remedy: str
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
    health: str
    survey_problem: str
    detail: str
    problem: str
    remedy: str
    seen_at: str


class ChoiceOut(BaseModel):
    """One of Ironic's interfaces, and why this one."""

    interface: str
    value: str
    reason: str


class BmcDetail(BmcOut):
    """All that is known of one BMC.

    maker:     who made its NIC, by the MAC.
    inventory: what it said last, inventory_at ago; survey_problem: why it could not be asked since.
    led:       the locate LED as Seed last set it; led_waits: not yet as somebody wants it.
    """

    maker: str
    inventory: Inventory
    inventory_at: str
    baseline: Inventory | None
    abilities: Abilities | None
    interfaces: list[ChoiceOut]
    findings: list[str]
    survey_at: str
    survey_waits: bool
    survey_remedy: str
    led: str
    led_waits: bool
    led_problem: str


class LocateAsk(BaseModel):
    model_config = ConfigDict(extra="forbid")
    on: StrictBool


class TrustAsk(BaseModel):
    """fingerprint: SHA-256 of the certificate, hex, with colons or without."""

    model_config = ConfigDict(extra="forbid")
    fingerprint: str


class AcceptAsk(BaseModel):
    """name: the node's; by default a list's or its serial. resource_class: by default a list's.

    keep_login: leave the BMC's password and certificate as they are.
    """

    model_config = ConfigDict(extra="forbid")
    name: NewHostLabel | None = None
    resource_class: Name | None = None
    mac: str | None = None
    keep_login: StrictBool = False


class ForgetBmcAsk(BaseModel):
    """why: kept in the event."""

    model_config = ConfigDict(extra="forbid")
    why: str = Field(default="", max_length=500)


@router.get("/v1/bmcs")
def list_bmcs(caller: Insider, parts: Here) -> list[BmcOut]:
    """Every BMC ever found, by address."""
    with parts.store.read() as session:
        rows = session.exec(select(Bmc).order_by(col(Bmc.address))).all()
        return [_out(session, b) for b in rows]


@router.get("/v1/bmcs/{address}")
def show_bmc(address: str, caller: Insider, parts: Here) -> BmcDetail:
    """One BMC: its server's parts, what it can do, and its weaknesses."""
    with parts.store.read() as session:
        return _detail(session, find(session, address))


@router.post("/v1/bmcs/{address}:accept", status_code=202)
def accept_bmc(
    address: Annotated[str, Path()], ask: AcceptAsk, caller: Operator, parts: Here
) -> BmcOut:
    """This server is ours: a login of its own, enroll, inspect. Its disks are not touched."""
    with parts.store.write() as session:
        bmc = find(session, address)
        if ask.mac:
            acceptance.add_mac(bmc, ask.mac)
        name = ask.name or expected.name_for(session, bmc)
        resource_class = ask.resource_class or expected.class_for(session, bmc)
        login = OnAccept.KEEP if ask.keep_login else OnAccept.TAKE_OVER
        acceptance.accept(session, bmc, name, resource_class, caller.name, login)
        return _out(session, bmc)


@router.post("/v1/bmcs/{address}:rotate", status_code=202)
def rotate_bmc(address: str, caller: Operator, parts: Here) -> BmcOut:
    """A new password that only Seed has; follow it until `rotation` is empty or says why not."""
    with parts.store.write() as session:
        bmc = find(session, address)
        rotation.ask(session, bmc, caller.name)
        session.flush()
        return _out(session, bmc)


@router.post("/v1/bmcs/{address}:trust", status_code=202)
def trust_bmc(address: str, ask: TrustAsk, caller: Operator, parts: Here) -> BmcOut:
    """The other certificate that this accepted BMC was seen with is right."""
    with parts.store.write() as session:
        bmc = find(session, address)
        pinning.trust(session, bmc, ask.fingerprint, caller.name)
        session.flush()
        return _out(session, bmc)


@router.post("/v1/bmcs/{address}:inspect", status_code=202)
def inspect_bmc(address: str, caller: Operator, parts: Here) -> BmcDetail:
    """Ask the BMC anew, the power untouched. Done when `survey_waits` is false."""
    with parts.store.write() as session:
        bmc = find(session, address)
        survey.request(session, bmc, caller.name)
        return _detail(session, bmc)


@router.post("/v1/bmcs/{address}:locate", status_code=202)
def locate_bmc(address: str, ask: LocateAsk, caller: Operator, parts: Here) -> BmcDetail:
    """Switch the server's locate LED. Done when `led_waits` is false."""
    with parts.store.write() as session:
        bmc = find(session, address)
        survey.locate(session, bmc, ask.on, caller.name)
        return _detail(session, bmc)


@router.post("/v1/bmcs/{address}:forget", status_code=202)
def forget_bmc(
    address: str, caller: Destroyer, parts: Here, ask: ForgetBmcAsk | None = None
) -> BmcOut:
    """This server is not ours any more. Its power and its disks stay as they are."""
    with parts.store.write() as session:
        bmc = find(session, address)
        told = _out(session, bmc)
        acceptance.forget(session, bmc, caller.name, ask.why if ask else "")
        return told


def find(session: Session, address: str) -> Bmc:
    """The BMC at an address, in whatever form IPv6 was written. Raises NotFound."""
    address = one_form(address)
    found = session.exec(select(Bmc).where(Bmc.address == address)).first()
    if found is None:
        raise NotFound(f"no BMC {address} was found yet", f"Look there: `seed discover {address}`.")
    return found


def _out(session: Session, bmc: Bmc) -> BmcOut:
    return BmcOut(**_facts(session, bmc))


def _facts(session: Session, bmc: Bmc) -> dict[str, Any]:
    credential = session.get(Credential, bmc.credential_id) if bmc.credential_id else None
    change = session.get(Rotation, bmc.id)
    facts: dict[str, Any] = bmc.model_dump(include=set(BmcOut.model_fields))
    return facts | {
        "state": "accepted" if bmc.node_uuid else "observed",
        "node": bmc.node_name or "",
        "credential": credential.name if credential else "",
        "health": str(bmc.inventory.get("health", "")),
        "rotation": _told(change) if change else "",
        "rotation_remedy": change.remedy if change else "",
        "seen_at": bmc.seen_at.isoformat(timespec="seconds"),
    }


def _detail(session: Session, bmc: Bmc) -> BmcDetail:
    abilities = Abilities.model_validate(bmc.abilities) if bmc.abilities else None
    chosen = interfaces.choose(bmc.protocol, abilities)
    return BmcDetail(
        **_facts(session, bmc),
        maker=oui.maker(bmc.manager_mac),
        inventory=Inventory.model_validate(bmc.inventory),
        inventory_at=_time(bmc.inventory_at),
        baseline=Inventory.model_validate(bmc.baseline) if bmc.baseline else None,
        abilities=abilities,
        interfaces=[ChoiceOut(**asdict(choice)) for choice in chosen],
        findings=logins.findings(bmc),
        survey_at=_time(bmc.survey_at),
        survey_waits=survey.waits(bmc.survey_asked_at, bmc.survey_at),
        survey_remedy=bmc.survey_remedy,
        led=bmc.led,
        led_waits=survey.waits(bmc.led_asked_at, bmc.led_at),
        led_problem=bmc.led_problem,
    )


def _time(value: datetime | None) -> str:
    return value.isoformat(timespec="seconds") if value else ""


def _told(change: Rotation) -> str:
    return f"{change.step}: {change.problem}" if change.problem else change.step
