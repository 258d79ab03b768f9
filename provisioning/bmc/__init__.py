"""BMC protocols: one module, one PLUGIN."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class Contact:
    """A BMC that answered without a login.

    fingerprint: SHA-256 of its TLS certificate, hex; empty where the protocol has no TLS.
    certificate: PEM.
    """

    address: str
    protocol: str
    fingerprint: str = ""
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """A login for one BMC. The password never shows in a repr.

    mark: tells two logins apart without telling what they are.
    """

    username: str
    password: SecretStr
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which server this is, by its BMC's word.

    macs:      the server's NICs, EUI-48, lower case, colons; may be empty (IPMI does not tell).
    system_id: Redfish path of the ComputerSystem.
    firmware:  "uefi" or "bios", empty where the BMC does not say.
    """

    serial: str
    system_uuid: str
    vendor: str = ""
    model: str = ""
    manager_mac: str = ""
    system_id: str = ""
    firmware: str = ""
    macs: tuple[str, ...] = field(default=())


class BmcProtocol(Protocol):
    """What a protocol must be able to do."""

    name: str
    driver: str  # Ironic's hardware type

    async def probe(self, address: str, timeout: float) -> Contact | None:
        """Does a BMC of this protocol answer here? Without any login. None: no."""

    def identify(self, contact: Contact, access: Access, timeout: float) -> Identity:
        """Log in once and say who it is.

        Raises BmcLoginRefused (not to be repeated), BmcUnreachable, BmcError (nonsense).
        """

    def driver_info(
        self, contact: Contact, identity: Identity, access: Access, ca_path: str
    ) -> dict[str, Any]:
        """Ironic's driver_info. `ca_path`: file that holds the BMC's certificate, for Ironic."""
