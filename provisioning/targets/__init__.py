"""Install targets: what gets installed with the nodes. One module, one PLUGIN."""

from dataclasses import dataclass
from typing import Any, Protocol

from provisioning.models import Claim


@dataclass(frozen=True, slots=True)
class NodeFile:
    """A file that the node writes itself before it is used: text, nothing secret in it."""

    path: str
    content: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class PartSpec:
    """What a node fetches once. owner: "user" or "user:group" of the node; empty: root."""

    name: str
    path: str
    mode: int
    content: bytes
    owner: str = ""


@dataclass(frozen=True, slots=True)
class PartUrl:
    """Where a node fetches a part: the URL is the secret."""

    name: str
    path: str
    mode: int
    url: str
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Seat:
    """One node of a claim, as far as its config drive needs to know.

    phone_home:  the self-contained script that sends the proof, with its one-time token.
    files:       what network_data cannot say. parts: fetched once, over the gateway's TLS.
    kernel_args: applied by `phone_home` before the proof; here for people who look at it.
    ca_pem:      whom the node trusts when it fetches its parts.
    """

    node_uuid: str
    hostname: str
    network_data: dict[str, Any]
    phone_home: str
    files: tuple[NodeFile, ...] = ()
    parts: tuple[PartUrl, ...] = ()
    kernel_args: tuple[str, ...] = ()
    ca_pem: str = ""


class InstallTarget(Protocol):
    name: str

    def config_drive(self, claim: Claim, seat: Seat) -> dict[str, Any]:
        """Ironic's JSON config drive: meta_data, network_data, user_data, vendor_data."""

    def parts(self, claim: Claim, facts: dict[str, Any]) -> list[PartSpec]:
        """What of this target is secret or large. facts: of the node: "hostname", "position"."""
