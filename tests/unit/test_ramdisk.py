"""What a ramdisk told, in one shape; a liar's document harms nothing."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioning.hardware import Inventory, Neighbour
from provisioning.ramdisk import MAX_NICS, inventory_of

SWITCH = [
    [1, "04" + "0c42a1000001"],  # chassis: MAC
    [2, "05" + b"Ethernet1/18".hex()],  # port: interface name
    [3, "0078"],
    [4, b"r3u17 nic2".hex()],
    [5, b"leaf1".hex()],
    [127, "0080c2010064"],  # PVID 100
    [127, "00120f0405dc"],  # IEEE 802.3: another OUI
    [0, ""],
]
DOCUMENT = {
    "inventory": {
        "interfaces": [
            {
                "name": "enp1s0", "mac_address": "52:54:00:AA:00:01", "has_carrier": True,
                "vendor": "0x8086", "product": "0x1572", "speed_mbps": 10000, "lldp": None,
            },
            {"name": "enp2s0", "mac_address": "52:54:00:aa:00:02", "has_carrier": False},
            {"name": "bond", "mac_address": "52:54:00:aa:00:02"},
        ],
        "cpu": {"model_name": "EPYC", "count": 64, "socket_count": 2, "architecture": "x86_64"},
        "disks": [
            {"name": "/dev/nvme0n1", "size": 10**12, "rotational": False, "serial": "N1"},
            {"name": "/dev/sda", "size": 10**13, "rotational": True, "wwn": "0x5000", "model": "M"},
            {"name": "/dev/sdb", "size": 10**11, "rotational": False},
        ],
        "memory": {"total": 1, "physical_mb": 524288},
        "bmc_mac": "52-54-00-bb-00-01",
        "boot": {"current_boot_mode": "uefi"},
        "system_vendor": {
            "manufacturer": "Dell Inc.", "product_name": "R7525", "serial_number": " ABC1234 ",
            "firmware": {"version": "2.1"},
        },
    },
    "lldp_raw": {"enp1s0": SWITCH},
}  # fmt: skip


def test_a_server_in_one_shape() -> None:
    found = inventory_of(DOCUMENT)
    assert (found.vendor, found.model, found.serial) == ("Dell Inc.", "R7525", "ABC1234")
    assert (found.cpu_count, found.cpu_threads, found.cpu_arch) == (2, 64, "x86_64")
    assert (found.memory_mib, found.firmware, found.bios_version) == (524288, "uefi", "2.1")
    assert found.bmc_mac == "52:54:00:bb:00:01"
    assert [(d.name, d.media) for d in found.drives] == [
        ("/dev/nvme0n1", "nvme"), ("/dev/sda", "hdd"), ("/dev/sdb", "ssd")
    ]  # fmt: skip
    first, second = found.nics
    assert (first.mac, first.link, first.speed_mbps) == ("52:54:00:aa:00:01", True, 10000)
    assert (second.link, second.neighbours) == (False, ())
    assert first.neighbours == (
        Neighbour(
            switch="leaf1", chassis="0c:42:a1:00:00:01", port="Ethernet1/18",
            description="r3u17 nic2", vlan=100,
        ),
    )  # fmt: skip


def test_ironic_keeps_lldp_apart() -> None:
    raw = {"lldp_raw": DOCUMENT["lldp_raw"]}
    kept = {"inventory": DOCUMENT["inventory"], "plugin_data": raw}
    assert inventory_of(kept) == inventory_of(DOCUMENT)


@pytest.mark.parametrize(
    ("tlvs", "switch", "port"),
    [
        ([[1, "040c42a1000001"], [2, "030c42a1000002"]], "0c:42:a1:00:00:01", "0c:42:a1:00:00:02"),
        ([[1, "0501c0000201"], [2, "0401c0000202"]], "192.0.2.1", "192.0.2.2"),
        ([[1, "0705"], [2, "07" + b"18".hex()]], "", "18"),
        ([[5, b"a\x00\nb\xff".hex()], [5, b"later".hex()]], "a b\ufffd", ""),
        ([[1, ""], [2, "zz"], [2], "x", [True, "04"], [5, "41" * 600]], "", ""),
    ],
)
def test_names_of_switches_and_ports(tlvs: object, switch: str, port: str) -> None:
    nic = {"name": "e", "mac_address": "52:54:00:aa:00:01", "lldp": tlvs}
    neighbours = inventory_of({"inventory": {"interfaces": [nic]}}).nics[0].neighbours
    assert neighbours == ((Neighbour(switch=switch, port=port),) if switch or port else ())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    return [path, *(p for key, item in inner for p in places(item, (*path, key)))]


@settings(deadline=None)  # a busy machine is no failure
@given(st.sampled_from(places(DOCUMENT)), JSON)
def test_whatever_is_told_it_never_raises(path: tuple[object, ...], lie: object) -> None:
    """A right document with a lie at one place: the rest is still read, the answer is valid."""
    told = json.loads(json.dumps(DOCUMENT))
    if not path:
        told = lie
    else:
        at = told
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = lie
    found = inventory_of(told)
    assert Inventory.model_validate_json(found.model_dump_json()) == found


def test_too_much_is_cut() -> None:
    nics = [{"mac_address": f"52:54:00:00:{n // 256:02x}:{n % 256:02x}"} for n in range(300)]
    drives = [{"name": "x" * 9000, "size": -1}] * 700
    found = inventory_of({"inventory": {"interfaces": nics, "disks": drives}})
    assert (len(found.nics), len(found.drives), len(found.drives[0].name)) == (MAX_NICS, 512, 255)
