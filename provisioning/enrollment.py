"""One accepted BMC -> one Ironic node: enroll, manage, inspect, and, when told to, provide.

Each step looks at Ironic's provision state and does the one thing it needs. Nothing of the node's
state is kept here.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from provisioning import interfaces, keeping, orders, rotation
from provisioning.abilities import Abilities
from provisioning.adopting import Adopting
from provisioning.dress import dress, is_dressed, with_boot_mode
from provisioning.ironic import Node
from provisioning.logins import ironic_driver, trust_of
from provisioning.models import Address, Bmc, Hold, Order, now
from provisioning.outcome import Done, Stuck, Wait
from provisioning.parts import LOGIN_REFUSED, Parts
from provisioning.ramdisk import inventory_of
from provisioning.room import Rotation
from provisioning.rotation import Rotating
from provisioning.rotation_turn import REASON as CHANGES_LOGIN
from provisioning.states import ABORTABLE, FAILED, WORKING, BmcGoal, Login, OrderKind
from provisioning.store import record
from provisioning.watching import Watch

Result = Wait | Stuck | Done
RAMDISK = "ramdisk"
HELD = "held by a claim"
OUR_MAINTENANCE = (LOGIN_REFUSED, CHANGES_LOGIN, keeping.REASON)


@dataclass(frozen=True)
class Enrollment:
    """Takes one BMC's node one step on. Safe to repeat after a crash at any line."""

    parts: Parts

    def step(self, bmc: Bmc) -> Result:
        if bmc.goal is not BmcGoal.FORGOTTEN:
            changing = Rotating(self.parts).step(bmc.id)
            if changing is not None:
                return changing
        with self.parts.store.read() as session:
            bmc = session.get_one(Bmc, bmc.id)  # with the login it has by now
            held = session.get_one(Hold, bmc.node).claim_id
        if held:
            self._tell_while_held(bmc)
            return Done(HELD)
        if bmc.goal is BmcGoal.FORGOTTEN:
            return self._forget(bmc)
        if bmc.login is Login.REFUSED:
            return Stuck(
                f"BMC {bmc.address} refused its login",
                f"Give the right one: `seed discover {bmc.address} --username U --password-stdin`.",
            )
        if bmc.goal is BmcGoal.ADOPTED:
            return self._adopt(bmc, self._find(bmc))
        seen = self.parts.watch.seen(bmc.node)
        if seen and bmc.told_ironic == bmc.credential_id and _rests(bmc, seen):
            return self._onward(bmc, seen)  # whoever acts asks Ironic once more
        node = self._find(bmc) if bmc.told_ironic else None
        return self._onward(bmc, node) if node else self._enroll(bmc)

    def _find(self, bmc: Bmc) -> Node | None:
        """Its node, which knows the login that the BMC has now."""
        node = self.parts.ironic.find_node(bmc.node)
        if node and bmc.told_ironic != bmc.credential_id:
            self._tell_login(bmc, node)
        return node

    def _adopt(self, bmc: Bmc, node: Node | None) -> Result:
        waits = node is not None and node.provision_state in (
            "enroll",
            "manageable",
            "adopt failed",
        )
        again = waits and use_up_attempt(self.parts, bmc)
        driver, driver_info = ironic_driver(self.parts, bmc, self.parts.login(bmc))
        chosen = _interfaces(driver, bmc)
        return Adopting(self.parts, bmc, driver, driver_info, chosen, again).step(node)

    def _onward(self, bmc: Bmc, found: Node) -> Result:
        node = dress(self.parts.ironic, bmc, found)
        if node.provision_state in WORKING:
            return self._working(bmc, node)
        if node.provision_state in FAILED:
            return self._failed(bmc, node)
        match node.provision_state:
            case "enroll":
                return self._manage(bmc, node)
            case "manageable":
                return self._manageable(bmc, node)
            case "available":
                return self._available(bmc, node)
            case state:
                return Done(f"is {state}")

    def _forget(self, bmc: Bmc) -> Result:
        node = self.parts.ironic.find_node(bmc.node)
        if node and node.provision_state in WORKING:
            return Wait(f"forgotten once Ironic is done: {node.provision_state}", 5.0)
        if node and bmc.adoption.get("protected"):
            self.parts.ironic.patch_node(bmc.node, {"/protected": False})
        self.parts.ironic.delete_node(bmc.node)
        with self.parts.store.write() as session:
            order = orders.open_for(session, bmc.node)
            if order:
                orders.close(session, order, "forgotten")
            for address in session.exec(select(Address).where(Address.node_uuid == bmc.node)).all():
                session.delete(address)
            keeping.forget_all(session, bmc.node)
            session.delete(session.get_one(Hold, bmc.node))
            rotation.forget(session, bmc)
            session.delete(session.get_one(Bmc, bmc.id))
            record(session, "bmc.forgotten", bmc.address, bmc.node_name or "")
        self.parts.serve_wire()
        return Done("forgotten")

    def _enroll(self, bmc: Bmc) -> Result:
        driver, driver_info = ironic_driver(self.parts, bmc, self.parts.login(bmc))
        properties = {"vendor": bmc.vendor}
        if bmc.firmware:
            properties["capabilities"] = f"boot_mode:{bmc.firmware}"
        node, new = self.parts.ironic.create_node(
            uuid=str(bmc.node),
            name=bmc.node_name,
            driver=driver,
            driver_info=driver_info,
            resource_class=bmc.resource_class,
            properties=properties,
            extra={"seed": {"bmc": str(bmc.id), "serial": bmc.serial}},
            **_interfaces(driver, bmc),
        )
        if not new:  # made before a crash, maybe with an older login
            self._tell_login(bmc, node)
            return self._onward(bmc, node)
        self._told(bmc)
        return self._manage(bmc, dress(self.parts.ironic, bmc, node), {})

    def _tell_login(self, bmc: Bmc, node: Node) -> None:
        """Ours is the truth of a login; Ironic's is written from it."""
        _, driver_info = ironic_driver(self.parts, bmc, self.parts.login(bmc))
        self.parts.ironic.patch_node(bmc.node, {"/driver_info": driver_info})
        if node.maintenance and node.maintenance_reason in (LOGIN_REFUSED, CHANGES_LOGIN):
            self.parts.ironic.set_maintenance(bmc.node, False)
        self._told(bmc)

    def _tell_while_held(self, bmc: Bmc) -> None:
        if bmc.login is Login.OK and bmc.told_ironic != bmc.credential_id:
            node = self.parts.ironic.find_node(bmc.node)
            if node and node.provision_state not in WORKING:
                self._tell_login(bmc, node)

    def _told(self, bmc: Bmc) -> None:
        with self.parts.store.write() as session:
            row = session.get_one(Bmc, bmc.id)
            row.told_ironic, row.trust = bmc.credential_id, trust_of(self.parts, bmc)

    def _manage(self, bmc: Bmc, node: Node, ports: dict[str, bool] | None = None) -> Result:
        """`ports`: what it has, where that is known."""
        if node.last_error and not use_up_attempt(self.parts, bmc):
            return self.give_up(bmc, node)
        known = self.parts.ironic.ports(bmc.node) if ports is None else ports
        for mac in set(bmc.macs) - known.keys():
            self.parts.ironic.create_port(bmc.node, mac)
        self._reserve(bmc, dict.fromkeys(bmc.macs, True) | known)
        self.parts.ironic.provision(bmc.node, "manage")
        return Wait("Ironic checks the BMC login", 1.0)

    def _manageable(self, bmc: Bmc, node: Node) -> Result:
        stays = kept_by_a_person(node)
        if node.maintenance and not stays:
            self.parts.ironic.set_maintenance(bmc.node, False)
        if stays and wants(bmc, node):
            return stays
        if not inspected(bmc, node):
            return self._inspect(bmc, node)
        self._learn(bmc, node, self.parts.ironic.inventory(bmc.node) or {})
        self._close(bmc, OrderKind.INSPECT)
        if bmc.goal is not BmcGoal.AVAILABLE:
            return Done(f"inspected; `seed node provide {bmc.node_name}` cleans and offers it")
        return self._clean(bmc, node)

    def _inspect(self, bmc: Bmc, node: Node) -> Result:
        self.parts.image(RAMDISK)  # Ironic would say so in words of its own
        self.parts.verify_identity(bmc, [])
        if not switched_off(self.parts, node):
            return Wait("switching it off")
        macs = self._reserve(bmc)
        self._order(bmc, OrderKind.INSPECT, macs)
        self.parts.ironic.provision(bmc.node, "inspect")
        return Wait("booting the ramdisk for inspection", 2.0)

    def _clean(self, bmc: Bmc, node: Node) -> Result:
        macs = self._reserve(bmc)
        self.parts.verify_identity(bmc, macs)  # first: a stranger is not even switched off
        self.parts.image(RAMDISK)
        if not switched_off(self.parts, node):
            return Wait("switching it off")
        kept = keeping.protect(self.parts, bmc, self.parts.ironic.node(bmc.node))
        with self.parts.store.write() as session:
            if not keeping.are(session, bmc, kept):
                return Wait("its kept disks changed")
            hold = session.get_one(Hold, bmc.node)
            orders.open_order(session, bmc, OrderKind.CLEAN, hold.generation, macs)
        self.parts.serve_wire()
        self.parts.ironic.provision(bmc.node, "provide")
        return Wait("booting the ramdisk for cleaning", 2.0)

    def _available(self, bmc: Bmc, node: Node) -> Result:
        self._close(bmc, OrderKind.CLEAN)
        if bmc.goal is BmcGoal.MANAGED and node.inspected and not inspected(bmc, node):
            self.parts.ironic.provision(bmc.node, "manage")
            return Wait("leaves the pool to be inspected again", 0.5)
        return Done("available")

    def _working(self, bmc: Bmc, node: Node) -> Result:
        with self.parts.store.read() as session:
            order = orders.open_for(session, bmc.node)
        if order and order.alarm:
            return stop(self.parts, order, self.parts.ironic.node(bmc.node))
        return Wait(waiting_for(node, order), 2.0)

    def _failed(self, bmc: Bmc, node: Node) -> Result:
        """A person looks first; `seed node retry` raises `attempt` and we go on."""
        if not use_up_attempt(self.parts, bmc):
            return self.give_up(bmc, node)
        self.parts.ironic.provision(bmc.node, "manage")
        return Wait("trying again", 1.0)

    def give_up(self, bmc: Bmc, node: Node) -> Stuck:
        with self.parts.store.write() as session:
            order = orders.open_for(session, bmc.node)
            alarm = order.alarm if order else ""
            if order:
                orders.close(session, order, "failed")
            if not alarm:
                past = orders.last(session, bmc.node, OrderKind.CLEAN)
                alarm = past.alarm if past else ""
        self.parts.serve_wire()
        why = alarm or node.last_error or "Ironic gives no reason"
        return Stuck(
            f"{node.provision_state}: {why}",
            f"Cure the cause, then `seed node retry {bmc.node_name}`.",
        )

    def _learn(self, bmc: Bmc, node: Node, inventory: dict[str, Any]) -> None:
        """What only the ramdisk could tell: MACs that the BMC does not know, boot mode, parts."""
        mode = (inventory.get("inventory", {}).get("boot") or {}).get("current_boot_mode") or ""
        properties = with_boot_mode(node, mode)
        if properties != node.properties:
            self.parts.ironic.patch_node(bmc.node, {"/properties": properties})
        ports = self.parts.ironic.ports(bmc.node)
        macs = sorted(ports)
        told = inventory_of(inventory).model_dump(mode="json")
        if (macs, mode or bmc.firmware, told) != (bmc.macs, bmc.firmware, bmc.ramdisk):
            with self.parts.store.write() as session:
                row = session.get_one(Bmc, bmc.id)
                row.macs, row.firmware = macs, mode or row.firmware
                row.ramdisk, row.ramdisk_at = told, now()
        self._reserve(bmc, ports)

    def _reserve(self, bmc: Bmc, ports: dict[str, bool] | None = None) -> list[str]:
        """Addresses for the NICs that may network-boot; their MACs. `ports`: if known already."""
        ports = self.parts.ironic.ports(bmc.node) if ports is None else ports
        macs = sorted(mac for mac, pxe in ports.items() if pxe)
        with self.parts.store.write() as session:
            for mac in macs:
                self.parts.pool.reserve(session, mac, bmc.node)
        return macs

    def _order(self, bmc: Bmc, kind: OrderKind, macs: list[str]) -> None:
        with self.parts.store.write() as session:
            hold = session.get_one(Hold, bmc.node)
            orders.open_order(session, bmc, kind, hold.generation, macs)
        self.parts.serve_wire()

    def _close(self, bmc: Bmc, kind: OrderKind) -> None:
        with self.parts.store.read() as session:
            if orders.open_for(session, bmc.node) is None:
                return
        with self.parts.store.write() as session:
            order = orders.open_for(session, bmc.node)
            if order is None or order.kind is not kind:
                return
            order.ironic_done_at = now()
            orders.close(session, order, "done")
        self.parts.serve_wire()


