"""One server is accepted once: by its serial, UUID, BMC MAC and NIC MACs, at whatever address."""

from collections.abc import Iterator
from typing import Any

from sqlmodel import Session, select

from provisioning.errors import Conflict
from provisioning.identity import mac_key, serial_key, uuid_key
from provisioning.models import Bmc
from provisioning.states import BmcGoal

_COLUMNS: tuple[Any, ...] = (
    Bmc.address, Bmc.node_name, Bmc.serial, Bmc.system_uuid, Bmc.manager_mac, Bmc.macs, Bmc.vendor,
    Bmc.model,
)  # fmt: skip
_CALLED = {"serial": "serial number", "uuid": "system UUID", "bmc": "BMC MAC", "nic": "NIC MAC"}


def refuse(session: Session, bmc: Bmc, name: str) -> None:
    """Raises Conflict, with both records, if `bmc` or its future name is accepted already."""
    mine = dict(_words(bmc))
    rows = select(*_COLUMNS).where(Bmc.goal != BmcGoal.OBSERVED, Bmc.id != bmc.id)
    for other in session.exec(rows):
        if other.node_name == name:
            raise Conflict(
                f"the name {name} belongs to the server of BMC {other.address}",
                f"Choose another: `seed bmc accept {bmc.address} --name NAME`.",
            )
        shared = next((w for w in _words(other) if w[0] in mine), None)
        if shared or (other.serial, other.system_uuid) == (bmc.serial, bmc.system_uuid):
            (kind, _), value = shared or (("serial", ""), bmc.serial)
            raise Conflict(
                f"BMC {bmc.address} shows the server {other.node_name}: "
                f"both have the {_CALLED[kind]} {value}. "
                f"Here {_record(bmc)}; {other.node_name} is {_record(other)}",
                f"One box with two BMC addresses? Then forget the old one: `seed bmc forget "
                f"{other.address}`. Two boxes? Correct the one that is wrong in its BMC.",
            )


def _words(row: Any) -> Iterator[tuple[tuple[str, str], str]]:  # noqa: ANN401
    """((kind, key), as told) of what means something."""
    told = (
        ("serial", serial_key(row.serial), row.serial),
        ("uuid", uuid_key(row.system_uuid), row.system_uuid),
        ("bmc", mac_key(row.manager_mac), row.manager_mac),
        *(("nic", mac_key(m), m) for m in row.macs),
    )
    return (((kind, key), word) for kind, key, word in told if key)


def _record(row: Any) -> str:  # noqa: ANN401
    model = f"{row.vendor} {row.model}".strip() or "not told"
    return f"address {row.address}, serial {row.serial or 'not told'}, model {model}"
