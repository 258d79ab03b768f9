"""What people say of a BMC: it is ours, it is not any more, this is its NIC. Rows only."""

from enum import StrEnum
from uuid import uuid4

from sqlmodel import Session

from provisioning import duplicates, rotation
from provisioning.classify import ANY_CLASS
from provisioning.disks import kept_of
from provisioning.errors import Conflict, Invalid
from provisioning.models import Bmc, Hold
from provisioning.names import HostLabel
from provisioning.networks import mac as checked_mac
from provisioning.states import BmcGoal, Login
from provisioning.store import record


class OnAccept(StrEnum):
    """What becomes of the login that a BMC is accepted with."""

    TAKE_OVER = "take over"  # a new password that only Seed has
    KEEP = "keep"


def accept(
    session: Session,
    bmc: Bmc,
    name: HostLabel,
    resource_class: str,
    who: str,
    login: OnAccept = OnAccept.TAKE_OVER,
) -> None:
    """A person says this server is ours: the BMC gets a login of its own, disks stay untouched."""
    if bmc.goal is not BmcGoal.OBSERVED:
        if bmc.node_name == name:
            return
        raise Conflict(
            f"BMC {bmc.address} was already accepted as {bmc.node_name}",
            f"See it: `seed node show {bmc.node_name}`.",
        )
    if bmc.login is not Login.OK:
        raise Conflict(
            f"no login to BMC {bmc.address} has worked yet",
            f"Give one: `seed discover {bmc.address} --username U --password-stdin`.",
        )
    if not bmc.serial:
        raise Conflict(
            f"BMC {bmc.address} does not tell its server's serial number",
            "Seed must know a server by its serial before it may erase it: set it in the BMC.",
        )
    duplicates.refuse(session, bmc, name)
    bmc.goal, bmc.node_name, bmc.resource_class = BmcGoal.MANAGED, name, resource_class
    bmc.class_said = resource_class != ANY_CLASS
    bmc.node_uuid, bmc.accepted_by = uuid4(), who
    bmc.baseline = bmc.inventory  # empty: the next survey's
    session.add(Hold(node_uuid=bmc.node_uuid))
    session.add(bmc)
    record(session, "bmc.accepted", bmc.address, f"as {name}", who=who, node=str(bmc.node_uuid))
    if login is OnAccept.TAKE_OVER:
        rotation.ask(session, bmc, who)


def forget(session: Session, bmc: Bmc, who: str, why: str = "") -> None:
    """The server is not ours any more. Its power and its disks stay as they are."""
    if bmc.goal is BmcGoal.OBSERVED:
        session.delete(bmc)
    else:
        hold = session.get(Hold, bmc.node)
        if hold and hold.claim_id:
            raise Conflict(
                f"{bmc.node_name} is held by a claim",
                "Release that claim first: `seed claim list`.",
            )
        if kept := kept_of(session, bmc.node):
            raise Conflict(
                f"{len(kept)} disk(s) of {bmc.node_name} are kept, and nobody would know it then",
                f"`seed node disks {bmc.node_name}`, then `seed node forget-disk` for each.",
            )
        bmc.goal = BmcGoal.FORGOTTEN
        session.add(bmc)
    record(session, "bmc.forget-asked", bmc.address, bmc.node_name or "", who=who, why=why)


def add_mac(bmc: Bmc, text: str) -> None:
    """A person read a NIC's MAC off the label."""
    known = checked_mac(text)
    if bmc.goal is not BmcGoal.OBSERVED and known not in bmc.macs:
        raise Invalid("an accepted server's NICs are known", "Inspect it: `seed node retry NAME`.")
    bmc.macs = sorted({*bmc.macs, known})
