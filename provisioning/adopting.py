"""One adopted BMC -> its node in our Ironic, as it was elsewhere. Nothing is powered or booted."""

from dataclasses import dataclass
from typing import Any

from provisioning.driver_info import MASK
from provisioning.ironic import Node
from provisioning.models import Bmc
from provisioning.outcome import Done, Stuck, Wait
from provisioning.parts import Parts
from provisioning.states import WORKING, BmcGoal

Result = Wait | Stuck | Done


@dataclass(frozen=True)
class Adopting:
    """Takes the node one step on. Safe to repeat after a crash at any line.

    driver, driver_info, interfaces: of our own making, by what the BMC can do.
    again: a person's word "try again", which is used up by this step.
    """

    parts: Parts
    bmc: Bmc
    driver: str
    driver_info: dict[str, Any]
    interfaces: dict[str, str]
    again: bool

    def step(self, node: Node | None) -> Result:
        if node is None:
            return self._create()
        if node.provision_state in WORKING:
            return Wait(f"Ironic reads its BMC: {node.provision_state}", 1.0)
        match node.provision_state:
            case "enroll":
                return self._manage(node)
            case "manageable":
                return self._manageable()
            case "adopt failed" if not self.again:
                return self._stuck(node)
            case "adopt failed":
                return self._adopt()
            case "active":
                return self._active(node)
            case state:
                return Done(f"is {state}")

    def _create(self) -> Result:
        told = self.bmc.adoption
        self.parts.ironic.create_node(
            uuid=str(self.bmc.node),
            name=self.bmc.node_name,
            driver=self.driver,
            driver_info=self.driver_info,
            resource_class=self.bmc.resource_class,
            properties=told.get("properties") or {},
            instance_info=told.get("instance_info") or {},
            extra={**(told.get("extra") or {}), "seed": self._marks()},
            **self.interfaces,
        )
        with self.parts.store.write() as session:
            session.get_one(Bmc, self.bmc.id).told_ironic = self.bmc.credential_id
        return Wait("told to our Ironic", 0.5)

    def _marks(self) -> dict[str, str]:
        return {"bmc": str(self.bmc.id), "serial": self.bmc.serial}

    def _manage(self, node: Node) -> Result:
        if node.last_error and not self.again:
            return self._stuck(node)
        known = self.parts.ironic.ports(self.bmc.node)
        for port in self.bmc.adoption.get("ports") or []:
            if (mac := port["address"].lower()) not in known:
                self.parts.ironic.create_port(self.bmc.node, mac, **_wiring(port))
        self.parts.ironic.set_traits(self.bmc.node, self.bmc.adoption.get("traits") or [])
        self._reserve()
        self.parts.ironic.provision(self.bmc.node, "manage")
        return Wait("Ironic checks the BMC login", 1.0)

    def _reserve(self) -> None:
        """Known to our wire, so that it boots its own disk should it ask the network first."""
        ports = self.parts.ironic.ports(self.bmc.node)
        with self.parts.store.write() as session:
            for mac in sorted(m for m, pxe in ports.items() if pxe):
                self.parts.pool.reserve(session, mac, self.bmc.node)

    def _manageable(self) -> Result:
        if self.bmc.adoption.get("provision_state") == "active":
            return self._adopt()
        if self.again:
            with self.parts.store.write() as session:
                session.get_one(Bmc, self.bmc.id).goal = BmcGoal.MANAGED
            return Wait("to be inspected", 0.5)
        name = self.bmc.node_name
        return Done(f"taken over, untouched; `seed node retry {name}` boots and inspects it")

    def _adopt(self) -> Result:
        self.parts.ironic.provision(self.bmc.node, "adopt")
        return Wait("Ironic adopts it", 1.0)

    def _active(self, node: Node) -> Result:
        cloud = self.bmc.adoption.get("cloud", "")
        if not self.bmc.adoption.get("protected"):
            self.parts.ironic.patch_node(
                self.bmc.node, {"/protected": True, "/protected_reason": f"adopted from {cloud}"}
            )
            with self.parts.store.write() as session:
                row = session.get_one(Bmc, self.bmc.id)
                row.adoption = {**row.adoption, "protected": True}
        return Done(f"active, adopted from {cloud}, protected")

    def _stuck(self, node: Node) -> Stuck:
        why = node.last_error or "Ironic gives no reason"
        return Stuck(
            f"{node.provision_state}: {why}",
            f"Cure the cause, then `seed node retry {self.bmc.node_name}`.",
        )


def _wiring(port: dict[str, Any]) -> dict[str, Any]:
    """How it hangs on the network, as far as that was told."""
    link = {k: v for k, v in (port.get("local_link_connection") or {}).items() if v != MASK}
    told = {"local_link_connection": link, "physical_network": port.get("physical_network")}
    return {"pxe_enabled": port.get("pxe_enabled", True)} | {k: v for k, v in told.items() if v}
