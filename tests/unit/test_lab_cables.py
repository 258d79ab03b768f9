"""Switches of the scenario, what they say, and re-plugging: no process is started."""

import csv
import json
import socket
from pathlib import Path

import pytest
import yaml
from scapy.contrib import lldp
from scapy.layers.l2 import Ether

from provisioning.errors import Conflict, Invalid, NotFound
from seed.lab import switch
from seed.lab.cabling import Cabling
from seed.lab.domain import tap
from seed.lab.lab import Lab
from seed.lab.lldp import frame
from seed.lab.scenario import Port, Scenario, load

ROOM = Path(__file__).resolve().parents[2] / "vagrant" / "room.yaml"


@pytest.fixture
def scenario() -> Scenario:
    return load(ROOM)


def test_the_room_has_four_servers_and_two_switches(scenario: Scenario) -> None:
    kinds = [(s.bmc.protocol, s.firmware, len(s.nics)) for s in scenario.servers]
    assert kinds == [
        ("redfish", "uefi", 2), ("redfish", "uefi", 2), ("ipmi", "bios", 1), ("redfish", "bios", 1),
    ]  # fmt: skip
    assert [(s.name, len(s.ports)) for s in scenario.switches] == [("leaf1", 5), ("leaf2", 3)]


def test_its_rack_plan_is_the_room_as_built(scenario: Scenario) -> None:
    rows = csv.DictReader(ROOM.with_suffix(".csv").read_text().splitlines())
    planned = {row["serial"]: [row["NIC1"], row["NIC2"]] for row in rows}
    assert planned == {s.serial: [*(n.port for n in s.nics), ""][:2] for s in scenario.servers}


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        pytest.param(
            ["servers", 0, "nics", 0, "port"], "leaf1:E9", "no port 'leaf1:E9'", id="port"
        ),
        pytest.param(["servers", 0, "nics", 0, "port"], "leaf9", "no port 'leaf9'", id="switch"),
        pytest.param(
            ["servers", 0, "nics", 0, "port"], "leaf1:Ethernet2", "Ethernet2 is used 2", id="taken"
        ),
        pytest.param(["switches", 1, "name"], "leaf1", "name leaf1 is used 2", id="two switches"),
        pytest.param(
            ["switches", 0, "ports", 4, "name"], "Ethernet1", "Ethernet1 is used 2", id="two ports"
        ),
        pytest.param(["switches", 0, "mac"], "52:54:00:22:00:0b", "MAC .* 2 times", id="MAC"),
        pytest.param(["switches", 0, "ports", 0, "vlan"], 4095, "vlan: Input", id="VLAN"),
        pytest.param(["switches", 0, "ports", 0, "name"], "E 1", "name: String", id="a blank"),
        pytest.param(["switches", 0, "ports"], [], "ports: Tuple", id="no port at all"),
    ],
)
def test_a_wrong_switch_says_where_and_why(
    tmp_path: Path, place: list[str | int], value: object, sentence: str
) -> None:
    content = yaml.safe_load(ROOM.read_text())
    at = content
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    path = tmp_path / "room.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(Invalid, match=sentence):
        load(path)


def test_a_frame_says_all_that_is_known_of_the_port(scenario: Scenario) -> None:
    leaf, port = scenario.ports["leaf2:Ethernet1"]
    told = Ether(frame(leaf, port))
    assert (told.dst, told.src, told.type) == ("01:80:c2:00:00:0e", leaf.mac, 0x88CC)
    assert told[lldp.LLDPDUChassisID].id == leaf.mac
    assert told[lldp.LLDPDUPortID].id == b"Ethernet1"
    assert told[lldp.LLDPDUPortDescription].description == b"r1u1 storage"
    assert told[lldp.LLDPDUSystemName].system_name == b"leaf2"
    assert told[lldp.LLDPDUSystemDescription].description == leaf.description.encode()
    own = told[lldp.LLDPDUGenericOrganisationSpecific]
    assert (own.org_code, own.subtype, own.data) == (0x0080C2, 1, (300).to_bytes(2, "big"))
    assert told[lldp.LLDPDUTimeToLive].ttl == 4 * switch.INTERVAL + 1
    assert bytes(told).endswith(b"\0\0")


