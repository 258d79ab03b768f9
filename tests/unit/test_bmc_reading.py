"""Reading what BMCs say: the wrong type is empty, circles end, nothing leads to another host."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from provisioning.bmc import _certificate, _ipmi_wire
from provisioning.bmc import _redfish_survey as reader
from provisioning.bmc._redfish_tree import Answer, Tree, Untold, path_of
from provisioning.bmc.ipmi import ASK
from provisioning.errors import BmcError
from provisioning.lenient import number, text

V1 = "/redfish/v1"


def link(path: str) -> dict[str, str]:
    return {"@odata.id": f"{V1}/{path}"}


def members(*paths: str) -> dict[str, Any]:
    return {"Members": [link(path) for path in paths]}


SERVICE: dict[str, Any] = {
    "Systems": members("Systems/1"),
    "Systems/1": {
        "SerialNumber": "S-1", "UUID": "AA-BB", "Manufacturer": "Maker", "Model": "M",
        "PowerState": "Off", "Status": {"HealthRollup": "Critical", "Health": "OK"},
        "Storage": link("Systems/1/Storage"), "EthernetInterfaces": link("Systems/1/Nics"),
        "Processors": link("Systems/1/Processors"), "Memory": link("Systems/1/Memory"),
        "Links": {"Chassis": [link("Chassis/1")], "ManagedBy": [link("Managers/1")]},
        "Boot": {"BootSourceOverrideMode": "UEFI", "BootSourceOverrideEnabled": "Disabled",
                 "BootSourceOverrideTarget@Redfish.AllowableValues": ["Pxe", "UefiHttp"]},
        "IndicatorLED": "Off",
    },
    "Systems/1/Storage": members("Systems/1/Storage/A"),
    "Systems/1/Storage/A": {"Drives": [link("Drives/0"), link("Drives/1"), link("Drives/2")]},
    "Drives/0": {"SerialNumber": "D0", "CapacityBytes": "960197124096", "MediaType": "SSD",
                 "Protocol": "NVMe", "Name": "Bay 0",
                 "Identifiers": [{"DurableNameFormat": "EUI", "DurableName": "0025385A01234567"}]},
    "Drives/1": {"SerialNumber": "D1", "CapacityBytes": 4000787030016, "MediaType": "HDD",
                 "Protocol": "SAS", "Name": "Bay 1", "Status": {"Health": "Warning"},
                 "Identifiers": [{"DurableNameFormat": "NAA", "DurableName": "5000C500A1B2C3D4"}]},
    "Drives/2": {"Status": {"State": "Absent"}},
    "Systems/1/Nics": members("Systems/1/Nics/1"),
    "Systems/1/Nics/1": {"MACAddress": "52-54-00-AA-BB-01", "Id": "eno1", "LinkStatus": "LinkUp"},
    "Systems/1/Processors": members("Cpu/1", "Cpu/2"),
    "Cpu/1": {"ProcessorType": "CPU", "Model": "C", "TotalThreads": 8, "InstructionSet": "x86-64"},
    "Cpu/2": {"ProcessorType": "CPU", "Model": "C", "TotalThreads": 8, "InstructionSet": "x86-64"},
    "Systems/1/Memory": members("Dimm/1", "Dimm/2"),
    "Dimm/1": {"CapacityMiB": 16384, "Name": "DIMM A1", "Status": {"Health": "Critical"}},
    "Dimm/2": {"CapacityMiB": 16384, "Name": "DIMM A2", "Status": {"Health": "OK"}},
    "Chassis/1": {"NetworkAdapters": link("Adapters"), "Power": link("Chassis/1/Power")},
    "Chassis/1/Power": {"PowerSupplies": [{"Name": "PSU 2", "Status": {"Health": "Critical"}}]},
    "Adapters": members("Adapters/1"),
    "Adapters/1": {"Model": "X710", "Ports": link("Adapters/1/Ports")},
    "Adapters/1/Ports": members("Adapters/1/Ports/1"),
    "Adapters/1/Ports/1": {
        "Id": "1", "CurrentSpeedGbps": 10,
        "Ethernet": {"AssociatedMACAddresses": ["52:54:00:AA:BB:01"], "LLDPReceive": {
            "SystemName": "leaf1", "PortId": "swp18", "ManagementVlanId": 4095}},
    },
    "Managers/1": {"FirmwareVersion": "7.1", "EthernetInterfaces": link("Managers/1/Nics")},
    "Managers/1/Nics": members("Managers/1/Nics/1"),
    "Managers/1/Nics/1": {"MACAddress": "D0:94:66:00:00:01"},
}  # fmt: skip
ROOT = {"Systems": link("Systems"), "Managers": link("Managers")}


class Service:
    """Answers out of a table, and counts how often each path was asked for."""

    def __init__(self, table: dict[str, Any] = SERVICE) -> None:
        self.table, self.asked = table, Counter[str]()

    def __call__(self, path: str) -> Answer:
        self.asked[path] += 1
        name = path.removeprefix(f"{V1}/")
        if name not in self.table:
            raise Untold("404", silent=True)
        return Answer(self.table[name], "GET, PATCH")


def survey(service: Service, root: dict[str, Any] = ROOT) -> tuple[Any, Any, Any]:
    tree = Tree(service)
    found = reader.server(tree, root, "192.0.2.1")
    who = reader.identity(tree, found)
    return who, reader.inventory(tree, found, who), reader.abilities(tree, root, found)


def test_a_whole_server() -> None:
    service = Service()
    who, seen, can = survey(service)
    assert (who.serial, who.system_uuid, who.firmware) == ("S-1", "aa-bb", "uefi")
    assert who.manager_mac == seen.bmc_mac == "d0:94:66:00:00:01"
    assert (seen.cpu_count, seen.cpu_threads, seen.cpu_arch) == (2, 16, "x86_64")
    assert (seen.memory_mib, seen.bmc_version, seen.power) == (32768, "7.1", "off")
    first, second = seen.drives
    assert (first.media, first.size_bytes) == ("nvme", 960197124096)
    assert first.wwn == "eui.0025385a01234567"
    assert (second.media, second.wwn) == ("hdd", "0x5000c500a1b2c3d4")
    (nic,) = seen.nics
    assert (nic.mac, nic.name, nic.model, nic.link) == ("52:54:00:aa:bb:01", "eno1", "X710", True)
    assert (nic.speed_mbps, nic.neighbours[0].port, nic.neighbours[0].vlan) == (
        10000, "swp18", None
    )  # fmt: skip
    assert seen.health == "Critical"
    assert set(seen.ailing) == {"Bay 1: Warning", "DIMM A1: Critical", "PSU 2: Critical"}
    assert (can.boot_targets, can.uefi_http, can.boot_once) == (("Pxe", "UefiHttp"), True, True)
    assert (can.led, can.lldp) == ("IndicatorLED", True)
    assert max(service.asked.values()) == 1, "nothing is asked for twice"


DELLS = {
    "SerialNumber": "CNBOARD1", "SKU": "ABC1234", "Manufacturer": "Dell Inc.",
    "EthernetInterfaces": link("Systems/1/Nics"), "Links": {"ManagedBy": [link("Managers/1")]},
}  # fmt: skip
SWITCH = {"SwitchConnectionID": "AA-BB-CC-00-00-01", "SwitchPortConnectionID": "Ethernet1/18"}


@pytest.mark.parametrize(
    ("told", "heard"),
    [
        ({"FQDD": "NIC.Slot.1-1-1"}, ("", "aa:bb:cc:00:00:01")),
        ({"FQDD": "NIC.Slot.1-1"}, ("", "aa:bb:cc:00:00:01")),
        ({"Id": "NIC.Slot.1-1-1", "StaleData": "NotStale"}, ("", "aa:bb:cc:00:00:01")),
        ({"FQDD": "NIC.Slot.1-1-1", "SwitchConnectionID": "leaf1"}, ("leaf1", "")),
        ({"FQDD": "NIC.Slot.1-1-1", "StaleData": "Stale"}, None),
        ({"FQDD": "NIC.Slot.1-1-1", "SwitchConnectionID": "No Link"}, None),
        ({"FQDD": "NIC.Slot.1-1-1", "SwitchPortConnectionID": "Not Available"}, None),
        ({"FQDD": "NIC.Slot.1-12-1"}, None),
        ({"FQDD": "iDRAC.Embedded.1"}, None),
        ({"FQDD": ["NIC.Slot.1-1-1"]}, None),
    ],
)
def test_what_dells_nics_hear(told: dict[str, Any], heard: tuple[str, str] | None) -> None:
    dell = {"DellSwitchConnectionCollection": link("Switches")}
    table = {
        "Systems": members("Systems/1"), "Systems/1": DELLS,
        "Systems/1/Nics": members("Nics/1"),
        "Nics/1": {"Id": "NIC.Slot.1-1-1", "MACAddress": "52:54:00:AA:BB:01"},
        "Managers/1": {"Links": {"Oem": {"Dell": dell}}},
        "Switches": members("Switches/1"), "Switches/1": {**SWITCH, **told},
    }  # fmt: skip
    who, seen, can = survey(Service(table))
    assert who.serial == seen.serial == "ABC1234"
    assert can.lldp
    found = [(n.switch, n.chassis) for n in seen.nics[0].neighbours]
    assert found == ([heard] if heard else [])


def test_a_dell_without_a_service_tag_keeps_its_serial_number() -> None:
    table = {"Systems": members("Systems/1"), "Systems/1": DELLS | {"SKU": "Not Available"}}
    assert survey(Service(table))[0].serial == "CNBOARD1"


def test_expanded_members_are_not_asked_for_again() -> None:
    inside = {"@odata.id": f"{V1}/Dimm/1", "CapacityMiB": 8}
    service = Service({"Memory?$expand=.": {"Members": [inside]}})
    tree = Tree(service, expand="$expand=.")
    assert tree.members(link("Memory")) == [inside]
    assert tree.read(inside) == inside
    assert service.asked.total() == 1


def test_a_bmc_that_does_not_know_expand_after_all_is_asked_plainly() -> None:
    service = Service({"A": members("A/1"), "A/1": {"x": 1}, "B": members("B/1"), "B/1": {"y": 2}})
    tree = Tree(service, expand="$expand=.")
    assert tree.members(link("A")) == [{"x": 1}]
    assert tree.members(link("B")) == [{"y": 2}]
    assert service.asked[f"{V1}/A?$expand=."] == 1
    assert f"{V1}/B?$expand=." not in service.asked
    assert tree.untold == []


def test_pages_are_read_and_circles_of_pages_end() -> None:
    table = {
        "A": members("A/1") | {"Members@odata.nextLink": f"{V1}/A?$skip=1"},
        "A?$skip=1": members("A/2", "A") | {"Members@odata.nextLink": f"{V1}/A"},
        "A/1": {"n": 1},
        "A/2": {"n": 2},
    }
    service = Service(table)
    assert [m.get("n") for m in Tree(service).members(link("A"))] == [1, 2]
    assert service.asked.total() <= 5


@pytest.mark.parametrize(
    "place",
    [
        "https://203.0.113.9/redfish/v1/Systems", "//203.0.113.9/redfish/v1", "http:redfish/v1",
        "redfish/v1", "/etc/passwd", "", None, 7, ["/redfish/v1"], "/redfish/v1/\r\nX: y",
        "https://[::1", "\x00", "/../redfish/v1",
    ],
)  # fmt: skip
def test_links_that_lead_elsewhere_are_none(place: object) -> None:
    assert path_of({"@odata.id": place}) == ""


@pytest.mark.parametrize("count", [0, 2])
def test_one_server_per_bmc(count: int) -> None:
    table = {"Systems": members(*(f"Systems/{n}" for n in range(count)))}
    with pytest.raises(BmcError, match=f"shows {count} systems, not 1"):
        reader.server(Tree(Service(table)), ROOT, "192.0.2.1")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
NAMES = sorted({key for body in SERVICE.values() for key in body})


@given(
    st.dictionaries(st.sampled_from(sorted(SERVICE)), st.dictionaries(st.sampled_from(NAMES), JSON))
)
def test_no_type_is_too_wrong(lies: dict[str, dict[str, Any]]) -> None:
    """Whatever stands in a property, a survey ends with an inventory or with one of our errors."""
    table = {path: {**body, **lies.get(path, {})} for path, body in SERVICE.items()}
    try:
        _, seen, _ = survey(Service(table))
    except BmcError:
        return
    assert seen.model_validate(seen.model_dump()) == seen


@pytest.mark.parametrize(
    ("value", "told"),
    [(True, 0), ("12", 12), ("12 GB", 0), (-1, 0), (float("nan"), 0), (float("inf"), 0), (None, 0),
     ({}, 0), (10**400, 0), (1.5, 1.5)],
)  # fmt: skip
def test_numbers(value: object, told: float) -> None:
    assert number(value) == told


def test_texts_are_cut_and_printable() -> None:
    assert text(" a\x1b[31m\nb ") == "a[31mb"
    assert len(text("x" * 10_000)) == 255
    assert text(["x"]) == text({}) == text(True) == text(None) == ""


# --- IPMI -----------------------------------------------------------------------------------------


def test_the_question_is_the_one_of_the_probe() -> None:
    assert _ipmi_wire.packet(0x38, bytes([0x8E, 4])) == ASK


@pytest.mark.parametrize(
    ("records", "suites"),
    [
        ("c0 03 01 41 81", (3,)),
        ("c0 00 00 40 80 c0 03 01 41 81 c0 11 03 44 81", (0, 3, 17)),
        ("c1 80 11 22 33 01 41 81 c0 11 03 44 81", (128, 17)),
        ("", ()),
        ("c0", ()),
        ("ff " * 40, ()),
    ],
)
def test_cipher_suite_records(records: str, suites: tuple[int, ...]) -> None:
    assert _ipmi_wire.suites_of(bytes.fromhex(records)) == suites


def test_weak_suites() -> None:
    assert any("cipher suite 0" in w for w in _ipmi_wire.weak_suites((0, 3, 17)))
    assert any("17 is not offered" in w for w in _ipmi_wire.weak_suites((3,)))
    assert _ipmi_wire.weak_suites((3, 17)) == _ipmi_wire.weak_suites(()) == ()


@pytest.mark.parametrize(
    ("said", "version", "words"),
    [
        ("0e 80 04 02 00 00 00 00", "2.0", ()),
        ("0e 81 05 02 00 00 00 00", "2.0", ("authentication type none", "empty password")),
        ("0e 04 06 00 00 00 00 00", "1.5", ("without a name",)),
        ("0e", "", ()),
    ],
)
def test_doors(said: str, version: str, words: tuple[str, ...]) -> None:
    doors = _ipmi_wire.doors_of(bytes.fromhex(said))
    assert doors.version == version
    assert len(doors.weak) == len(words)
    assert all(word in weak for word, weak in zip(words, doors.weak, strict=True))


@given(st.binary(max_size=64))
def test_no_packet_is_too_wrong(data: bytes) -> None:
    said = _ipmi_wire.answer_of(data, 0x38)
    assert said is None or isinstance(_ipmi_wire.doors_of(said).version, str)
    _ipmi_wire.suites_of(data)


# --- certificates ---------------------------------------------------------------------------------


def pem(days: int = 30, san: str = "192.0.2.1") -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "192.0.2.1")])
    at = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(at - timedelta(days=90))
        .not_valid_after(at + timedelta(days=days))
    )  # fmt: skip
    if san:
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(san))])
        builder = builder.add_extension(names, critical=False)
    signed = builder.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        (pem(), []),
        (pem(days=-1), ["expired on"]),
        (pem(san=""), ["common name only"]),
        (pem(san="192.0.2.9"), ["does not carry its address 192.0.2.1"]),
        ("no certificate", ["cannot be read"]),
    ],
    ids=["good", "expired", "cn-only", "another name", "garbage"],
)
def test_certificates(certificate: str, words: list[str]) -> None:
    told = _certificate.findings(certificate, "192.0.2.1")
    assert len(told) == len(words)
    assert all(word in finding for word, finding in zip(words, told, strict=True))