def _rests(bmc: Bmc, node: Node) -> bool:
    """Is there nothing to do but to wait, or nothing at all?"""
    if node.provision_state in WORKING:
        return True
    wanted = node.provision_state == "available" and bmc.goal is BmcGoal.AVAILABLE
    return wanted and is_dressed(bmc, node)


def resting(session: Session, watch: Watch) -> set[UUID]:
    """Ids of BMCs for which there is nothing to do, by their rows and what was seen of their nodes.

    Columns only: 5,000 rows with their inventories are read in seconds.
    """
    changing = select(Rotation.bmc_id)
    busy = select(Order.node_uuid).where(col(Order.closed_at).is_(None))
    columns: tuple[Any, ...] = (
        Bmc.id, Bmc.node_uuid, Bmc.goal, Bmc.detail, Bmc.stale_inspection, Bmc.hardware_class,
        Bmc.resource_class, Bmc.classed, Hold.claim_id,
    )  # fmt: skip
    query = (
        select(*columns)
        .join(Hold, col(Hold.node_uuid) == col(Bmc.node_uuid))
        .where(
            Bmc.problem == "", Bmc.login == Login.OK, Bmc.told_ironic == Bmc.credential_id,
            col(Bmc.id).not_in(changing), col(Bmc.node_uuid).not_in(busy),
        )
    )  # fmt: skip
    return {
        row.id
        for row in session.exec(query)
        if (node := watch.seen(row.node_uuid)) and _said_to_rest(row, node)
    }


