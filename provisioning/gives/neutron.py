"""Neutron's switches for bare metal: ML2 with networking-generic-switch, without any login.

Keys: networking-generic-switch 10.2.0 devices/__init__.py (NGS_INTERNAL_OPTS), doc/source/
configuration.rst; device types: its entry points `generic_switch.devices`. Beside them what each
port of a lent server is plugged into, as its Ironic port has it (gives/_links.py).
"""

import json
from typing import Annotated, Any, Final

from pydantic import Field

from provisioning import gives
from provisioning.gives import Give, Wish
from provisioning.gives._links import Switch, Word, local_link, physical_network
from provisioning.installers import NodeFacts, OvercloudFacts
from provisioning.targets import PartSpec

DEVICES: Final = frozenset(
    """
    netconf_openconfig restconf_openconfig netmiko_arista_eos netmiko_aruba_aoscx
    netmiko_brocade_fastiron netmiko_cisco_ios netmiko_cisco_nxos netmiko_cisco_s300
    netmiko_cumulus netmiko_cumulus_nvue netmiko_dell_enterprise_sonic netmiko_dell_force10
    netmiko_dell_os10 netmiko_dell_powerconnect netmiko_fake netmiko_hp_comware
    netmiko_hpe_comware netmiko_huawei netmiko_huawei_vrpv8 netmiko_juniper
    netmiko_mellanox_mlnxos netmiko_nokia_srl netmiko_ovs_linux netmiko_pluribus netmiko_ruijie
    netmiko_sonic netmiko_supermicro_smis
    """.split()
)
VLANS: Final = r"^[0-9]{1,4}:[0-9]{1,4}$"
Vlans = Annotated[str, Field(pattern=VLANS)]


class Neutron(Wish):
    """switches: by the name that LLDP or the rack plan has. vlans: physical network ->
    "first:last", what tenants may get. drivers: mechanism drivers that are there already.
    """

    switches: dict[str, Switch] = Field(default={}, max_length=1024)
    vlans: dict[Word, Vlans] = Field(default={}, max_length=64)
    drivers: tuple[Word, ...] = ("ovn",)


def lacks(facts: OvercloudFacts) -> str:
    wish = gives.wish(facts, "neutron", Neutron)
    if not facts.lent:
        return "no server is lent to its own Ironic"
    names = _switches(facts)
    if not names:
        return "of no lent server it is known which switch it is plugged into"
    for name in names:
        if says := _lacks_switch(name, wish.switches.get(name, Switch())):
            return says
    return ""


def _lacks_switch(name: str, switch: Switch) -> str:
    for word in ("mac", "device_type", "address"):
        if not getattr(switch, word):
            return f"nobody said the switch {name}'s {word}: neutron.switches.{name}.{word}"
    if switch.device_type not in DEVICES:
        return f"networking-generic-switch has no device type {switch.device_type}"
    return ""


def files(facts: OvercloudFacts) -> list[PartSpec]:
    wish = gives.wish(facts, "neutron", Neutron)
    switches = {f"genericswitch:{name}": _section(wish.switches[name]) for name in _switches(facts)}
    types: list[tuple[str, str]] = []
    if wish.vlans:
        ranges = ",".join(f"{net}:{vlans}" for net, vlans in sorted(wish.vlans.items()))
        types = [("network_vlan_ranges", ranges)]
    drivers = ",".join(dict.fromkeys([*wish.drivers, "genericswitch"]))
    ml2 = {"ml2": [("mechanism_drivers", drivers)], "ml2_type_vlan": types}
    ports = {node.name: _ports(node, wish) for node in facts.lent}
    hint = "Add each switch's username and password, or key_file, and keep it 0600."
    return [
        gives.part("ml2_conf_genericswitch.ini", gives.as_ini(facts, switches, hint=hint)),
        gives.part("ml2_conf.ini", gives.as_ini(facts, ml2, hint="Merge it into your own.")),
        gives.part("ports.json", json.dumps(ports, indent=2, sort_keys=True) + "\n"),
    ]


def _switches(facts: OvercloudFacts) -> list[str]:
    return sorted({nic.switch for node in facts.lent for nic in node.nics if nic.switch})


def _section(switch: Switch) -> list[tuple[str, str]]:
    told = [
        ("device_type", switch.device_type or ""),
        ("ip", switch.address or ""),
        ("ngs_mac_address", switch.mac),
        ("ngs_physical_networks", ",".join(switch.physical_networks)),
    ]
    return [(key, value) for key, value in told if value]


def _ports(node: NodeFacts, wish: Neutron) -> dict[str, Any]:
    """MAC -> what its Ironic port has."""
    return {
        nic.mac: {"local_link_connection": link, **physical_network(nic, wish.switches)}
        for nic in node.nics
        if (link := local_link(nic, wish.switches))
    }


PLUGIN = Give("neutron", "ML2 and ports for lent servers, without switches' logins", files, lacks)
