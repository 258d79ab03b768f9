"""What one node of a claim is told and must become, put together once when its order opens.

Its layout and addresses become network_data and files, its disks are named by serial, its secret
files become one-time parts. The same goes into the order as what its proof must show.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from sqlmodel import Session

from provisioning import (
    addressing,
    disks,
    drive,
    handout,
    keeping,
    leasing,
    parts_once,
)
from provisioning.errors import SeedError
from provisioning.image import Image
from provisioning.layout_doc import of_claim
from provisioning.layouts import NodeNics
from provisioning.memberships import Membership
from provisioning.models import Bmc, Claim, Hold, Order, now
from provisioning.network_doc import NetworkDoc
from provisioning.one_time import KeptDisk
from provisioning.parts import Parts
from provisioning.secrets import digest
from provisioning.targets import PartSpec, Seat
from provisioning.targets.plain import PLUGIN as PLAIN
from provisioning.wires import Wires, render


@dataclass(frozen=True)
class Deployment:
    """seat: for its config drive. root: instance_info's root device. steps: deploy steps.

    kept, keeps: disks that are kept, and those that its claim will keep.
    """

    bmc: Bmc
    seat: Seat
    root: dict[str, Any]
    kept: Sequence[KeptDisk] = ()
    keeps: Sequence[KeptDisk] = ()
    steps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def node_uuid(self) -> str:
        return self.seat.node_uuid


@dataclass(frozen=True)
class Fitter:
    """For all nodes of one claim, within one transaction.

    nics: BMC -> its server's. secrets: what they get once beside what their target has for them.
    """

    parts: Parts
    session: Session
    claim: Claim
    image: Image
    nets: Mapping[str, NetworkDoc]
    ca_pem: str
    nics: Mapping[UUID, NodeNics]
    secrets: Sequence[PartSpec] = ()
    membership: Membership | None = None

    def fit(self, hold: Hold, bmc: Bmc, order: Order) -> Deployment:
        """Writes the order's one-time parts and what its proof must show.

        Raises SeedError where the node cannot be what the claim wants: nothing was begun then.
        """
        name = bmc.node_name or str(bmc.node)
        wires, nics = self._wires(bmc)
        root, steps, wanted_disks = self._disks(bmc)
        token = self.parts.token(f"proof:{order.id}")
        order.proof_hash = digest(token)
        specs = self._specs(hold)
        urls = parts_once.make(
            self.session, order, specs, self.parts.gateway_url, now() + parts_once.LONGEST
        )
        seat = drive.seat(
            node_uuid=str(hold.node_uuid),
            hostname=self.claim.hostname(hold.position),
            network_data=wires.network_data,
            gateway_url=self.parts.gateway_url,
            token=token,
            ca_pem=self.ca_pem,
            files=wires.files,
            parts=urls,
            kernel_args=self.claim.kernel_args,
            services=self.image.services,
        )
        if self.membership:
            seat = replace(seat, phone_home=seat.phone_home + self.membership.shell)
        drive.check(PLAIN.config_drive(self.claim, seat), nics, name)
        order.wanted = {
            "hostname": seat.hostname,
            "macs": order.macs,
            "links": wires.links,
            "routes": wires.routes,
            "dns": wires.dns,
            "ntp": wires.ntp,
            "disks": wanted_disks,
            "kernel": self.image.kernel,
            "kernel_args": self.claim.kernel_args,
            "services": list(self.image.services),
            "parts": [spec.name for spec in specs],
        }
        self.session.add(order)
        keeps = keeping.to_keep(self.claim, bmc.node, order.wanted)
        kept = disks.kept_of(self.session, bmc.node)
        return Deployment(bmc, seat, root, kept, keeps, steps)

    def _wires(self, bmc: Bmc) -> tuple[Wires, NodeNics]:
        address = handout.boot_address(self.session, bmc.node)
        if address is None:
            raise SeedError(
                f"{bmc.node_name} has no address", f"`seed node retry {bmc.node_name}`."
            )
        nics = self.nics[bmc.id]
        given = addressing.of_node(self.session, bmc.node)
        boot_net = self.parts.pool.boot_net(self.nets, address)
        return render(of_claim(self.claim), self.nets, nics, address, boot_net, given), nics

    def _disks(self, bmc: Bmc) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
        seen, kept = keeping.seen_by(bmc), disks.kept_of(self.session, bmc.node)
        unknown = seen is None or not seen.drives
        if unknown and not (kept or disks.needs_inventory(self.claim)):
            return leasing.root_device_of(self.claim), [], {}  # nobody ever told of any disk
        found = disks.chosen(self.claim, seen, kept)
        assert seen is not None  # noqa: S101  chosen refuses None
        told = disks.wanted(self.claim, found, kept)
        return disks.root_hint(found, seen), disks.raid_steps(found, seen), told

    def _specs(self, hold: Hold) -> list[PartSpec]:
        facts = {"hostname": self.claim.hostname(hold.position), "position": hold.position}
        own = PLAIN.parts(self.claim, facts)
        cluster = self.membership.parts if self.membership else ()
        return [*own, *self.secrets, *cluster]
