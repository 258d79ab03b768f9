"""One node's network, rendered from its layout and its own NICs.

network_data.json says what OpenStack's format can: cloud-init reads it before the network is up,
and its netplan and NetworkManager renderers do all of it. Its networkd renderer, which Debian's
image has, writes neither bonds nor VLANs, and no renderer does bridges from it: so the whole is
said a second time as systemd-networkd's own files (networkd.py), which come before cloud-init's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from provisioning import networkd
from provisioning.devices import Device, Stack
from provisioning.errors import Conflict
from provisioning.ip_text import an_ip
from provisioning.layout_doc import (
    Attachment,
    LayoutDoc,
    default_of,
    mtu_of,
    tagged,
    vlan_name,
)  # fmt: skip
from provisioning.layouts import NodeNics, fill, lacks
from provisioning.models import Address
from provisioning.network_data import network_data
from provisioning.network_doc import WIRE, BootNet, NetworkDoc
from provisioning.states import AddressKind
from provisioning.targets import NodeFile

DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}


@dataclass(frozen=True, slots=True)
class Wires:
    """network_data: for cloud-init. files: for systemd-networkd and what keeps the clock.

    links, routes, dns, ntp: what the node's proof must show; absent keys are not checked.
    """

    network_data: dict[str, Any]
    files: tuple[NodeFile, ...] = ()
    links: list[dict[str, Any]] = field(default_factory=list)
    routes: list[dict[str, str]] = field(default_factory=list)
    dns: list[str] = field(default_factory=list)
    ntp: list[str] = field(default_factory=list)


def render(
    layout: LayoutDoc | None,
    nets: Mapping[str, NetworkDoc],
    node: NodeNics,
    boot: Address,
    boot_net: BootNet,
    addresses: Sequence[Address] = (),
) -> Wires:
    """boot: the address it boots with, which its system keeps. addresses: all it was given.

    layout None: the boot NIC with this address and nothing else. Raises Conflict for a node that
    lacks NICs, or was given no address of a network that gives them.
    """

    devices = list(_devices(layout, nets, node, boot, boot_net, addresses))
    dns = _once(a for d in devices if d.stack for a in d.stack.dns)
    named = [nets[a.network] for a in layout.networks if a.network in nets] if layout else []
    # Without a layout no file of ours is written, and network_data.json cannot say it.
    ntp = _once([*(a for net in named for a in net.ntp), *boot_net.ntp]) if layout else []
    wires = Wires(
        network_data=network_data(devices, dns),
        links=[_link(device, devices) for device in devices],
        routes=[{"to": to, "via": via} for d in devices if d.stack for to, via in d.stack.routes],
        dns=dns,
        ntp=ntp,
    )
    return replace(wires, files=networkd.files(devices, ntp)) if layout else wires


def _once(items: Any) -> list[str]:  # noqa: ANN401
    return list(dict.fromkeys(items))


# --- devices --------------------------------------------------------------------------------------


def _devices(
    layout: LayoutDoc | None,
    nets: Mapping[str, NetworkDoc],
    node: NodeNics,
    boot: Address,
    boot_net: BootNet,
    addresses: Sequence[Address],
) -> Iterator[Device]:
    """NICs, then bonds, then VLANs, then bridges: each after what it stands on."""
    wire = _wire_stack(boot, boot_net, default=bool(layout) and _leads_out(layout, nets))
    if layout is None or not layout.boot_link:
        yield Device("nic0", "physical", "", boot.mac or "", boot_net.mtu, stack=wire)
    if layout is None:
        return
    missing = lacks(layout, node)
    if missing:
        raise Conflict(
            f"layout {layout.name} does not fit: {missing[0]}",
            f"See what it wants: `seed layout show {layout.name}`.",
        )
    links = list(_links(layout, nets, node))
    mac_of = {link.id: link.mac for link in links}
    tops = [*links]
    natives: dict[str, Stack] = {layout.boot_link: wire} if layout.boot_link else {}
    above: list[Device] = []
    for one in layout.networks:
        if one.network == WIRE:
            stack = wire
        else:
            stack = _stack(nets[one.network], addresses, default_of(layout, nets) == one.network)
        over = layout.links[one.link]
        if one.network != WIRE and tagged(one, nets[one.network]):
            above.append(_vlan(layout, one, nets[one.network], mac_of[over], stack))
        else:
            natives[one.link] = stack
    by_name = {layout.links[link]: stack for link, stack in natives.items()}
    tops = [replace(link, stack=by_name.get(link.id, link.stack)) for link in tops]
    yield from _bridged(layout, nets, [*tops, *above])


def _leads_out(layout: LayoutDoc | None, nets: Mapping[str, NetworkDoc]) -> bool:
    return layout is not None and default_of(layout, nets) == WIRE


def _links(layout: LayoutDoc, nets: Mapping[str, NetworkDoc], node: NodeNics) -> Iterator[Device]:
    found = fill(layout, node)
    bond_of = {role: bond for bond in layout.bonds for role in bond.nics}
    macs: dict[str, list[str]] = {}
    names: dict[str, list[str]] = {}
    for role, nics in found.items():
        bond = bond_of.get(role)
        for name, nic in zip(layout.names_of(role), nics, strict=True):
            link = bond.name if bond else role
            yield Device(
                name, "physical", name, nic.mac, mtu_of(layout, link, nets),
                master=bond.name if bond else "",
                primary=bool(bond and bond.primary == name),
            )  # fmt: skip
            if bond:
                first = 0 if nic.boot else len(macs.get(bond.name, []))
                macs.setdefault(bond.name, []).insert(first, nic.mac)
                names.setdefault(bond.name, []).append(name)
    for bond in layout.bonds:
        yield Device(
            bond.name, "bond", bond.name, macs[bond.name][0], mtu_of(layout, bond.name, nets),
            bond=bond, members=tuple(names[bond.name]),
        )  # fmt: skip


def _vlan(layout: LayoutDoc, one: Attachment, net: NetworkDoc, mac: str, stack: Stack) -> Device:
    name = vlan_name(layout, one, net)
    over = layout.links[one.link]
    return Device(name, "vlan", name, mac, net.mtu, vlan=net.vlan or 0, over=over, stack=stack)


def _bridged(
    layout: LayoutDoc, nets: Mapping[str, NetworkDoc], devices: list[Device]
) -> Iterator[Device]:
    """Addresses move up to the bridge."""
    ports: dict[str, str] = {}
    for one in layout.networks:
        if one.bridge:
            tag = one.network != WIRE and tagged(one, nets[one.network])
            port = vlan_name(layout, one, nets[one.network]) if tag else layout.links[one.link]
            ports[port] = one.bridge
    bridges = []
    for device in devices:
        bridge = ports.get(device.id)
        if bridge:
            bridges.append(
                Device(bridge, "bridge", bridge, device.mac, device.mtu, over=device.id,
                       stack=device.stack)
            )  # fmt: skip
            device = replace(device, master=bridge, stack=None)
        yield device
    yield from bridges


def _wire_stack(boot: Address, boot_net: BootNet, *, default: bool) -> Stack:
    routes: list[tuple[str, str]] = []
    if boot_net.gateway:
        if boot_net.seed:
            routes.append((str(boot_net.seed), boot_net.gateway))
        if default:
            routes.append((DEFAULT[4], boot_net.gateway))
    return Stack(
        network=WIRE,
        addresses=(f"{boot.address}/{boot_net.net.prefixlen}",),
        routes=tuple(routes),
        dns=boot_net.dns,
        domain=boot_net.domain,
        mtu=boot_net.mtu,
    )


def _stack(net: NetworkDoc, addresses: Sequence[Address], default: bool) -> Stack:
    own = [
        an_ip(row.address) for row in addresses
        if row.network == net.name and row.kind is AddressKind.NODE
    ]  # fmt: skip
    held, routes = [], []
    for subnet in net.subnets:
        routes += [(route.to, route.via) for route in subnet.routes]
        if default and subnet.gateway:
            routes.append((DEFAULT[subnet.net.version], subnet.gateway))
        if subnet.addresses == "static":
            mine = next((a for a in own if a in subnet.net), None)
            if mine is None:
                raise Conflict(
                    f"this node was given no address of {net.name} in {subnet.cidr}",
                    f"See who has them: `seed network show {net.name}`.",
                )
            held.append(f"{mine}/{subnet.net.prefixlen}")
    by = {(subnet.net.version, subnet.addresses) for subnet in net.subnets}
    return Stack(
        network=net.name,
        addresses=tuple(held),
        routes=tuple(routes),
        dhcp4=(4, "dhcp") in by,
        dhcp6=(6, "dhcp") in by,
        slaac=(6, "slaac") in by,
        default=default,
        dns=net.dns,
        domain=net.domain,
        mtu=net.mtu,
    )


# --- what the proof must show ---------------------------------------------------------------------


def _link(device: Device, devices: Sequence[Device]) -> dict[str, Any]:
    stack = device.stack or Stack()
    macs = {d.id: d.mac for d in devices}
    told: dict[str, Any] = {"name": device.name} if device.name else {}
    told |= {"kind": device.kind, "mac": device.mac, "mtu": device.mtu}
    if stack.addresses:
        told["addresses"] = list(stack.addresses)
    if stack.dhcp4 or stack.dhcp6 or stack.slaac:
        told["dhcp"] = True
    if device.bond:
        members = [macs[name] for name in device.members]
        told["bond"] = {"mode": device.bond.mode, "members": members}
    if device.kind == "vlan":
        told["vlan"] = {"id": device.vlan, "link": device.over}
    if device.kind == "bridge":
        told["bridge"] = {"ports": [device.over]}
    return told
