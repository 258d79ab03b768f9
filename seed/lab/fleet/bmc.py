"""One BMC of a fleet: who it is, what it remembers, what it counted."""

from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from seed.lab.fleet.spec import Lie, Speaks

NAMESPACE = UUID("3f0c7f6e-33a5-4a57-9a15-0d6d7a3c5b11")


class Kind(NamedTuple):
    """A product line. oui: of its BMC's MAC."""

    vendor: str
    model: str
    oui: str


KINDS = (
    Kind("Dell Inc.", "PowerEdge R650", "d0:94:66"),
    Kind("HPE", "ProLiant DL360 Gen10 Plus", "94:40:c9"),
    Kind("Supermicro", "SYS-620U-TNR", "3c:ec:ef"),
    Kind("Lenovo", "ThinkSystem SR630 V2", "08:94:ef"),
)
PORTS_PER_SWITCH = 48


@dataclass(slots=True)
class Counts:
    """What happened on one BMC since it began."""

    probes: int = 0
    connections: int = 0
    requests: int = 0
    logins: int = 0
    failed_logins: int = 0
    sessions_opened: int = 0
    sessions_most: int = 0


@dataclass(slots=True)
class Account:
    name: str
    password: str
    role: str = "Administrator"
    enabled: bool = True


@dataclass(slots=True)
class Bmc:
    """number: from 0, the same server for the same number. accounts, sessions, changes: by id.

    serial: of the server, as on its label.
    """

    number: int
    address: str
    speaks: Speaks
    accounts: dict[str, Account]
    lie: Lie | None = None
    shapes: tuple[str, ...] = ()  # shapes.Shape
    login_seconds: float = 0.0
    get_seconds: float = 0.0
    session_limit: int = 8
    sessions: dict[str, tuple[str, str]] = field(default_factory=dict)  # id: (token, user name)
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)  # path: what was patched
    power: str = "Off"
    serial: str = ""
    certificate: str = ""  # PEM, minted at the first connection
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self.serial = self.serial or f"FLEET{self.number:06d}"

    @property
    def kind(self) -> Kind:
        return KINDS[self.number % len(KINDS)]

    @property
    def uuid(self) -> str:
        return str(uuid5(NAMESPACE, str(self.number)))

    @property
    def mac(self) -> str:
        """The BMC's own."""
        return f"{self.kind.oui}:{_tail(self.number)}"

    def nic_macs(self) -> list[str]:
        return [f"52:54:{nic:02x}:{_tail(self.number)}" for nic in range(2)]

    def neighbour(self, nic: int) -> tuple[str, str]:
        """The switch and port that LLDP names for a NIC: NIC 0 on leafN-a, NIC 1 on leafN-b."""
        switch, port = divmod(self.number, PORTS_PER_SWITCH)
        return f"leaf{switch + 1}-{'ab'[nic]}", f"Ethernet{port + 1}"

    def told(self) -> dict[str, Any]:
        """For who watches the fleet. No password."""
        facts: dict[str, Any] = {"address": self.address, "serial": self.serial, "uuid": self.uuid}
        facts |= {
            "mac": self.mac,
            "speaks": self.speaks,
            "lie": self.lie,
            "shapes": self.shapes,
            "power": self.power,
        }
        return facts | {"sessions": len(self.sessions)} | asdict(self.counts)


def _tail(number: int) -> str:
    return f"{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"


def netmask(address: str) -> str:
    return "255.255.0.0" if ip_address(address).version == 4 else "64"