def test_a_port_without_vlan_announces_none(scenario: Scenario) -> None:
    leaf = scenario.switches[0]
    told = Ether(frame(leaf, Port(name="et-0/0/0:1")))
    assert lldp.LLDPDUGenericOrganisationSpecific not in told
    assert told[lldp.LLDPDUPortID].id == b"et-0/0/0:1"


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shorter than `tmp_path`, which is named after the test: a socket must fit in."""
    return tmp_path_factory.mktemp("base")


@pytest.fixture
def cabling(scenario: Scenario, base: Path) -> Cabling:
    """Of a lab that has its directories and nothing that runs."""
    lab = Lab(scenario, base / "lab", base)
    lab.layout.make()
    return lab.cabling


def ends(cabling: Cabling) -> dict[str, str]:
    return {row["nic"]: row["port"] for row in cabling.rows() if row["nic"]}


def free(cabling: Cabling) -> list[str]:
    return [row["port"] for row in cabling.rows() if not row["nic"]]


AS_BUILT = {
    "server1:1": "leaf1:Ethernet1", "server1:2": "leaf2:Ethernet1",
    "server2:1": "leaf1:Ethernet2", "server2:2": "leaf2:Ethernet2",
    "server3:1": "leaf1:Ethernet3", "server4:1": "leaf1:Ethernet4",
}  # fmt: skip


def test_cables_are_moved_and_swapped_and_stay_so(cabling: Cabling) -> None:
    assert (ends(cabling), free(cabling)) == (AS_BUILT, ["leaf1:Ethernet5", "leaf2:Ethernet3"])
    cabling.move("server1:2", "leaf2:Ethernet3")
    cabling.swap("server1:1", "server1:2")
    cabling.swap_servers("server3", "server4")
    again = Cabling(cabling.scenario, cabling.layout, cabling.hypervisor)
    assert ends(again) == {
        **AS_BUILT,
        "server1:1": "leaf2:Ethernet3", "server1:2": "leaf1:Ethernet1",
        "server3:1": "leaf1:Ethernet4", "server4:1": "leaf1:Ethernet3",
    }  # fmt: skip
    assert free(again) == ["leaf1:Ethernet5", "leaf2:Ethernet1"]


def test_a_cable_may_be_plugged_in_where_it_is(cabling: Cabling) -> None:
    cabling.move("server1:1", "leaf1:Ethernet1")
    assert ends(cabling) == AS_BUILT


def test_an_unplugged_nic_has_no_link_and_hears_nothing(
    cabling: Cabling, scenario: Scenario
) -> None:
    nic = scenario.servers[2].nics[0]
    cabling.unplug("server3:1")
    assert cabling.unplugged() == [nic.mac]
    assert "leaf1:Ethernet3" in free(cabling)
    assert tap(scenario, scenario.servers[2], 0) not in switch.frames(cabling.layout.frames)
    files = [cabling.layout.domain_xml("server3", first) for first in ("network", "disk")]
    assert ['<link state="down" />' in file.read_text() for file in files] == [True, True]
    cabling.swap("server3:1", "server4:1")
    assert cabling.unplugged() == [scenario.servers[3].nics[0].mac]
    cabling.move("server4:1", "leaf1:Ethernet5")
    assert cabling.unplugged() == []
    assert "<link" not in files[0].read_text()


def test_switches_and_redfish_bmcs_are_told(cabling: Cabling, scenario: Scenario) -> None:
    cabling.move("server1:2", "leaf2:Ethernet3")
    first, third = scenario.servers[0], scenario.servers[2]
    frames = switch.frames(cabling.layout.frames)
    assert len(frames) == len(AS_BUILT)
    assert frames[tap(scenario, first, 1)] == frame(*scenario.ports["leaf2:Ethernet3"])
    told = json.loads((cabling.layout.bmc("server1") / "neighbours.json").read_text())
    assert told == {
        first.nics[0].mac: {"switch": "leaf1", "port": "Ethernet1", "vlan": 100},
        first.nics[1].mac: {"switch": "leaf2", "port": "Ethernet3", "vlan": 300},
    }
    assert not (cabling.layout.bmc(third.name) / "neighbours.json").exists(), "IPMI knows no LLDP"


@pytest.mark.parametrize(
    ("words", "error", "sentence", "remedy"),
    [
        pytest.param(
            ("move", "server1:1", "leaf1:Ethernet2"), Conflict, "has the cable of server2:1",
            "seed lab cable swap server1:1 server2:1", id="taken",
        ),
        pytest.param(("move", "server1:1", "leaf9:E1"), NotFound, "leaf9:E1", None, id="no port"),
        pytest.param(("move", "server1:3", "leaf1:Ethernet5"), NotFound, "server1:1 to server1:2",
                     None, id="no NIC"),
        pytest.param(("move", "server1:0", "leaf1:Ethernet5"), NotFound, "'server1:0'",
                     None, id="from 1"),
        pytest.param(("move", "server1", "leaf1:Ethernet5"), NotFound, "'server1'",
                     None, id="no number"),
        pytest.param(("swap", "server9:1", "server1:1"), NotFound, "server9", None, id="who"),
        pytest.param(("swap_servers", "server1", "server3"), Invalid, "2 NICs and server3 1",
                     "seed lab cable swap server1:1 server3:1", id="unlike"),
    ],
)  # fmt: skip
def test_what_cannot_be_plugged_changes_nothing(
    cabling: Cabling,
    words: tuple[str, str, str],
    error: type[Exception],
    sentence: str,
    remedy: str | None,
) -> None:
    verb, *rest = words
    with pytest.raises(error, match=sentence) as caught:
        getattr(cabling, verb)(*rest)
    assert remedy in (None, getattr(caught.value, "remedy", ""))
    assert ends(cabling) == AS_BUILT
    assert not cabling.layout.cabling.exists()


def test_a_lab_without_switches_has_no_cables_to_swap(base: Path) -> None:
    content = yaml.safe_load(ROOM.with_name("lab.yaml").read_text())
    del content["switches"]
    for server in content["servers"]:
        del server["nics"][0]["port"]
    scenario = Scenario.model_validate(content)
    cabling = Lab(scenario, base / "lab", base).cabling
    assert [row["port"] for row in cabling.rows()] == ["", ""]
    with pytest.raises(Invalid, match="none of these NICs"):
        cabling.swap("server1:1", "server2:1")
    with pytest.raises(Invalid, match="server1:1 is in no switch"):
        cabling.unplug("server1:1")


def test_an_interface_that_is_not_there_is_passed_over() -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        assert not switch.send(wire, "lab99n99", b"\0" * 60)
