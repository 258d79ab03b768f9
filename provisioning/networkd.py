"""A node's devices as systemd-networkd's files.

systemd.netdev(5), systemd.network(5), systemd.link(5) of systemd 252 and later. Their names sort
before those of cloud-init (10-cloud-init-*) and netplan (10-netplan-*): the first file that matches
an interface is the only one that counts. Who writes them tells networkd by `systemctl reload`, and
where that fails by `systemctl restart`: `networkctl reload`, and 252's own reload, need the bus,
which is not up when cloud-init's boot hooks run.
"""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import TYPE_CHECKING

from provisioning.targets import NodeFile

if TYPE_CHECKING:
    from provisioning.wires import Device, Stack

FOLDER = "/etc/systemd/network"
MODES = {"active-backup": "active-backup", "802.3ad": "802.3ad"}
Section = tuple[str, list[tuple[str, object]]]


def files(devices: Sequence["Device"], ntp: Sequence[str]) -> tuple[NodeFile, ...]:
    """All of them; the order is that of the devices."""
    made = [file for device in devices for file in _of(device, devices)]
    if ntp:
        clock = "".join(f"server {name} iburst\n" for name in ntp)
        made += [
            NodeFile("/etc/systemd/timesyncd.conf.d/seed.conf", f"[Time]\nNTP={' '.join(ntp)}\n"),
            NodeFile("/etc/chrony/sources.d/seed.sources", clock),
        ]
    return tuple(made)


def _of(device: "Device", devices: Sequence["Device"]) -> Iterator[NodeFile]:
    if device.kind == "physical" and device.name:
        yield _file(device, "link", [_match(device), ("Link", [("Name", device.name)])])
    if device.kind != "physical":
        yield _file(device, "netdev", _netdev(device))
    yield _file(device, "network", list(_network(device, devices)))


def _file(device: "Device", kind: str, sections: Sequence[Section]) -> NodeFile:
    text = "\n".join(
        f"[{name}]\n" + "".join(f"{key}={_word(value)}\n" for key, value in lines)
        for name, lines in sections
    )
    return NodeFile(f"{FOLDER}/05-seed-{device.id}.{kind}", text)


def _word(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _match(device: "Device") -> Section:
    """A NIC by the MAC it was made with: a member of a bond has the bond's."""
    if device.kind == "physical":
        return "Match", [("PermanentMACAddress", device.mac)]
    return "Match", [("Name", device.name)]


def _netdev(device: "Device") -> list[Section]:
    head: Section = (
        "NetDev",
        [
            ("Name", device.name), ("Kind", device.kind), ("MTUBytes", device.mtu),
            ("MACAddress", device.mac),
        ],
    )  # fmt: skip
    if device.kind == "vlan":
        return [head, ("VLAN", [("Id", device.vlan)])]
    if device.bond is None:
        return [head, ("Bridge", [("STP", False), ("ForwardDelaySec", 0)])]
    bond = device.bond
    lines: list[tuple[str, object]] = [("Mode", bond.mode), ("MIIMonitorSec", f"{bond.miimon}ms")]
    if bond.lacp_rate:
        lines.append(("LACPTransmitRate", bond.lacp_rate))
    if bond.xmit_hash_policy:
        lines.append(("TransmitHashPolicy", bond.xmit_hash_policy))
    return [head, ("Bond", lines)]


def _network(device: "Device", devices: Sequence["Device"]) -> Iterator[Section]:
    kinds = {d.id: d.kind for d in devices}
    yield _match(device)
    yield "Link", [("MTUBytes", device.mtu)]
    lines: list[tuple[str, object]] = []
    if device.master:
        lines.append(("Bond" if kinds[device.master] == "bond" else "Bridge", device.master))
    if device.primary:
        lines.append(("PrimarySlave", True))
    lines += [("VLAN", d.name) for d in devices if d.kind == "vlan" and d.over == device.id]
    if device.stack is None:
        yield "Network", [*lines, ("LinkLocalAddressing", False), ("IPv6AcceptRA", False)]
        return
    stack = device.stack
    yield "Network", [*lines, *_addressing(stack)]
    yield from _addresses(device, stack)
    for to, via in stack.routes:
        yield "Route", [("Destination", to), ("Gateway", via)]
    if stack.dhcp4:
        yield "DHCPv4", [
            ("ClientIdentifier", "mac"), ("UseHostname", False), ("UseGateway", stack.default),
        ]  # fmt: skip
    if stack.dhcp6:
        yield "DHCPv6", [("UseHostname", False)]
    if stack.dhcp6 or stack.slaac:
        yield "IPv6AcceptRA", [("UseGateway", stack.default)]


def _addressing(stack: "Stack") -> Iterator[tuple[str, object]]:
    if stack.dhcp4 or stack.dhcp6:
        both = stack.dhcp4 and stack.dhcp6
        yield "DHCP", "yes" if both else "ipv4" if stack.dhcp4 else "ipv6"
    yield "IPv6AcceptRA", stack.dhcp6 or stack.slaac
    if not (stack.addresses or stack.dhcp4 or stack.dhcp6 or stack.slaac):
        yield "LinkLocalAddressing", False  # whoever uses this wire brings its own addresses
    if stack.dns:
        yield "DNS", " ".join(stack.dns)
    if stack.domain:
        yield "Domains", stack.domain


def _addresses(device: "Device", stack: "Stack") -> Iterator[Section]:
    """A native network may be of a smaller MTU than the link it shares with VLANs."""
    for text in stack.addresses:
        smaller = stack.mtu < device.mtu
        yield "Address", [("Address", text), *([("AddPrefixRoute", False)] if smaller else [])]
        if smaller:
            net = ip_interface(text)
            yield "Route", [
                ("Destination", net.network), *_source(net), ("MTUBytes", stack.mtu),
            ]  # fmt: skip


def _source(interface: IPv4Interface | IPv6Interface) -> list[tuple[str, object]]:
    """As the kernel's own route has it. An IPv6 address may not be ready yet (RFC 4862, DAD)."""
    if interface.version == 6:
        return []
    return [("Scope", "link"), ("PreferredSource", interface.ip)]
