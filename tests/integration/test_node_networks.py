"""A server that really boots comes up on its wires as its layout says: bond, VLANs, bridge, names.

The published Debian image, cloud-init's own reading of network_data.json and systemd-networkd.
"""

import json
from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Any
from uuid import uuid4

import pytest

from provisioning import on_node
from provisioning.layout_doc import LayoutDoc, check
from provisioning.layouts import NodeNic, NodeNics
from provisioning.models import Address
from provisioning.network_doc import BootNet, NetworkDoc
from provisioning.states import AddressKind
from provisioning.targets import Seat
from provisioning.wires import Wires, render
from tests.fakes.node_vm import NodeVm, config_drive, newest_debian, node_vm

MACS = ("52:54:00:c0:00:01", "52:54:00:c0:00:02", "52:54:00:c0:00:03")
NODE = uuid4()
NETS = {
    doc.name: doc
    for doc in map(
        NetworkDoc.model_validate,
        [
            {
                "name": "api", "role": "api", "vlan": 30, "dns": ["10.30.0.53"],
                "ntp": ["10.30.0.123"], "domain": "lab.example",
                "subnets": [
                    {"cidr": "10.30.0.0/24", "gateway": "10.30.0.1", "pools": "10.30.0.5"},
                    {"cidr": "fd00:30::/64", "gateway": "fd00:30::1", "pools": "fd00:30::5"},
                ],
            },
            {
                "name": "storage", "role": "storage", "vlan": 40, "mtu": 9000,
                "subnets": [
                    {
                        "cidr": "10.40.0.0/24", "pools": "10.40.0.5",
                        "routes": [{"to": "10.41.0.0/16", "via": "10.40.0.254"}],
                    }
                ],
            },
            {
                "name": "tenant", "role": "tunnel", "vlan": 50,
                "subnets": [{"cidr": "10.50.0.0/24", "pools": "10.50.0.5"}],
            },
            {
                "name": "plain", "role": "external",
                "subnets": [{"cidr": "10.60.0.0/24", "pools": "10.60.0.5"}],
            },
        ],
    )
}  # fmt: skip
LAYOUT = LayoutDoc.model_validate(
    {
        "name": "bonded",
        "nics": {"up": {"count": 2, "boot": True}, "lone": {"names": ["stor0"]}},
        "bonds": [{"name": "bond0", "nics": "up", "mode": "active-backup", "primary": "up0"}],
        "networks": [
            {"network": "api", "link": "bond0"},
            {"network": "storage", "link": "bond0"},
            {"network": "tenant", "link": "bond0", "bridge": "br-tun"},
            {"network": "plain", "link": "lone"},
        ],
    }
)
NICS = NodeNics(tuple(NodeNic(mac, f"enp0s{n}", boot=n == 0) for n, mac in enumerate(MACS)))
BOOT = Address(address="172.22.0.50", mac=MACS[0], node_uuid=NODE)


def wires() -> Wires:
    check(LAYOUT, NETS)
    given = [
        Address(
            address=str(next(subnet.free())), network=net.name, kind=AddressKind.NODE,
            node_uuid=NODE,
        )
        for net in NETS.values()
        for subnet in net.subnets
    ]  # fmt: skip
    boot_net = BootNet(IPv4Network("172.22.0.0/24"))
    return render(LAYOUT, NETS, NICS, BOOT, boot_net, given)


@pytest.fixture(scope="module")
def vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeVm]:
    image = newest_debian()
    if image is None:
        pytest.skip("no Debian image was built yet: make images")
    folder = tmp_path_factory.mktemp("vm")
    made = wires()
    seat = Seat(str(NODE), "wired", made.network_data, "#!/bin/sh\n", files=made.files)
    config_drive(folder, made.network_data, on_node.vendor_data(seat))
    with node_vm(folder, image, BOOT.address, "172.22.0.1/24", MACS) as machine:
        print(f"\nup after {machine.wait():.0f} s")
        yield machine


@pytest.fixture(scope="module")
def seen(vm: NodeVm) -> dict[str, dict[str, Any]]:
    return {link["ifname"]: link for link in json.loads(vm.ssh("ip -j -d address show"))}


def test_names_are_pinned_by_mac(seen: dict[str, dict[str, Any]]) -> None:
    own = {name: link.get("permaddr", link["address"]) for name, link in seen.items()}
    assert (own["up0"], own["up1"], own["stor0"]) == MACS


def test_the_bond_has_its_members_its_mode_and_the_address_it_booted_with(
    vm: NodeVm, seen: dict[str, dict[str, Any]]
) -> None:
    bond = seen["bond0"]
    assert addresses(bond) == {"172.22.0.50/24"}
    assert (bond["mtu"], bond["address"]) == (9000, MACS[0])
    info = bond["linkinfo"]["info_data"]
    assert (info["mode"], info["miimon"], info["primary"]) == ("active-backup", 100, "up0")
    members = {name for name, link in seen.items() if link.get("master") == "bond0"}
    assert members == {"up0", "up1"}
    assert "172.22.0.0/24 dev bond0 proto static scope link src 172.22.0.50 mtu 1500" in " ".join(
        vm.ssh("ip route show 172.22.0.0/24").split()
    )


def test_vlans_have_their_addresses_of_both_kinds_and_their_mtu(
    seen: dict[str, dict[str, Any]],
) -> None:
    assert addresses(seen["bond0.30"]) == {"10.30.0.5/24", "fd00:30::5/64"}
    assert addresses(seen["bond0.40"]) == {"10.40.0.5/24"}
    assert (seen["bond0.30"]["mtu"], seen["bond0.40"]["mtu"]) == (1500, 9000)
    assert seen["bond0.30"]["linkinfo"]["info_data"]["id"] == 30
    assert seen["bond0.30"]["link"] == "bond0"


def test_a_bridge_has_the_vlan_as_its_port_and_the_address(
    seen: dict[str, dict[str, Any]],
) -> None:
    assert seen["bond0.50"]["master"] == "br-tun"
    assert addresses(seen["br-tun"]) == {"10.50.0.5/24"}
    assert addresses(seen["bond0.50"]) == set()
    assert addresses(seen["stor0"]) == {"10.60.0.5/24"}


def test_routes_and_servers_are_as_asked(vm: NodeVm) -> None:
    told = vm.ssh("ip route; ip -6 route; resolvectl dns bond0.30; resolvectl domain bond0.30")
    assert "default via 10.30.0.1 dev bond0.30" in told
    assert "default via fd00:30::1 dev bond0.30" in told
    assert "10.41.0.0/16 via 10.40.0.254 dev bond0.40" in told
    assert "10.30.0.53" in told
    assert "lab.example" in told
    clock = vm.ssh("systemd-analyze cat-config systemd/timesyncd.conf")
    assert "NTP=10.30.0.123" in clock


def addresses(link: dict[str, Any]) -> set[str]:
    """Without those that are of the link alone."""
    return {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"}
