"""Ironic in memory, as strict as the real one: what it does not know, it refuses."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from provisioning.errors import Conflict, NotFound
from provisioning.ironic import PAGE, SAME_MOMENT, Node
from provisioning.models import now

BLANK = Node(
    uuid="", name="", driver="fake-hardware", provision_state="available", target="",
    power_state="power off", resource_class="baremetal", last_error="", maintenance=False,
    maintenance_reason="",
    allocation="", reservation="", inspected=True, properties={}, extra={}, updated_at="",
)  # fmt: skip


CLASS_MAY_CHANGE = {"enroll", "inspecting", "inspect wait", "manageable", "available"}


class FakeIronic:
    """Nodes by UUID. One name, one node; one allocation per name and per node."""

    def __init__(self) -> None:
        self.by_uuid: dict[str, Node] = {}
        self.inventories: dict[str, dict[str, Any]] = {}
        self.allocations: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.macs: dict[str, dict[str, bool]] = {}
        self.writes = 0
        self.driver_infos: dict[str, dict[str, Any]] = {}
        self.touched: dict[str, float] = {}
        self.asked: list[str] = []
        self.instance_infos: dict[str, dict[str, Any]] = {}
        self.deploy_steps: dict[str, list[dict[str, Any]]] = {}

    def add(self, name: str, uuid: UUID | None = None, **facts: Any) -> Node:
        if any(node.name == name for node in self.by_uuid.values()):
            raise Conflict(f"a node named {name} exists", "seed node list")
        node = replace(BLANK, uuid=str(uuid or uuid4()), name=name, **facts)
        self.by_uuid[node.uuid] = node
        return node

    def change(self, uuid: object, **facts: Any) -> None:
        """By somebody else."""
        moment = {"updated_at": now().isoformat()} | facts
        self.by_uuid[str(uuid)] = replace(self.by_uuid[str(uuid)], **moment)

    def _change(self, uuid: object, **facts: Any) -> None:
        self._known(uuid)
        self.change(uuid, **facts)
        self.touched[str(uuid)] = time.monotonic()

    def patch_node(self, uuid: object, changes: dict[str, Any]) -> None:
        """As strict as Ironic: a resource class changes in these states only."""
        node = self.node(uuid)
        if "/resource_class" in changes and node.provision_state not in CLASS_MAY_CHANGE:
            raise Conflict(f"{node.name} is {node.provision_state}", "seed node list")
        self.writes += 1
        facts = {path.removeprefix("/"): value for path, value in changes.items()}
        if "driver_info" in facts:  # never shown again
            self.driver_infos[str(uuid)] = facts.pop("driver_info")
        facts.pop("driver_info/deploy_forces_oob_reboot", None)  # as above
        if "extra/seed" in facts:
            facts["extra"] = {**node.extra, "seed": facts.pop("extra/seed")}
        if "properties/skip_block_devices" in facts:
            skipped = facts.pop("properties/skip_block_devices")
            facts["properties"] = {**node.properties, "skip_block_devices": skipped}
        if "raid_interface" in facts:
            may = node.maintenance or node.provision_state in CLASS_MAY_CHANGE - {"inspecting"}
            if not may:  # ConductorManager.update_node
                raise Conflict(f"{node.name} is {node.provision_state}", "seed node list")
        if "instance_info" in facts:
            self.instance_infos[str(uuid)] = facts.pop("instance_info")
        self._change(uuid, **facts)

    def set_traits(self, uuid: object, traits: list[str]) -> None:
        self.writes += 1
        self._change(uuid, traits=tuple(sorted(traits)))

    def nodes(self) -> list[Node]:
        """As a list of the real one, they do not say when they changed."""
        return [replace(node, updated_at="") for node in self.by_uuid.values()]

    def page(self, after: str = "") -> list[Node]:
        self.asked.append("page")
        return self._page(after)

    def _page(self, after: str) -> list[Node]:
        if after and after not in self.by_uuid:
            raise NotFound(f"there is no node {after}", "seed node list")
        begin = list(self.by_uuid).index(after) + 1 if after else 0
        return self.nodes()[begin : begin + PAGE]

    def uuids(self, after: str = "") -> list[str]:
        self.asked.append("uuids")
        return [node.uuid for node in self._page(after)]

    def changes(self, since: datetime, expected: int = 0) -> list[Node]:
        self.asked.append("changes")
        changed = [
            n for n in self.by_uuid.values()
            if n.updated_at and datetime.fromisoformat(n.updated_at) >= since - SAME_MOMENT
        ]  # fmt: skip
        return sorted(changed, key=lambda n: n.updated_at, reverse=True)[:PAGE]

    def node(self, uuid: object) -> Node:
        self.asked.append("node")
        return self._known(uuid)

    def _known(self, uuid: object) -> Node:
        if str(uuid) not in self.by_uuid:
            raise NotFound(f"there is no node {uuid}", "seed node list")
        return self.by_uuid[str(uuid)]

    def find_node(self, uuid: object) -> Node | None:
        return self.by_uuid.get(str(uuid))

    def set_maintenance(self, uuid: object, on: bool, reason: str = "") -> None:
        """A person's word leaves an older fault as it is; the end of maintenance ends it, too."""
        fault = self._known(uuid).fault if on else ""
        self._change(uuid, maintenance=on, maintenance_reason=reason if on else "", fault=fault)

    def inventory(self, uuid: object) -> dict[str, Any] | None:
        self.node(uuid)
        return self.inventories.get(str(uuid))

    # --- provisioning, power, allocations: as in ironic 39, conductor/{manager,allocations}.py ---

    def ports(self, uuid: object) -> dict[str, bool]:
        self.node(uuid)
        return self.macs.get(str(uuid), {})

    def power(self, uuid: object, target: str) -> None:
        node = self.node(uuid)
        if node.reservation or node.provision_state == "clean wait":
            raise Conflict(f"{node.name} is locked", "seed node list")
        if target not in ("power on", "power off", "rebooting"):
            raise Conflict(f"there is no power {target}", "seed node list")
        self.change(uuid, power_state="power off" if target == "power off" else "power on")

    def provision(
        self, uuid: object, target: str, config_drive: Any = None,
        steps: Sequence[dict[str, Any]] = (),
    ) -> None:  # fmt: skip
        node = self.node(uuid)
        if steps and (target != "active" or node.raid_interface != "agent"):
            raise Conflict(f"{node.name} has no such step", "seed node list")
        self.deploy_steps[str(uuid)] = list(steps)
        becomes = VERBS.get(target, {}).get(node.provision_state)
        if becomes is None or node.reservation:
            raise Conflict(f"{node.name} is {node.provision_state}: no {target}", "seed node list")
        if target == "active":
            if not self.instance_infos.get(node.uuid):
                raise Conflict(f"{node.name} has no image", "seed node list")
            self._may_deploy(node, config_drive)
            node = replace(node, power_state="power on")
        self.change(uuid, provision_state=becomes, power_state=node.power_state, last_error="")

    def _may_deploy(self, node: Node, config_drive: Any) -> None:
        if node.maintenance:
            raise Conflict(f"{node.name} is in maintenance", "seed node list")
        if not config_drive:
            raise Conflict("Seed never deploys without a config drive", "seed node list")

    def work(self, uuid: object, fails: bool = False) -> None:
        """What Ironic does next with this node; an agent's word is not heard in maintenance."""
        node = self.node(uuid)
        after = AFTER.get(node.provision_state)
        if after is None or (node.maintenance and node.provision_state in HEARTBEATS):
            return
        if node.provision_state == "deleting":
            self.allocations = {n: u for n, u in self.allocations.items() if u != node.uuid}
            self.change(uuid, allocation="")
            self.instance_infos.pop(node.uuid, None)
        if not fails:
            off = {"power_state": "power off"} if after[0] == "available" else {}
            self.change(uuid, provision_state=after[0], **off)
        elif after[1] == "clean failed":
            self.change(uuid, provision_state=after[1], last_error="a step failed",
                        maintenance=True, fault="clean failure",
                        maintenance_reason=node.maintenance_reason or "a step failed")  # fmt: skip
        else:
            self.change(uuid, provision_state=after[1], last_error="a step failed")

    def allocate(self, name: str, node_uuid: object, resource_class: str) -> tuple[str, str]:
        """One that failed stays under its name until it is dropped."""
        node = self.node(node_uuid)
        if name in self.refused:
            return "error", self.refused[name]
        held = self.allocations.get(name)
        if held is not None and held != node.uuid:
            return "error", "the allocation of an earlier choice still locks another node"
        others = {uuid for other, uuid in self.allocations.items() if other != name}
        if held is not None:
            return "active", ""
        fits = node.provision_state == "available" and node.resource_class == resource_class
        if node.uuid in others or not fits or node.maintenance or not node.power_state:
            self.refused[name] = f"no node fits: {node.name} is taken, in another state or class"
            return "error", self.refused[name]
        self.allocations[name] = node.uuid
        self._change(node_uuid, allocation=f"allocation of {name}")
        return "active", ""

    def allocated(self, resource_class: str) -> dict[str, tuple[str, str, str]]:
        known = {name: self.by_uuid[uuid] for name, uuid in self.allocations.items()}
        return {
            name: ("active", node.uuid, "")
            for name, node in known.items()
            if node.resource_class == resource_class
        }

    def drop_allocation(self, name: str) -> None:
        self.refused.pop(name, None)
        if name not in self.allocations:
            return
        node = self.node(self.allocations[name])
        if not node.maintenance and node.provision_state in {"active", *AFTER}:
            raise Conflict(f"{node.name} is {node.provision_state}", "seed node list")
        del self.allocations[name]
        self.change(node.uuid, allocation="")


VERBS: dict[str, dict[str, str]] = {
    "active": {"available": "deploying", "deploy failed": "deploying"},
    "deleted": dict.fromkeys(
        ("active", "deploy failed", "wait call-back", "error", "deploy hold"), "deleting"
    ),
    "manage": dict.fromkeys(("available", "clean failed", "inspect failed"), "manageable"),
    "provide": {"manageable": "cleaning"},
    "abort": {"clean wait": "clean failed", "inspect wait": "inspect failed"},
}
"""Target -> state it is asked in -> the state right after, ironic/common/states.py."""
AFTER: dict[str, tuple[str, str]] = {
    "deploying": ("wait call-back", "deploy failed"),
    "wait call-back": ("active", "deploy failed"),
    "deleting": ("cleaning", "error"),
    "cleaning": ("clean wait", "clean failed"),
    "clean wait": ("available", "clean failed"),
}
"""State -> (the next one, the one after a failure)."""
HEARTBEATS = {"wait call-back", "clean wait"}
