"""BMCs that all come with one factory address, taken one at a time and told apart by their MAC.

Whoever sees the wire (seed/host/arp.py) says which MAC the address has now. What was found of each
is kept as an Observation by that MAC: the BMC's row goes with the address, and is the next one's.
"""

from sqlmodel import Session, col, select

from provisioning.errors import Conflict, Invalid
from provisioning.models import Bmc, now
from provisioning.networks import mac as checked_mac
from provisioning.observations import ONE_BY_ONE
from provisioning.room import Observation
from provisioning.states import BmcGoal
from provisioning.store import record


def asked(session: Session, addresses: list[str], mac: str) -> str:
    """The MAC as it is stored. Invalid for more than one address, Conflict where a node lives."""
    if len(addresses) != 1:
        raise Invalid(
            "one by one means one address, the one all of them come with",
            "Give it alone: `seed discover 192.168.0.120 --one-by-one`.",
        )
    bmc = _row(session, addresses[0])
    if bmc and bmc.goal is not BmcGoal.OBSERVED:
        raise Conflict(
            f"the node {bmc.node_name} was accepted at {bmc.address}",
            f"Give its BMC another address first: `seed bmc show {bmc.address}`.",
        )
    return checked_mac(mac)


def make_room(session: Session, address: str, mac: str) -> None:
    """Drop the row of the BMC that had this address before, if it is not this one."""
    bmc = _row(session, address)
    if bmc and bmc.goal is BmcGoal.OBSERVED and _last(session, address) not in (None, mac):
        session.delete(bmc)
        session.flush()


def keep(session: Session, address: str, mac: str, who: str) -> None:
    """Write down what is known of the BMC with this MAC, beyond the address it will leave."""
    bmc = _row(session, address)
    if bmc is None:
        return
    bmc.manager_mac = bmc.manager_mac or mac
    row = session.exec(
        select(Observation).where(Observation.source == ONE_BY_ONE, Observation.key == mac)
    ).first()
    row = row or Observation(source=ONE_BY_ONE, key=mac, bmc_mac=mac)
    row.origin, row.seen_at = address, now()
    row.serial, row.system_uuid, row.macs = bmc.serial, bmc.system_uuid, list(bmc.macs)
    row.facts = {"vendor": bmc.vendor, "model": bmc.model}
    session.add(row)
    record(session, "bmc.one-by-one", address, f"{mac} {bmc.serial}".strip(), who=who)


def _last(session: Session, address: str) -> str | None:
    """The MAC that was seen last at an address."""
    return session.exec(
        select(Observation.key)
        .where(Observation.source == ONE_BY_ONE, Observation.origin == address)
        .order_by(col(Observation.seen_at).desc())
    ).first()


def _row(session: Session, address: str) -> Bmc | None:
    return session.exec(select(Bmc).where(Bmc.address == address)).first()
