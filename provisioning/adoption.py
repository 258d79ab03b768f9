"""Taking over the nodes of another Ironic as they are: nothing is powered, cleaned or booted.

The node is made anew in our Ironic with the same UUID, name, properties and ports, then managed
(its BMC is read) and, if it was active, adopted (Ironic's own verb for a server it did not deploy)
and protected. Ironic tells nobody its BMC passwords, so each BMC must be found with a login first.
"""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints
from sqlmodel import Session, select

from provisioning import duplicates, expected
from provisioning.driver_info import MASK
from provisioning.errors import Conflict
from provisioning.identity import address_key, mac_key
from provisioning.models import Bmc, Hold
from provisioning.names import HOST_LABEL
from provisioning.states import BmcGoal, Login
from provisioning.store import record

TAKEN = frozenset({"enroll", "manageable", "available", "active"})
"""Provision states that a node is taken over in; all others are in the middle of something."""
Text = Annotated[str, StringConstraints(max_length=255)]


class Port(BaseModel):
    model_config = ConfigDict(extra="ignore")

    address: Text
    pxe_enabled: StrictBool = True
    local_link_connection: dict[str, Any] = {}
    physical_network: Text | None = None


class Foreign(BaseModel):
    """A node of another Ironic; field names are Ironic's, but for `bmc_address`."""

    model_config = ConfigDict(extra="ignore")

    uuid: UUID
    name: Text = ""
    driver: Text = ""
    provision_state: Text
    resource_class: Text = ""
    traits: list[Text] = Field(default=[], max_length=64)
    properties: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    instance_info: dict[str, Any] = {}
    bmc_address: Text = ""
    ports: list[Port] = Field(default=[], max_length=64)


BOOTS_WITH: Final = frozenset({"kernel_append_params", "ramdisk_kernel_arguments"})
"""Of instance_info: another Ironic's words for the ramdisk's kernel command line. Ours has its own;
its iPXE script would be made of them (CVE-2026-46447)."""


@dataclass(frozen=True, slots=True)
class Line:
    """One node of the difference. action: take, ours or cannot; why, and what helps."""

    node: Foreign
    action: str
    bmc: str = ""
    name: str = ""
    why: str = ""
    remedy: str = ""


def difference(session: Session, foreign: list[Foreign]) -> list[Line]:
    """What would be taken over, what is ours already, what cannot be and why."""
    rows = list(session.exec(select(Bmc)))
    found = {node.uuid: _bmc_of(node, rows) for node in foreign}
    shared = Counter(bmc.id for bmc in found.values() if bmc)
    lines = []
    for node in foreign:
        bmc = found[node.uuid]
        if bmc and shared[bmc.id] > 1:
            why = f"several of its nodes have the BMC {bmc.address}"
            lines.append(Line(node, "cannot", bmc.address, why=why, remedy="Correct it there."))
        else:
            lines.append(_line(session, node, bmc))
    return lines


def _line(session: Session, node: Foreign, bmc: Bmc | None) -> Line:
    if bmc and bmc.node_uuid == node.uuid:
        return Line(node, "ours", bmc.address, bmc.node_name or "")
    try:
        return _takeable(session, node, bmc)
    except Conflict as err:
        address = bmc.address if bmc else ""
        return Line(node, "cannot", address, why=str(err), remedy=err.remedy)


def _takeable(session: Session, node: Foreign, bmc: Bmc | None) -> Line:
    """Raises Conflict with why it cannot be taken."""
    if node.provision_state not in TAKEN:
        raise Conflict(f"it is {node.provision_state} there", "Wait, or end that there first.")
    where = address_key(node.bmc_address) or "ADDRESS"  # a name that leads nowhere is none
    look = f"Find it with its login: `seed discover {where} --username U --password-stdin`."
    if bmc is None:
        raise Conflict(f"its BMC {node.bmc_address or '(not told)'} was not found here", look)
    if bmc.login is not Login.OK:
        raise Conflict(f"no login to BMC {bmc.address} has worked yet", look)
    if not bmc.serial:
        raise Conflict(
            f"BMC {bmc.address} does not tell its server's serial number",
            "Seed must know a server by its serial before it may erase it: set it in the BMC.",
        )
    if bmc.goal is not BmcGoal.OBSERVED:
        raise Conflict(
            f"its server was accepted here as {bmc.node_name}",
            f"See it: `seed node show {bmc.node_name}`.",
        )
    name = node.name or expected.name_for(session, bmc)
    if not re.fullmatch(HOST_LABEL, name):
        raise Conflict(
            f"its name {name!r} is no host name",
            f"Rename it there: baremetal node set {node.uuid} --name NAME",
        )
    duplicates.refuse(session, bmc, name)
    return Line(node, "take", bmc.address, name)


def _bmc_of(node: Foreign, rows: list[Bmc]) -> Bmc | None:
    """By the node's UUID, the BMC's address, else by a NIC's MAC that one BMC alone has."""
    address = address_key(node.bmc_address)
    for row in rows:
        if row.node_uuid == node.uuid or (address and row.address == address):
            return row
    macs = {mac_key(port.address) for port in node.ports} - {""}
    same = [row for row in rows if macs & set(row.macs)]
    return same[0] if len(same) == 1 else None


def take(session: Session, cloud: str, foreign: list[Foreign], who: str) -> list[Line]:
    """Write down that these are ours; the reconciler does the rest. The difference as it was."""
    return [_taken(session, line, cloud, who) for line in difference(session, foreign)]


def _taken(session: Session, line: Line, cloud: str, who: str) -> Line:
    if line.action != "take":
        return line
    bmc = session.exec(select(Bmc).where(Bmc.address == line.bmc)).one()
    now = _line(session, line.node, bmc)  # one that was just taken may be its double
    if now.action == "take":
        _accept(session, bmc, now, cloud, who)
    return now


def _accept(session: Session, bmc: Bmc, line: Line, cloud: str, who: str) -> None:
    node = line.node
    bmc.goal, bmc.node_uuid, bmc.node_name = BmcGoal.ADOPTED, node.uuid, line.name
    bmc.resource_class = node.resource_class or bmc.resource_class
    bmc.accepted_by, bmc.class_said = who, bool(node.resource_class)
    bmc.macs = sorted({*bmc.macs, *(mac_key(p.address) for p in node.ports)} - {""})
    bmc.adoption = {"cloud": cloud, **_told(node)}
    session.add(Hold(node_uuid=node.uuid))
    record(
        session, "bmc.adopted", bmc.address, f"{line.name} of {cloud}, {node.provision_state}",
        who=who, node=str(node.uuid),
    )  # fmt: skip
    session.flush()


def _told(node: Foreign) -> dict[str, Any]:
    """What our Ironic is told; a value that was masked there is not known."""
    told = node.model_dump(mode="json", exclude={"uuid", "bmc_address", "driver", "name"})
    info = {
        k: v for k, v in node.instance_info.items() if MASK not in str(v) and k not in BOOTS_WITH
    }
    return told | {"instance_info": info}
