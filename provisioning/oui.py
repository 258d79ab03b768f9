"""Who made a network interface, by the first half of its MAC (IEEE's registry in netaddr)."""

from netaddr import EUI, AddrFormatError, NotRegisteredError


def maker(mac: str) -> str:
    """The organisation's name; empty for a local or unregistered address, and for no address."""
    try:
        return str(EUI(mac, version=48).oui.registration().org)
    except (AddrFormatError, NotRegisteredError, ValueError, TypeError, IndexError):
        return ""
