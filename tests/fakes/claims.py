"""An active claim as our rows have it once its servers proved themselves."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Interface
from typing import Any
from uuid import UUID, uuid5

from sqlmodel import Session, select

from provisioning.hardware import Drive, Inventory, Neighbour, Nic
from provisioning.models import Address, Bmc, Claim, Hold, Order
from provisioning.room import Slot
from provisioning.sight import FACTS, Sight
from provisioning.states import BmcGoal, ClaimState, OrderKind
from provisioning.store import Store

SPACE = UUID("00000000-0000-4000-8000-000000000000")
THEN = datetime(2026, 11, 20, 12, tzinfo=UTC)
NETWORKS = {"provisioning": IPv4Interface("172.22.0.1/24")}
KEYS = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHhoUTfGdvtnGTYKN1q4AF1LvxRmdOf5mZAvqD7vHyTg",
)
SEEN: dict[str, Any] = dict.fromkeys(FACTS, "") | {
    "provision_state": "active", "power_state": "power on", "resource_class": "baremetal",
    "driver": "redfish", "maintenance": False, "inspected": True, "properties": {}, "extra": {},
    "traits": ["CUSTOM_NVME"],
}  # fmt: skip
"""A node as Ironic tells it while it is handed out."""
BMC_PASSWORD = "a-bmc-password"


def an_active_claim(store: Store, name: str = "web", count: int = 2, **facts: Any) -> UUID:
    """Its id. Its nodes are numbered on from those that are there."""
    with store.write() as session:
        facts = {"image": "debian", "project": "default", "state": ClaimState.ACTIVE} | facts
        claim = Claim(
            id=uuid5(SPACE, f"{facts['project']}/{name}"), name=name, count=count,
            created_at=THEN, since=THEN, **facts,
        )  # fmt: skip
        session.add(claim)
        session.flush()
        first = len(session.exec(select(Hold)).all())
        for position in range(count):
            _node(session, claim, position, first + position + 1)
        return claim.id


def _node(session: Session, claim: Claim, position: int, number: int) -> None:
    uuid = uuid5(SPACE, f"node {number}")
    mac, second = (f"52:54:00:00:{number:02x}:0{n}" for n in (1, 2))
    session.add_all(
        [
            a_bmc(number, uuid, mac, second),
            Hold(node_uuid=uuid, claim_id=claim.id, position=position, generation=1),
            Address(address=f"172.22.0.{9 + number}", mac=mac, node_uuid=uuid),
            Slot(
                site="ams", row="b", rack=f"r{3 + number % 2}", unit=16 + number,
                serial=f"sn-{number}", feed="AB"[number % 2],
                nics=[
                    {"nic": "NIC1", "switch": "leaf1", "port": str(16 + number)},
                    {"nic": "NIC2", "switch": "leaf2", "port": str(16 + number)},
                ],
            ),
            Sight(node_uuid=uuid, facts=SEEN | {"name": f"sn-{number}"}, seen_at=THEN),
            Order(
                node_uuid=uuid, kind=OrderKind.DEPLOY, generation=1, opened_at=THEN,
                ironic_done_at=THEN + timedelta(seconds=60), closed_at=THEN + timedelta(seconds=90),
                proof=a_proof(claim.hostname(position), number, mac, second),
                proof_at=THEN + timedelta(seconds=80),
            ),
        ]
    )  # fmt: skip


def a_bmc(number: int, uuid: UUID, mac: str, second: str) -> Bmc:
    """Its ramdisk heard the switch at the first NIC, under the switch's own names."""
    heard = Neighbour(switch="leaf1.example.net", port=f"Ethernet{16 + number}")
    manager = f"52:54:00:0b:0c:{number:02x}"
    return Bmc(
        address=f"192.0.2.{number}", protocol="redfish", goal=BmcGoal.AVAILABLE, node_uuid=uuid,
        node_name=f"sn-{number}", serial=f"SN-{number}", manager_mac=manager,
        labels={"role": "db"} if number == 1 else {},
        inventory=Inventory(
            cpu_threads=32, memory_mib=65536, bmc_mac=manager, power="on",
            nics=(
                Nic(mac=mac, name="NIC.Slot.1-1-1"), Nic(mac=second, name="NIC.Slot.1-2-1"),
                Nic(mac=manager, name="USB"),
            ),
        ).model_dump(mode="json"),
        inventory_at=THEN,
        ramdisk=Inventory(
            cpu_arch="x86_64", cpu_threads=32, memory_mib=65536, bmc_mac=manager,
            nics=(Nic(mac=mac, name="eno1", neighbours=(heard,)), Nic(mac=second, name="eno2")),
            drives=(Drive(name="/dev/sda", serial="D-1", size_bytes=10**10),),
        ).model_dump(mode="json"),
        ramdisk_at=THEN,
    )  # fmt: skip


def a_proof(hostname: str, number: int, mac: str, second: str) -> dict[str, Any]:
    return {
        "hostname": hostname,
        "nics": [
            {"name": "enp1s0", "mac": mac, "addresses": [f"172.22.0.{9 + number}/24"]},
            {"name": "enp2s0", "mac": second, "addresses": []},
            {"name": "usb0", "mac": f"52:54:00:0b:0c:{number:02x}", "addresses": []},
        ],
        "disks": [
            {"name": "sda", "serial": "D-1", "wwn": "0x5001", "size_bytes": 480 * 2**30},
            {"name": "nvme0n1", "serial": "D-2", "wwn": None, "size_bytes": 2**40, "root": True},
        ],
        "cloud_init": {"status": "done", "errors": []},
        "boot_id": "b-1",
        "host_keys": [f"{KEYS[number % 2]} root@{hostname}"],
        "kernel": "6.12",
    }
