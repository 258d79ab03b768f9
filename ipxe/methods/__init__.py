"""Boot methods: one module each that states PLUGIN."""

from typing import Protocol

from ipxe.bootspec import BootSpec


class BootMethod(Protocol):
    """A way by which a server gets its first kernel.

    name:          what people write, e.g. "ipxe".
    boot_interface: Ironic's name for it (its boot_interface).
    needs_dhcp:    whether our DHCP server must answer the server's MAC before it boots.
    """

    @property
    def name(self) -> str: ...
    @property
    def boot_interface(self) -> str: ...
    @property
    def needs_dhcp(self) -> bool: ...

    def script(self, spec: BootSpec) -> str | None:
        """What the server fetches for `spec`; None if nothing is fetched from us."""
        ...
