"""Thousands of nodes that are `available`: in Ironic, and beside it in Seed's rows.

They are made straight in both databases: by its API Ironic takes 15 ms of CPU for each, and that is
another row of this bench. One node, with a port, is made by its API; the others are copies of it.
"""

import sqlite3
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID, uuid4

import httpx
from sqlalchemy import insert

from provisioning import classify
from provisioning.bmc import Identity
from provisioning.models import Address, Bmc, Credential, Hold, now
from provisioning.room import Slot
from provisioning.states import BmcGoal, Login
from provisioning.store import Store
from seed.host import netns
from tests.fakes.hardware import an_inventory

VERSION = {"X-OpenStack-Ironic-API-Version": "1.95"}
PER_RACK = 20


@dataclass(frozen=True)
class Server:
    """number: from 0; it says everything else."""

    number: int
    uuid: UUID

    @property
    def name(self) -> str:
        return f"sn-{self.number:05}"

    @property
    def address(self) -> str:
        return str(ip_address("10.128.0.0") + self.number)

    @property
    def identity(self) -> Identity:
        return identity_of(self.address)


def identity_of(address: str) -> Identity:
    number = int(ip_address(address)) - int(ip_address("10.128.0.0"))
    return Identity(
        serial=f"BENCH-{number}",
        system_uuid=f"00000000-0000-4000-8000-{number:012d}",
        vendor="Fake",
        model="F",
        macs=(f"52:54:01:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}",),
    )


def ironic_client(url: str, password: str) -> httpx.Client:
    return httpx.Client(
        base_url=f"{url}/v1", auth=("seed-reconciler", password), headers=VERSION, timeout=60.0,
        trust_env=False,
    )  # fmt: skip


def in_ironic(
    namespace: str, client: httpx.Client, database: Path, first: int, count: int, of_class: str
) -> list[Server]:
    """So many, numbered from `first`."""
    servers = [Server(n, uuid4()) for n in range(first, first + count)]

    def model() -> None:
        node = {
            "uuid": str(servers[0].uuid), "name": servers[0].name, "driver": "fake-hardware",
            "resource_class": of_class,
            "properties": {"vendor": "Fake", "capabilities": "boot_mode:uefi", "cpus": 64,
                           "memory_mb": 262144, "local_gb": 900, "cpu_arch": "x86_64"},
            "extra": {"seed": {"bmc": str(uuid4()), "serial": servers[0].identity.serial}},
        }  # fmt: skip
        client.post("/nodes", json=node).raise_for_status()
        port = {"node_uuid": node["uuid"], "address": servers[0].identity.macs[0]}
        client.post("/ports", json=port).raise_for_status()

    netns.call(namespace, model)
    with sqlite3.connect(database, timeout=60) as db:
        db.row_factory = sqlite3.Row
        ready = "provision_state='available', power_state='power off', inspection_finished_at=?"
        uuid = str(servers[0].uuid)
        moment = now().replace(tzinfo=None).isoformat(" ")
        db.execute(f"UPDATE nodes SET {ready} WHERE uuid=?", (moment, uuid))  # noqa: S608
        node = dict(db.execute("SELECT * FROM nodes WHERE uuid=?", (uuid,)).fetchone())
        port = dict(db.execute("SELECT * FROM ports WHERE node_id=?", (node.pop("id"),)).fetchone())
        del port["id"]
        for server in servers[1:]:
            made = _insert(db, "nodes", node | {"uuid": str(server.uuid), "name": server.name})
            mac = server.identity.macs[0]
            _insert(db, "ports", port | {"uuid": str(uuid4()), "address": mac, "node_id": made})
    db.close()
    return servers


def _insert(db: sqlite3.Connection, table: str, row: dict[str, object]) -> int:
    marks = ",".join("?" * len(row))
    cursor = db.execute(
        f"INSERT INTO {table} ({','.join(row)}) VALUES ({marks})",  # noqa: S608
        list(row.values()),
    )
    return int(cursor.lastrowid or 0)


def in_seed(store: Store, servers: list[Server], of_class: str) -> None:
    """Accepted, surveyed, provided, in racks of PER_RACK, with an address for the boot NIC."""
    login = Credential(name=f"bench-{of_class}", username="u", sealed=b"x")
    with store.write() as session:
        session.add(login)
        session.flush()
        inventory = an_inventory()
        for server in servers:
            who = server.identity
            bmc = Bmc(
                address=server.address, protocol="fake", login=Login.OK, credential_id=login.id,
                told_ironic=login.id, goal=BmcGoal.AVAILABLE, node_uuid=server.uuid,
                node_name=server.name, resource_class=of_class, serial=who.serial,
                system_uuid=who.system_uuid, macs=list(who.macs), accepted_by="bench",
                inventory=inventory, inventory_at=now(), ramdisk=inventory, ramdisk_at=now(),
                baseline=inventory, ramdisk_baseline=inventory, survey_at=now(),
                detail="available", labels={"team": f"t{server.number % 7}"},
            )  # fmt: skip
            session.add(bmc)
            classify.judge(session, bmc)
        holds = [{"node_uuid": s.uuid, "position": 0, "generation": 0} for s in servers]
        session.execute(insert(Hold), holds)
        session.execute(insert(Address), [_address(s) for s in servers])
        session.execute(insert(Slot), [_slot(s) for s in servers])


def _address(server: Server) -> dict[str, object]:
    address = str(ip_address("172.24.1.0") + server.number)
    return {
        "address": address, "network": "provisioning", "mac": server.identity.macs[0],
        "node_uuid": server.uuid,
    }  # fmt: skip


def _slot(server: Server) -> dict[str, object]:
    rack, unit = divmod(server.number, PER_RACK)
    return {
        "id": uuid4(), "site": "s", "row": "a", "rack": f"r{rack:03}", "unit": unit + 1,
        "height": 1, "serial": server.identity.serial, "bmc_mac": "", "resource_class": "",
        "technician": "", "feed": "AB"[unit % 2], "nics": [],
    }  # fmt: skip