def _said_to_rest(row: Any, node: Node) -> bool:  # noqa: ANN401
    """Did a step say so before, and is its node as it was then?"""
    if row.claim_id is not None:
        return bool(row.detail == HELD)
    if not is_dressed(row, node):
        return False
    if row.goal is BmcGoal.AVAILABLE:
        return (row.detail, node.provision_state) == ("available", "available")
    at_rest = row.goal is BmcGoal.MANAGED and node.provision_state == "manageable"
    return at_rest and row.detail.startswith("inspected") and inspected(row, node)


def inspected(bmc: Bmc, node: Node) -> bool:
    """Did an inspection end well that still counts? Ironic forgets its time when one begins."""
    return node.inspected and node.inspected_at != bmc.stale_inspection


def _interfaces(driver: str, bmc: Bmc) -> dict[str, str]:
    known = Abilities.model_validate(bmc.abilities) if bmc.abilities else None
    return {c.interface: c.value for c in interfaces.choose(driver, known)}


def use_up_attempt(parts: Parts, bmc: Bmc) -> bool:
    """Did a person say "try again" since the last failure? Each such word counts once."""
    if bmc.attempt <= bmc.failed_attempt:
        return False
    with parts.store.write() as session:
        session.get_one(Bmc, bmc.id).failed_attempt = bmc.attempt
    return True


