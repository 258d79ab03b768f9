"""The reconciler's side of a claim: one state, one action, safe to repeat after kill -9.

requested -> allocated -> deploying -> proving -> active -> releasing -> cleaning -> released
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlmodel import Session, col, select

from provisioning import handout, holding, leasing, on_node, orders, rotation
from provisioning.enrollment import stop, switched_off, use_up_attempt, waiting_for
from provisioning.errors import SeedError
from provisioning.ironic import Node
from provisioning.models import Bmc, Claim, Hold, Order, now
from provisioning.outcome import Done, Move, Stuck, Wait
from provisioning.parts import Parts
from provisioning.secrets import digest
from provisioning.states import WORKING, ClaimState, OrderKind, Wanted
from provisioning.store import record
from provisioning.targets import Seat
from provisioning.targets.plain import PLUGIN as PLAIN

Outcome = Wait | Move | Stuck | Done

PROOF_SECONDS = 3600  # a first boot with firmware updates and a slow disk takes half of this
UNDEPLOY_FROM = frozenset({"active", "deploy failed", "wait call-back", "error", "deploy hold"})


@dataclass(frozen=True)
class Claiming:
    """Takes one claim one step on."""

    parts: Parts

    def step(self, claim: Claim) -> Outcome:
        changing = self._changing(claim)
        if changing:
            return Wait(f"the login of BMC {', '.join(changing)} is being changed", 1.0)
        over = leasing.is_over(claim) or leasing.ran_out(claim)
        giving_back = claim.wanted is Wanted.RELEASED or over
        if giving_back and claim.state not in (ClaimState.RELEASING, ClaimState.CLEANING):
            return self._begin_release(claim)
        steps: dict[ClaimState, Callable[[Claim], Outcome]] = {
            ClaimState.QUEUED: lambda _: Wait("waits in the queue", 5.0),
            ClaimState.RESERVED: self._begin_reserved,
            ClaimState.REQUESTED: self._allocate,
            ClaimState.ALLOCATED: self._deploy,
            ClaimState.DEPLOYING: self._watch,
            ClaimState.PROVING: self._prove,
            ClaimState.ACTIVE: lambda active: leasing.warn(self.parts.store, active),
            ClaimState.RELEASING: self._wait_for_undo,
            ClaimState.CLEANING: self._clean,
        }
        step = steps.get(claim.state)
        return step(claim) if step else Done()

    def _changing(self, claim: Claim) -> list[str]:
        ids = [bmc.id for _hold, bmc in self._seats(claim)]
        with self.parts.store.read() as session:
            return rotation.moving(session, ids)

    # --- there ----------------------------------------------------------------------------------

    def _begin_reserved(self, claim: Claim) -> Outcome:
        begin = claim.starts_at or now()
        if begin > now():
            left = (begin - now()).total_seconds()
            return Wait(f"begins {begin:%Y-%m-%d %H:%M} UTC", min(left + 0.1, 30.0))
        late = holding.begin_reserved(self.parts.store, claim, self.parts.turnaround)
        return Wait(f"its time has come; {late}", 5.0) if late else Move(ClaimState.REQUESTED)

    def _allocate(self, claim: Claim) -> Outcome:
        """Ironic's own lock on each held node. One refusal drops all, and we choose anew."""
        waiting = False
        for hold, _bmc in self._seats(claim):
            state, error = self.parts.ironic.allocate(
                claim.allocation_name(hold.position), hold.node_uuid, claim.resource_class
            )
            if state == "error":
                return self._choose_anew(claim, hold, error)
            waiting = waiting or state != "active"
        return Wait("Ironic locks the nodes", 0.5) if waiting else Move(ClaimState.ALLOCATED)

    def _choose_anew(self, claim: Claim, refused: Hold, error: str) -> Outcome:
        seats = self._seats(claim)
        for hold, _bmc in seats:
            self.parts.ironic.drop_allocation(claim.allocation_name(hold.position))
        with self.parts.store.write() as session:
            for hold, _bmc in seats:
                holding.let_go(session, session.get_one(Hold, hold.node_uuid))
            session.flush()
            record(
                session, "claim.refused-by-ironic", claim.id, error, project=claim.project,
                node=str(refused.node_uuid),
            )  # fmt: skip
            problem = holding.take_without(session, claim, refused.node_uuid, self.parts.turnaround)
        if problem:
            return Stuck(problem, f"`seed claim release {claim.name}`, then claim again.")
        return Wait("Ironic refused a node; chose anew", 0.5)

    def _deploy(self, claim: Claim) -> Outcome:
        for hold, bmc in self._seats(claim):
            node = self.parts.ironic.node(hold.node_uuid)
            if node.provision_state == "available":  # else: begun before a crash
                self._deploy_one(claim, hold, bmc)
        return Move(ClaimState.DEPLOYING)

    def _deploy_one(self, claim: Claim, hold: Hold, bmc: Bmc) -> None:
        macs = sorted(m for m, pxe in self.parts.ironic.ports(hold.node_uuid).items() if pxe)
        self.parts.verify_identity(bmc, macs)
        image = self.parts.image(claim.image)
        with self.parts.store.write() as session:
            if not self._ours(session, hold):
                return
            order = orders.open_order(session, bmc, OrderKind.DEPLOY, hold.generation, macs)
            token = self.parts.token(f"proof:{order.id}")
            order.proof_hash = digest(token)
            address = handout.boot_address(session, hold.node_uuid)
        if address is None:
            raise SeedError(
                f"{bmc.node_name} has no address", f"`seed node retry {bmc.node_name}`."
            )
        self.parts.serve_wire()
        seat = Seat(
            node_uuid=str(hold.node_uuid),
            hostname=claim.hostname(hold.position),
            network_data=self.parts.pool.network_data(address),
            phone_home=on_node.phone_home(
                f"{self.parts.gateway_url}/v1/phone-home", token, self.parts.gateway_ca.read_text()
            ),
        )
        disk = image.files["disk"]
        folder = f"{self.parts.boot_url}/images/{image.name}/{image.version}"
        self.parts.ironic.patch_node(
            hold.node_uuid,
            {
                "/instance_info": {
                    "image_source": f"{folder}/{disk.name}",
                    "image_os_hash_algo": "sha256",
                    "image_os_hash_value": disk.sha256,
                    "image_disk_format": image.format,
                    "image_type": "whole-disk",
                    **leasing.root_device_of(claim),
                }
            },
        )
        self.parts.ironic.provision(hold.node_uuid, "active", PLAIN.config_drive(claim, seat))

    def _watch(self, claim: Claim) -> Outcome:
        """Until Ironic says active of all."""
        details, unfinished = [], False
        for hold, bmc in self._seats(claim):
            node = self.parts.ironic.node(hold.node_uuid)
            order = self._order_of(hold)
            if order and order.alarm and node.provision_state in WORKING:
                return stop(self.parts, order, node)
            if node.provision_state == "active":
                self._ironic_done(hold)
            elif node.provision_state == "available":  # a crash came between two deploys
                self._deploy_one(claim, hold, bmc)
                unfinished = True
            elif node.provision_state in WORKING and not (order and order.alarm):
                unfinished = True
            else:
                return self._failed(claim, node, order)
            details.append(f"{bmc.node_name} {waiting_for(node, order)}")
        return Wait("; ".join(details)) if unfinished else Move(ClaimState.PROVING)

    def _failed(self, claim: Claim, node: Node, order: Order | None) -> Stuck:
        why = (order.alarm if order else "") or node.last_error or node.provision_state
        return Stuck(
            f"{node.name}: {why}",
            f"Look at its console, then `seed claim release {claim.name}` and claim again.",
        )

    def _prove(self, claim: Claim) -> Outcome:
        missing = []
        for hold, bmc in self._seats(claim):
            with self.parts.store.read() as session:
                order = orders.of_deploy(session, hold)  # closed already, after a crash below
            if order is None or order.proof is None:
                missing.append(bmc.node_name or "")
                if order and order.ironic_done_at and _older(order, PROOF_SECONDS):
                    return Stuck(
                        f"{bmc.node_name} is active but sent no proof for an hour",
                        "Look at its console: did it boot from disk, did cloud-init run?",
                    )
                continue
            wrong = _differs(claim, hold, bmc, order)
            if wrong:
                return Stuck(wrong, f"`seed claim release {claim.name}` gives it back.")
        if missing:
            return Wait(f"waiting for the proof of {', '.join(missing)}", 1.0)
        with self.parts.store.write() as session:
            for hold, _bmc in self._seats(claim):
                order = orders.open_for(session, hold.node_uuid)
                if order and order.kind is OrderKind.DEPLOY:
                    orders.close(session, order, "proved")
        self.parts.serve_wire()
        return Move(ClaimState.ACTIVE)

    # --- and back -------------------------------------------------------------------------------

    def _begin_release(self, claim: Claim) -> Outcome:
        if claim.state in (ClaimState.REQUESTED, *holding.WAITING):  # nothing was written anywhere
            return self._free(claim)
        for hold, bmc in self._seats(claim):
            node = self.parts.ironic.node(hold.node_uuid)
            if node.provision_state == "active" and node.power_state != "power off":
                self.parts.verify_identity(bmc, [])  # a stranger is not even switched off
                self.parts.ironic.power(hold.node_uuid, "power off")
        return Move(ClaimState.RELEASING)

    def _wait_for_undo(self, claim: Claim) -> Outcome:
        if claim.wanted is Wanted.ACTIVE and not leasing.is_over(claim):  # taken back, or renewed
            return self._keep(claim)
        until = leasing.undo_until(claim, self.parts.undo)
        if until and until > now():
            left = (until - now()).total_seconds()
            return Wait(f"off; can be taken back for {left:.0f} s more", min(left + 0.1, 5.0))
        return Move(ClaimState.CLEANING)

    def _keep(self, claim: Claim) -> Outcome:
        """Active again, if it was: else it goes on where it was."""
        proved = True
        for hold, bmc in self._seats(claim):
            with self.parts.store.read() as session:
                order = orders.of_deploy(session, hold)
            if self.parts.ironic.node(hold.node_uuid).provision_state == "active":
                self.parts.ironic.power(hold.node_uuid, "power on")
            else:
                proved = False
            if order is None or order.proof is None or _differs(claim, hold, bmc, order):
                proved = False
        return Move(ClaimState.ACTIVE if proved else ClaimState.DEPLOYING)

    def _clean(self, claim: Claim) -> Outcome:
        details: list[str] = []
        stuck: list[Stuck] = []
        for hold, bmc in self._seats(claim):  # one that is stuck does not keep the others dirty
            result = self._clean_one(hold, bmc)
            if isinstance(result, Stuck):
                stuck.append(result)
            elif isinstance(result, Wait):
                details.append(f"{bmc.node_name} {result.detail}")
        if stuck:
            return replace(stuck[0], seconds=2.0)
        if details:
            return Wait("; ".join(details))
        return self._free(claim)

    def _clean_one(self, hold: Hold, bmc: Bmc) -> Outcome:
        node = self.parts.ironic.node(hold.node_uuid)
        order = self._order_of(hold)
        if node.provision_state in UNDEPLOY_FROM and not node.reservation:
            if not switched_off(self.parts, node):
                return Wait("is switched off")
            macs = sorted(m for m, pxe in self.parts.ironic.ports(hold.node_uuid).items() if pxe)
            self.parts.verify_identity(bmc, macs)
            with self.parts.store.write() as session:
                if not self._ours(session, hold):
                    return Wait("is no longer ours")
                orders.open_order(session, bmc, OrderKind.CLEAN, hold.generation, macs)
            self.parts.serve_wire()
            self.parts.ironic.provision(hold.node_uuid, "deleted")
            return Wait("booting the ramdisk for cleaning")
        if order and order.alarm and node.provision_state in WORKING:
            return stop(self.parts, order, node)
        if node.provision_state == "available":
            self._ironic_done(hold)
            return Done()
        if node.provision_state in ("clean failed", "manageable"):
            return self._clean_again(hold, bmc, node, order)
        return Wait(waiting_for(node, order))

    def _clean_again(self, hold: Hold, bmc: Bmc, node: Node, order: Order | None) -> Outcome:
        """A failed clean is never retried into the pool by itself: a person says so."""
        if node.provision_state == "manageable":
            if not switched_off(self.parts, node):
                return Wait("is switched off")
            macs = sorted(m for m, pxe in self.parts.ironic.ports(hold.node_uuid).items() if pxe)
            self.parts.verify_identity(bmc, macs)
            self.parts.ironic.set_maintenance(hold.node_uuid, False)
            with self.parts.store.write() as session:
                orders.open_order(session, bmc, OrderKind.CLEAN, hold.generation, macs)
            self.parts.serve_wire()
            self.parts.ironic.provision(hold.node_uuid, "provide")
            return Wait("cleaning again")
        if use_up_attempt(self.parts, bmc):
            self.parts.ironic.provision(hold.node_uuid, "manage")
            return Wait("cleaning again")
        why = (order.alarm if order else "") or node.last_error
        return Stuck(
            f"{bmc.node_name} is not clean: {why}",
            f"Cure the cause, then `seed node retry {bmc.node_name}`. It is not offered till then.",
        )

    def _free(self, claim: Claim) -> Outcome:
        seats = self._seats(claim)
        for hold, _bmc in seats:
            self.parts.ironic.drop_allocation(claim.allocation_name(hold.position))
        with self.parts.store.write() as session:
            now_it = session.get_one(Claim, claim.id)
            if claim.state is not ClaimState.CLEANING and now_it.wish != claim.wish:
                return Wait("somebody wants it otherwise meanwhile", 0.1)
            holding.drop_bookings(session, claim)
            if leasing.ran_out(claim) and claim.wanted is Wanted.ACTIVE:
                record(session, "claim.ran-out", claim.id, claim.name, project=claim.project)
            for hold, _bmc in seats:
                row = session.get_one(Hold, hold.node_uuid)
                if row.claim_id == claim.id and row.generation == hold.generation:
                    order = orders.open_for(session, hold.node_uuid)
                    if order:
                        orders.close(session, order, "done")
                    holding.let_go(session, row)
        self.parts.serve_wire()
        return Move(ClaimState.RELEASED)

    # --- helpers --------------------------------------------------------------------------------

    def _seats(self, claim: Claim) -> list[tuple[Hold, Bmc]]:
        with self.parts.store.read() as session:
            rows = session.exec(
                select(Hold, Bmc)
                .where(Hold.claim_id == claim.id, Bmc.node_uuid == Hold.node_uuid)
                .order_by(col(Hold.position))
            ).all()
            return [(hold, bmc) for hold, bmc in rows]

    def _order_of(self, hold: Hold) -> Order | None:
        with self.parts.store.read() as session:
            order = orders.open_for(session, hold.node_uuid)
            return order if order and order.generation == hold.generation else None

    def _ours(self, session: Session, hold: Hold) -> bool:
        """Has nobody else taken the node since we read its hold?"""
        row = session.get_one(Hold, hold.node_uuid)
        return (row.claim_id, row.generation) == (hold.claim_id, hold.generation)

    def _ironic_done(self, hold: Hold) -> None:
        with self.parts.store.write() as session:
            order = orders.open_for(session, hold.node_uuid)
            if order is None or order.ironic_done_at or order.generation != hold.generation:
                return
            order.ironic_done_at = now()
            record(session, "node.ironic-done", hold.node_uuid, order.kind)
        self.parts.serve_wire()


def _older(order: Order, seconds: float) -> bool:
    done = order.ironic_done_at
    return done is not None and (now() - done).total_seconds() > seconds


def _differs(claim: Claim, hold: Hold, bmc: Bmc, order: Order) -> str:
    """What the server says of itself, against what was asked. Empty: the same."""
    proof = order.proof or {}
    wanted = claim.hostname(hold.position)
    if proof.get("hostname") != wanted:
        return f"{bmc.node_name} calls itself {proof.get('hostname')!r}, asked was {wanted!r}"
    missing = set(order.macs) - {n.get("mac", "").lower() for n in proof.get("nics", [])}
    if missing:
        return f"{bmc.node_name} has no NIC {', '.join(sorted(missing))}"
    status = (proof.get("cloud_init") or {}).get("status")
    if status != "done":
        return f"cloud-init on {bmc.node_name} ended as {status!r}"
    return ""
