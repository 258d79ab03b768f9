"""A mixed-up room of emulated servers, told by their BMCs with the power off: the list names
exactly what was done to it, and is empty when that is undone.
"""

import asyncio
import re
from pathlib import Path

from pydantic import SecretStr
from sqlmodel import select

import provisioning.bmc
from provisioning import plugins, rack_file, racks, survey
from provisioning.bmc import Access
from provisioning.models import Bmc
from provisioning.store import Store
from provisioning.survey import Survey
from seed.host import netns
from seed.lab.lab import stored
from seed.lab.state import Layout
from tests.fakes.store import new_store
from tests.integration.test_lab_cables import NAMESPACE, cli, lab_dir

__all__ = ["lab_dir"]  # the fixture: four servers that stay off
PLAN = """rack,unit,serial,NIC1,NIC2
r1,1,LAB-0001,leaf1:1,leaf2:1
r1,2,LAB-0002,leaf1:2,leaf2:2
r1,3,LAB-0003,leaf1:3,
r1,4,LAB-0004,leaf1:4,
"""


def look(protocol: str, address: str, password: str) -> Survey:
    bmc = plugins.load(provisioning.bmc)[protocol]
    contact = asyncio.run(bmc.probe(address, 10.0))
    assert contact is not None
    return bmc.survey(contact, Access("admin", SecretStr(password)), 100.0)


def work(store: Store, lab_dir: Path, plan: str) -> tuple[list[str], list[str]]:
    """Ask every BMC anew, and compare: what is to be done, and what nobody knows."""
    password = (lab_dir / "bmc-password").read_text().strip()
    told = {}
    for server in stored(lab_dir).servers:
        protocol, address = server.bmc.protocol, str(server.bmc.address)
        told[address] = (
            protocol,
            netns.call(NAMESPACE, lambda p=protocol, a=address: look(p, a, password)),
        )
    with store.write() as session:
        planned = rack_file.read(plan.encode(), "table")
        racks.put(session, planned, everything=False, removes=None, who="test")
        for address, (protocol, found) in told.items():
            row = session.exec(select(Bmc).where(Bmc.address == address)).first()
            row = row or Bmc(address=address, protocol=protocol)
            session.add(row)
            survey.note(session, row, found)
    with store.read() as session:
        lines = racks.room_and_servers(session)[0].lines
    doing = [line.text for line in lines if not line.hint]
    return doing, [line.text for line in lines if line.hint]


def test_other_parts_are_told_by_the_bmc_and_stay(lab_dir: Path) -> None:
    def told() -> tuple[int, list[str]]:
        password = (lab_dir / "bmc-password").read_text().strip()
        seen = netns.call(NAMESPACE, lambda: look("redfish", "172.22.1.11", password)).inventory
        return seen.memory_mib, [drive.serial for drive in seen.drives]

    disk = Layout(lab_dir).disk("server1", 0)
    disk.write_bytes(b"somebody's data")
    change = ("server", "change", "server1")
    cli(lab_dir, *change, "--memory-mib", "2048", "--disk", "1:LAB-0001-D9")
    assert told() == (2048, ["LAB-0001-D9"])
    assert disk.read_bytes()[:4] == b"QFI\xfb", "the new disk is blank"
    cli(lab_dir, *change, "--memory-mib", "1024")
    cli(lab_dir, "up")
    assert told() == (1024, ["LAB-0001-D9"]), "each part stays until it is changed"
    cli(lab_dir, "power", "server1", "on")
    said = cli(lab_dir, *change, "--memory-mib", "2048", expect=1)
    assert "server1 is on" in said
    assert "seed lab power server1 off" in said
    cli(lab_dir, "power", "server1", "off")
    refused = {"1:LAB-0002-D0": "LAB-0002-D0 is used 2 times", "2:X": "1 disks, no 2", "1": "'1'"}
    for words, why in refused.items():
        assert why in cli(lab_dir, *change, "--disk", words, expect=1)
    assert told() == (1024, ["LAB-0001-D9"]), "a refusal changes nothing"


def test_a_mixed_up_room_is_named_and_comes_right(lab_dir: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path)
    doing, hints = work(store, lab_dir, PLAN)
    assert doing == []
    assert hints == ["r1u3: no LLDP heard at NIC1"], "an IPMI BMC tells no NIC"
    cli(lab_dir, "server", "swap", "server1", "server2")
    cli(lab_dir, "cable", "move", "server1:2", "leaf2:Ethernet3")
    doing, again = work(store, lab_dir, re.sub("LAB-0004", "LAB-9999", PLAN))
    assert doing == [
        "r1u1 and r1u2 are swapped",
        "move cable NIC2 of r1u2 from leaf2:Ethernet3 to leaf2:2",
        "r1u4 holds serial LAB-0004, serial LAB-9999 expected",
    ]
    assert again == hints
    cli(lab_dir, "cable", "move", "server1:2", "leaf2:Ethernet2")
    cli(lab_dir, "server", "swap", "server1", "server2")
    assert work(store, lab_dir, PLAN) == ([], hints)
