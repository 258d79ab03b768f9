"""BMC protocols: one module, one PLUGIN."""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import SecretStr

from provisioning.abilities import Abilities
from provisioning.hardware import Inventory


def host(address: str) -> str:
    """An address as a URL has it: IPv6 in brackets (RFC 3986, 3.2.2)."""
    return f"[{address}]" if ":" in address else address


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


@dataclass(frozen=True, slots=True)
class Knock:
    """What is sent to every address of a sweep; only where it is answered, it is probed.

    question:   one datagram to UDP `port`; empty: opening TCP `port` is all that is asked.
    understood: whether a datagram is an answer to it, whatever a liar may send.
    """

    port: int
    question: bytes = b""
    understood: Callable[[bytes], bool] = bool


@dataclass(frozen=True, slots=True)
class Shout:
    """What is sent to a multicast group, where BMCs that hear it say where they are."""

    group: str
    port: int
    question: bytes
    understood: Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Survey:
    """What a BMC says of its server and of itself, with one login and the power as it is.

    findings: weaknesses, and what it failed to tell, one sentence each.
    """

    identity: Identity
    inventory: Inventory
    abilities: Abilities = field(default_factory=Abilities)
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lengths:
    """Characters of a password, both ends included."""

    least: int
    most: int


class BmcProtocol(Protocol):
    """What a protocol must be able to do.

    Every `timeout` is for the whole conversation, in seconds, whatever the BMC does. What logs in
    raises BmcLoginRefused (not to be repeated), BmcUnreachable, BmcError (nonsense), and leaves no
    session behind.
    knock: None: every address is probed. shout: None: there is no multicast question.
    """

    name: str
    driver: str  # Ironic's hardware type
    knock: Knock | None
    shout: Shout | None
    at_once: int  # how many surveys this machine can do at the same time

    async def probe(
        self, address: str, timeout: float, line: socket.socket | None = None
    ) -> Contact | None:
        """Does a BMC of this protocol answer here? Without any login. None: no.

        line: the TCP connection that the knock opened; it is closed here. Whatever is answered is
        no error.
        """

    def heard(self, address: str) -> Contact | None:
        """The contact that a datagram's answer alone makes; None: it must be probed."""

    def identify(self, contact: Contact, access: Access, timeout: float) -> Identity:
        """Log in once and say who it is."""

    def survey(self, contact: Contact, access: Access, timeout: float) -> Survey:
        """Log in once and read all it tells. Nothing is changed; the power stays as it is."""

    def locate(self, contact: Contact, access: Access, on: bool, timeout: float) -> None:
        """Switch the server's locate LED. BmcError where it has none."""

    def maker(self, contact: Contact, timeout: float) -> str:
        """Who made it, as far as it tells without a login; empty: it does not. BmcError."""

    def check_login(self, contact: Contact, access: Access, timeout: float) -> None:
        """Log in once, no more. Raises as `identify` does."""

    def password_lengths(self, contact: Contact, access: Access, timeout: float) -> Lengths:
        """How long a password this BMC says it takes. BmcError: it has no accounts to change."""

    def set_password(
        self, contact: Contact, access: Access, new: SecretStr, timeout: float
    ) -> None:
        """Give the account that `access` names a new password. The new one is not tried.

        Raises BmcLoginRefused and BmcError (nothing changed), BmcUnreachable (nobody knows).
        """

    def request_csr(self, contact: Contact, access: Access, timeout: float) -> str:
        """A new key on the BMC and its certificate request, PEM. BmcRefused: it cannot."""

    def install_certificate(
        self, contact: Contact, access: Access, pem: str, timeout: float
    ) -> None:
        """What it shall show from now on; it may need a while. BmcRefused: it stays."""

    def hang_up(self) -> None:
        """End all conversations of `identify`, `survey` and `locate` now: log out, raise HungUp.

        What changes a login or a certificate goes on.
        """

    def driver_info(
        self, contact: Contact, identity: Identity, access: Access, ca_path: str
    ) -> dict[str, Any]:
        """Ironic's driver_info.

        ca_path: file with what Ironic verifies the BMC's certificate by; empty: it cannot.
        """
