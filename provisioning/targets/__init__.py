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
class Seat:
    """One node of a claim, as far as its config drive needs to know.

    phone_home: the self-contained script that sends the proof, with its one-time token.
    """

    node_uuid: str
    hostname: str
    network_data: dict[str, Any]
    phone_home: str


class InstallTarget(Protocol):
    name: str

    def config_drive(self, claim: Claim, seat: Seat) -> dict[str, Any]:
        """Ironic's JSON config drive: meta_data, network_data, user_data, vendor_data."""
