"""What a fleet is asked to be."""

from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from typing import Any, Literal

from netaddr import AddrFormatError, IPNetwork
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

Speaks = Literal["both", "redfish", "ipmi"]
LARGEST = 65536


class Lie(StrEnum):
    """How a BMC answers wrongly. The HTTP ones have a "deep-" form: the service root is true."""

    HUGE_BODY = "huge-body"  # 4 GB
    REDIRECT = "redirect"  # without an end
    TRUNCATED = "truncated"  # half of the JSON
    TYPES = "types"  # numbers for words, words for lists
    DRIP = "drip"  # one byte a second
    NOT_JSON = "not-json"
    DEEP_HUGE_BODY = "deep-huge-body"
    DEEP_REDIRECT = "deep-redirect"
    DEEP_TRUNCATED = "deep-truncated"
    DEEP_TYPES = "deep-types"
    DEEP_DRIP = "deep-drip"
    DEEP_NOT_JSON = "deep-not-json"
    CYCLE = "cycle"  # every collection contains itself
    TWO_SYSTEMS = "two-systems"
    NO_SYSTEM = "no-system"
    EMPTY_PASSWORD = "empty-password"  # noqa: S105 - accepted with the right user name
    TLS_GARBAGE = "tls-garbage"
    HANG = "hang"  # TCP opens, and then nothing
    RMCP_GARBAGE = "rmcp-garbage"


class Spec(BaseModel):
    """A fleet of `bmcs` BMCs, spread evenly over `range`, or one on each of `addresses`.

    speaks:        what each speaks, in turn.
    certificates:  "each" has its own (self-signed, its address as name), or all "shared" one.
    login_seconds: a session's opening, and each request with basic authentication.
    get_seconds:   every request behind the login.
    sessions:      a BMC's table of sessions; one more is answered 503.
    loss:          share of packets lost each way.
    lies:          by address.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    range: str = "10.64.0.0/16"
    bmcs: int = Field(default=100, ge=0, le=LARGEST)
    addresses: tuple[str, ...] = Field(default=(), max_length=LARGEST)
    speaks: tuple[Speaks, ...] = Field(default=("both",), min_length=1)
    username: str = "admin"
    password: SecretStr
    certificates: Literal["each", "shared"] = "each"
    login_seconds: float = Field(default=0.0, ge=0)
    get_seconds: float = Field(default=0.0, ge=0)
    sessions: int = Field(default=8, ge=1)
    loss: float = Field(default=0.0, ge=0, lt=1)
    lies: dict[str, Lie] = Field(default_factory=dict)

    @field_validator("range")
    @classmethod
    def _a_network(cls, text: str) -> str:
        try:
            return str(IPNetwork(text).cidr)
        except AddrFormatError as err:
            raise ValueError("a network, such as 10.64.0.0/16") from err

    def where(self) -> list[str]:
        """The address of each BMC, first and last of the network left out."""
        if self.addresses:
            return list(self.addresses)
        network = IPNetwork(self.range)
        room = max(network.size - 2, 1)
        if self.bmcs > room:
            raise ValueError(f"{self.bmcs} BMCs do not fit into {self.range}")
        first = network.first + (1 if network.size > 2 else 0)
        step = room // self.bmcs if self.bmcs else 1
        numbers = islice(range(first, network.last + 1, step), self.bmcs)
        return [_text(number, network.version) for number in numbers]

    def wire_form(self) -> dict[str, Any]:
        """As JSON for the fleet's process, the password in clear: for its standard input only."""
        return self.model_dump(mode="json") | {"password": self.password.get_secret_value()}


def _text(number: int, version: int) -> str:
    return str(IPv4Address(number) if version == 4 else IPv6Address(number))
