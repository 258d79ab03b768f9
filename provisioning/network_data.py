"""A node's devices as OpenStack's network_data.json, as cloud-init reads it."""

from collections.abc import Iterator, Sequence
from ipaddress import ip_interface, ip_network
from typing import Any

from provisioning.devices import Device, Stack


def network_data(devices: Sequence[Device], dns: Sequence[str]) -> dict[str, Any]:
    """Bridges are unknown to it: what they have is said of their port."""
    links = [_as_link(device) for device in devices if device.kind != "bridge"]
    networks = [
        entry
        for device in devices
        if device.stack
        for entry in _as_networks(
            device.over if device.kind == "bridge" else device.id, device.stack
        )
    ]
    return {
        "links": links,
        "networks": networks,
        "services": [{"type": "dns", "address": address} for address in dns],
    }


def _as_link(device: Device) -> dict[str, Any]:
    link: dict[str, Any] = {"id": device.id}
    if device.kind == "vlan":
        link |= {
            "type": "vlan", "vlan_id": device.vlan, "vlan_link": device.over,
            "vlan_mac_address": device.mac,
        }  # fmt: skip
    elif device.bond:
        bond = device.bond
        told = {
            "bond_mode": bond.mode, "bond_miimon": bond.miimon, "bond_primary": bond.primary,
            "bond_lacp_rate": bond.lacp_rate, "bond_xmit_hash_policy": bond.xmit_hash_policy,
        }  # fmt: skip
        link |= {"type": "bond", "ethernet_mac_address": device.mac}
        link |= {"bond_links": list(device.members)} | {k: v for k, v in told.items() if v}
    else:
        link |= {"type": "phy", "ethernet_mac_address": device.mac}
        link |= {"name": device.name} if device.name else {}
    return link | {"mtu": device.mtu}


def _as_networks(link: str, stack: Stack) -> Iterator[dict[str, Any]]:
    name = stack.network
    for number, text in enumerate(stack.addresses):
        interface = ip_interface(text)
        version = interface.version
        yield {
            "id": name if number == 0 else f"{name}-{number}",
            "network_id": name,
            "type": f"ipv{version}",
            "link": link,
            "ip_address": str(interface.ip),
            "netmask": str(interface.netmask),
            "routes": [_as_route(*route) for route in stack.routes if _version(route) == version],
        }
    kinds = {
        "ipv4_dhcp": stack.dhcp4, "ipv6_dhcpv6-stateful": stack.dhcp6, "ipv6_slaac": stack.slaac,
    }  # fmt: skip
    for kind, wanted in kinds.items():
        if wanted:
            yield {"id": f"{name}-{kind}", "network_id": name, "type": kind, "link": link}


def _version(route: tuple[str, str]) -> int:
    return ip_network(route[0]).version


def _as_route(to: str, via: str) -> dict[str, str]:
    net = ip_network(to)
    return {"network": str(net.network_address), "netmask": str(net.netmask), "gateway": via}
