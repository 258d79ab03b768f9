"""Where a server's NICs are plugged in, as Ironic and Neutron are told it."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, StringConstraints

from provisioning.gives import Wish
from provisioning.networks import mac
from provisioning.seats import HandOutNic

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
Mac = Annotated[str, AfterValidator(lambda text: mac(text) if text else "")]


class Switch(Wish):
    """mac: its chassis', as LLDP tells it. device_type: networking-generic-switch's name for its
    driver, e.g. netmiko_arista_eos. address: where it is configured. None: not said.
    """

    mac: Mac = ""
    device_type: Word | None = None
    address: Word | None = None
    physical_networks: tuple[Word, ...] = ()


def local_link(nic: HandOutNic, switches: Mapping[str, Switch]) -> dict[str, str]:
    """Empty: the cable is not known, or not its switch's MAC.

    Ironic (39.0.0 api/controllers/v1/utils.py LOCAL_LINK_SCHEMA) wants both: a switch_id is a MAC
    or an OpenFlow datapath. networking-generic-switch finds a switch by switch_info first.
    """
    switch = switches.get(nic.switch)
    if not nic.switch or not nic.port or switch is None or not switch.mac:
        return {}
    return {"switch_id": switch.mac, "port_id": nic.port, "switch_info": nic.switch}


def physical_network(nic: HandOutNic, switches: Mapping[str, Switch]) -> dict[str, Any]:
    """Where its switch has one alone: which of several a port is in, nobody told."""
    nets = switches[nic.switch].physical_networks if nic.switch in switches else ()
    return {"physical_network": nets[0]} if len(nets) == 1 else {}
