"""Servers nobody knows that booted the discovery ramdisk: what they told, as observations.

Anybody on the provisioning wire may post here, so there are so many rows and no more, each is
small, and one that repeats itself is written once a minute.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, select

from provisioning.hardware import Inventory
from provisioning.identity import address_key, mac_key, serial_key
from provisioning.models import now
from provisioning.observations import RAMDISK
from provisioning.ramdisk import inventory_of
from provisioning.room import Observation
from provisioning.store import Store, record

MOST = 1000
"""So many unknown servers are kept at once; forget some to make room."""
NEW_PER_HOUR = 200
SETTLED = timedelta(minutes=1)
MAX_FACTS = 64 * 1024  # bytes of one server's inventory, as JSON
_HOUR = timedelta(hours=1)


def note(store: Store, document: dict[str, Any], source: str) -> bool:
    """Keep what this server told. False where there was no room for it.

    document: as ironic-python-agent posts it. source: the address it called from.
    """
    inventory = inventory_of(document)
    key = _key(inventory)
    if not key:
        return False
    with store.write() as session:
        row = session.exec(
            select(Observation).where(Observation.source == RAMDISK, Observation.key == key)
        ).first()
        if row is None:
            if _full(session):
                return False
            row = Observation(source=RAMDISK, key=key)
            record(session, "observation.ramdisk", key, "an unknown server told its inventory")
        elif now() - row.seen_at < SETTLED:
            return True
        _tell(row, document, inventory, source)
        session.add(row)
    return True


def _key(inventory: Inventory) -> str:
    """Its first NIC: the serial number may be the make's placeholder."""
    return min((nic.mac for nic in inventory.nics), default="")


def _full(session: Session) -> bool:
    count = select(func.count()).select_from(Observation).where(Observation.source == RAMDISK)
    if session.exec(count).one() >= MOST:
        return True
    return session.exec(count.where(Observation.found_at > now() - _HOUR)).one() >= NEW_PER_HOUR


def _tell(row: Observation, document: dict[str, Any], inventory: Inventory, source: str) -> None:
    told: dict[str, Any] = document["inventory"]
    row.origin = source
    row.serial = inventory.serial if serial_key(inventory.serial) else ""
    row.bmc_mac = mac_key(inventory.bmc_mac)
    row.bmc_address = _address(told.get("bmc_address")) or _address(told.get("bmc_v6address"))
    row.macs = sorted(nic.mac for nic in inventory.nics)
    row.facts = _small(inventory)
    row.seen_at = now()


def _address(told: Any) -> str:  # noqa: ANN401
    return address_key(told.partition("/")[0]) if isinstance(told, str) else ""


def _small(inventory: Inventory) -> dict[str, Any]:
    """The inventory without what it does not say; without its drives and NICs if it is too long."""
    if len(inventory.model_dump_json(exclude_defaults=True)) > MAX_FACTS:
        inventory = inventory.model_copy(update={"drives": (), "nics": (), "ailing": ()})
    return inventory.model_dump(mode="json", exclude_defaults=True)
