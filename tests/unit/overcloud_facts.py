"""Overclouds that installers' tests render: one of each shape, with made-up but whole facts."""

from dataclasses import replace

from provisioning.installers import NetFacts, NodeFacts, OvercloudFacts, Role, Use, Wire
from provisioning.kinds import DataDisk
from provisioning.seats import HandOutNic

NETWORKS: dict[Use, NetFacts] = {
    "api": NetFacts(
        "api", 20, 1500, "10.20.0.0/24", "10.20.0.1", ("10.20.0.10-10.20.0.99",),
        {"cloud": "10.20.0.5"}, ("10.20.0.2",), ("10.20.0.3",), "example.com",
    ),
    "tunnel": NetFacts("tunnel", 30, 9000, "10.30.0.0/24", "", ("10.30.0.10-10.30.0.99",)),
    "storage": NetFacts("storage", 40, 9000, "10.40.0.0/24", "", ("10.40.0.10-10.40.0.99",)),
    "external": NetFacts("external", 0, 1500, "203.0.113.0/24", "203.0.113.1"),
}  # fmt: skip


def node(number: int, name: str, roles: tuple[Role, ...]) -> NodeFacts:
    """Two NICs in a bond for all of Seed's networks, one NIC for the outside."""
    last = number + 10
    bonded: tuple[Use, ...] = ("api", "tunnel", "storage")
    wires = {
        use: Wire(
            f"bond0.{NETWORKS[use].vlan}", f"10.{NETWORKS[use].vlan}.0.{last}/24", "bond0", "",
            True, ("up0", "up1"), "802.3ad",
        )
        for use in bonded
    }  # fmt: skip
    wires["external"] = Wire("out", link="out", nics=("out",))
    nics = [
        HandOutNic(
            name=nic, mac=f"52:54:00:00:{number:02x}:{at:02x}", network=net, switch="sw1",
            port=f"swp{number * 4 + at}",
        )
        for at, (nic, net) in enumerate((("up0", "provisioning"), ("up1", ""), ("out", "")))
    ]  # fmt: skip
    return NodeFacts(
        name=name, roles=roles, node_uuid=f"00000000-0000-4000-8000-{number:012d}",
        node_name=f"r1u{number}", reached=f"192.0.2.{last}",
        host_keys=(f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{number:043d}",),
        wires=wires, nics=tuple(nics), cpus=32, memory_mib=131072, cpu_arch="x86_64",
        site="dc1", row="a", rack=f"r{1 + number % 2}", unit=number + 1, feed="A",
        resource_class="baremetal",
        disks=(DataDisk("ceph-osd", f"0x5000c500000000{number:02x}", f"S{number}", 4 * 10**12),)
        if "storage" in roles else (),
    )  # fmt: skip


def small() -> OvercloudFacts:
    """A control node, which is the network and monitoring node too, and a compute node."""
    return OvercloudFacts(
        "0123456789ab", "cloud", "", {"internal": "10.20.0.5", "external": "10.20.0.5"}, NETWORKS,
        (
            node(0, "cloud-control-0", ("control", "network", "monitoring")),
            node(1, "cloud-compute-0", ("compute",)),
        ), dhcp=("192.0.2.10-192.0.2.250",),
    )  # fmt: skip


def large() -> OvercloudFacts:
    """Nodes for each role: three of control, two of network and compute, three of storage."""
    wanted: list[tuple[str, Role]] = [
        *(("control", "control"),) * 3, *(("network", "network"),) * 2,
        *(("compute", "compute"),) * 2, *(("storage", "storage"),) * 3,
        ("monitoring", "monitoring"),
    ]  # fmt: skip
    counts: dict[str, int] = {}
    nodes = []
    for number, (group, role) in enumerate(wanted):
        nodes.append(node(number, f"cloud-{group}-{counts.get(group, 0)}", (role,)))
        counts[group] = counts.get(group, 0) + 1
    return replace(
        small(), nodes=tuple(nodes), services=("horizon",), registry="registry.example.com:5000",
    )  # fmt: skip