def switched_off(parts: Parts, node: Node) -> bool:
    """Off before an order opens: an agent of the last order that still runs would take its turn."""
    if node.power_state != "power on":
        return True
    if not node.reservation:
        parts.ironic.power(node.uuid, "power off")
    return False


def stop(parts: Parts, order: Order, node: Node) -> Wait:
    """Somebody else asked for this server's agent token: end what Ironic is doing."""
    if node.provision_state in ABORTABLE:
        parts.ironic.provision(node.uuid, "abort")
    return Wait(f"stopping: {order.alarm}", 1.0)


def kept_by_a_person(node: Node) -> Stuck | None:
    """Is it in a maintenance that neither Ironic (`fault`) nor Seed set? Only people end that."""
    ours = node.fault or node.maintenance_reason in OUR_MAINTENANCE
    if ours or not node.maintenance:
        return None
    return Stuck(
        f"{node.name} is in maintenance: {node.maintenance_reason or 'no reason given'}",
        f"When it may go on: `baremetal node maintenance unset {node.name}`.",
    )


def wants(bmc: Bmc, node: Node) -> bool:
    """Something has to be done to a manageable node."""
    return not inspected(bmc, node) or bmc.goal is BmcGoal.AVAILABLE


def waiting_for(node: Node, order: Order | None) -> str:
    """The evidence so far, in a person's words."""
    if order is None:
        return node.provision_state
    if order.lookup_at:
        return f"{node.provision_state}: the ramdisk works"
    if order.agent_address:
        return f"{node.provision_state}: the ramdisk reported its inventory"
    return f"{node.provision_state}: no word from the ramdisk for {orders.age(order):.0f} s"
