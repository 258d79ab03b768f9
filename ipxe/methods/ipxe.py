"""Boot by DHCP, TFTP and iPXE scripts over HTTP."""

from dataclasses import dataclass

from ipxe.bootspec import BootSpec
from ipxe.render import render


@dataclass(frozen=True, slots=True)
class Ipxe:
    name: str = "ipxe"
    boot_interface: str = "ipxe"
    needs_dhcp: bool = True

    def script(self, spec: BootSpec) -> str | None:
        return render(spec)


PLUGIN = Ipxe()
