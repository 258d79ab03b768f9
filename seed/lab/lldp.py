"""What a switch says at one of its ports: LLDP (IEEE 802.1AB-2016, clause 8)."""

from scapy.contrib import lldp
from scapy.layers.l2 import Ether

from seed.lab.scenario import Port, Switch

NEAREST_BRIDGE = "01:80:c2:00:00:0e"
ETHERTYPE = 0x88CC
TTL_SECONDS = 9  # four times what seed/lab/switch.py waits, and one: 9.1.2 of the standard
IEEE_8021 = 0x0080C2
PORT_VLAN_ID = 1  # IEEE 802.1Q-2018, D.2.1
MAC_ADDRESS, INTERFACE_NAME = 4, 5  # subtypes of a chassis and of a port


def frame(switch: Switch, port: Port) -> bytes:
    """The whole Ethernet frame, without padding."""
    tlvs = (
        Ether(dst=NEAREST_BRIDGE, src=switch.mac, type=ETHERTYPE)
        / lldp.LLDPDUChassisID(subtype=MAC_ADDRESS, id=switch.mac)
        / lldp.LLDPDUPortID(subtype=INTERFACE_NAME, id=port.name)
        / lldp.LLDPDUTimeToLive(ttl=TTL_SECONDS)
        / lldp.LLDPDUPortDescription(description=port.description)
        / lldp.LLDPDUSystemName(system_name=switch.name)
        / lldp.LLDPDUSystemDescription(description=switch.description)
    )
    if port.vlan is not None:
        data = port.vlan.to_bytes(2, "big")
        tlvs /= lldp.LLDPDUGenericOrganisationSpecific(
            org_code=IEEE_8021, subtype=PORT_VLAN_ID, data=data
        )
    return bytes(tlvs / lldp.LLDPDUEndOfLLDPDU())
