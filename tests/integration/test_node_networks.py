"""A server that really boots comes up on its wires as its layout says: bond, VLANs, bridge, names.

The published Debian image, cloud-init's own reading of network_data.json and systemd-networkd.
"""

import json
from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Any
from uuid import uuid4

import pytest

from provisioning.layout_doc import LayoutDoc, check
from provisioning.layouts import NodeNic, NodeNics
from provisioning.models import Address
from provisioning.network_doc import BootNet, NetworkDoc
from provisioning.networkd import boot_hook
from provisioning.states import AddressKind
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
    config_drive(folder, made.network_data, [boot_hook(made.files)])
    with node_vm(folder, image, BOOT.address, "172.22.0.1/24", MACS) as machine:
        print(f"\nup after {machine.wait():.0f} s")
        yield machine


@pytest.fixture(scope="module")
def seen(vm: NodeVm) -> dict[str, dict[str, Any]]:
    return {link["ifname"]: link for link in json.loads(vm.ssh("ip -j -d address show"))}
