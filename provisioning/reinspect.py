"""Inspect a server again that was inspected before: a drive was swapped, a NIC was added.

Ironic inspects manageable nodes only, and `provide` cleans always. So a node of the pool leaves it,
and comes back by `seed node provide`, as a new one does (docs/adr: inspect again leaves the pool).
"""

from collections.abc import Mapping, Sequence

from sqlmodel import Session

from provisioning import plans
from provisioning.errors import Conflict
from provisioning.ironic import Node
from provisioning.models import Bmc, Hold
from provisioning.plans import PlannedNode, PlanOut
from provisioning.reclass import servers
from provisioning.states import BmcGoal
from provisioning.store import record

INSPECT = "inspect again"
WHAT_HAPPENS = {
    "manageable": "is switched off, boots the ramdisk and is switched off; its disks are only read",
    "available": "leaves the pool and is inspected; `seed node provide` cleans and offers it again",
}


def plan(session: Session, names: Sequence[str], nodes: Mapping[str, Node]) -> PlanOut:
    """nodes: Ironic's, by UUID."""
    planned = _planned(session, names, nodes)
    return plans.make(session, INSPECT, f"Inspect {len(planned)} node(s) again.", planned)


def apply(
    session: Session, names: Sequence[str], nodes: Mapping[str, Node], given: str, who: str
) -> list[Bmc]:
    """From now on the last inspection does not count. The reconciler does the rest."""
    plans.use(session, INSPECT, _planned(session, names, nodes), given)
    rows = servers(session, names)
    for bmc in rows:
        bmc.stale_inspection = nodes[str(bmc.node)].inspected_at
        bmc.goal = BmcGoal.MANAGED
        record(session, "node.inspect-asked", bmc.node, bmc.node_name or "", who=who, plan=given)
    return rows


def _planned(
    session: Session, names: Sequence[str], nodes: Mapping[str, Node]
) -> list[PlannedNode]:
    if not names:
        raise Conflict("no node is named", "Name them: `seed node inspect NODE`.")
    return [_one(session, bmc, nodes.get(str(bmc.node_uuid))) for bmc in servers(session, names)]


def _one(session: Session, bmc: Bmc, node: Node | None) -> PlannedNode:
    name = bmc.node_name or bmc.address
    if bmc.node_uuid is None or bmc.goal is BmcGoal.FORGOTTEN:
        raise Conflict(f"{name} is no node", f"Accept it first: `seed bmc accept {bmc.address}`.")
    hold = session.get_one(Hold, bmc.node)
    if hold.claim_id:
        raise Conflict(f"{name} is held by a claim", "Release that claim first: `seed claim list`.")
    if node is None or not node.inspected_at or node.inspected_at == bmc.stale_inspection:
        raise Conflict(
            f"{name} is not inspected yet; it will be", f"Wait for it: `seed node watch {name}`."
        )
    if node.provision_state not in WHAT_HAPPENS or node.reservation:
        raise Conflict(
            f"{name} is {node.provision_state}; only manageable and available nodes are inspected",
            f"See what it does: `seed node show {name}`.",
        )
    return PlannedNode(
        uuid=node.uuid,
        name=name,
        serial=bmc.serial,
        generation=hold.generation,
        disks=[],
        change=WHAT_HAPPENS[node.provision_state],
    )
