"""Plain servers: SSH keys, a host name, the caller's own user-data, and the proof."""

from typing import Any

from provisioning import on_node
from provisioning.models import Claim
from provisioning.targets import PartSpec, Seat

NOTHING = "#cloud-config\n{}\n"


class Plain:
    name = "plain"

    def config_drive(self, claim: Claim, seat: Seat) -> dict[str, Any]:
        return {
            "meta_data": {
                "uuid": seat.node_uuid,
                "name": seat.hostname,
                "hostname": seat.hostname,
                "public_keys": {str(i): key for i, key in enumerate(claim.ssh_keys)},
            },
            "network_data": seat.network_data,
            "user_data": claim.user_data or NOTHING,
            # Vendor data, so that the caller's user-data stays whole: cloud-init runs both.
            "vendor_data": {"cloud-init": on_node.vendor_data(seat)},
        }

    def parts(self, claim: Claim, facts: dict[str, Any]) -> list[PartSpec]:
        return []


PLUGIN = Plain()
