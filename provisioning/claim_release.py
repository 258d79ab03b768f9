"""The way back of a claim: off, the undo window, cleaned, free.

active -> releasing -> cleaning -> released
"""

from dataclasses import dataclass, replace

from provisioning import disks, holding, keeping, leasing, orders
from provisioning.claim_seats import Outcome, Seats, differs, some
from provisioning.enrollment import (
    kept_by_a_person,
    stop,
    switched_off,
    use_up_attempt,
    waiting_for,
)
from provisioning.ironic import Node
from provisioning.models import Bmc, Claim, Hold, Order, now
from provisioning.outcome import Done, Move, Stuck, Wait
from provisioning.pool import WAITING
from provisioning.states import WORKING, ClaimState, OrderKind, Wanted
from provisioning.store import record

ON = "power on"
UNDEPLOY_FROM = frozenset({"active", "deploy failed", "wait call-back", "error", "deploy hold"})


@dataclass(frozen=True)
class Releasing(Seats):
    """Takes one claim that is given back one step on."""

    def begin(self, claim: Claim) -> Outcome:
        if claim.state in (ClaimState.REQUESTED, *WAITING):  # nothing was written anywhere
            return self._free(claim)
        leasing.record_over(self.parts.store, claim)
        self.parts.each(self._seats(claim), self._switch_off)
        return Move(ClaimState.RELEASING)

    def _switch_off(self, seat: tuple[Hold, Bmc]) -> None:
        hold, bmc = seat
        node = self.parts.ironic.node(hold.node_uuid)
        if node.provision_state == "active" and node.power_state != "power off":
            self.parts.verify_identity(bmc, [])  # a stranger is not even switched off
            self.parts.ironic.power(hold.node_uuid, "power off")

    def wait_for_undo(self, claim: Claim) -> Outcome:
        if claim.wanted is Wanted.ACTIVE and not leasing.is_over(claim):  # taken back, or renewed
            return self._keep(claim)
        until = leasing.undo_until(claim, self.parts.undo)
        if until and until > now():
            left = (until - now()).total_seconds()
            return Wait(f"off; can be taken back for {left:.0f} s more", min(left + 0.1, 5.0))
        return Move(ClaimState.CLEANING)

    def _keep(self, claim: Claim) -> Outcome:
        """Active again, if it was: else it goes on where it was."""
        answers = self.parts.each(self._seats(claim), lambda seat: self._keep_one(claim, *seat))
        return Move(ClaimState.ACTIVE if all(answers) else ClaimState.DEPLOYING)

    def _keep_one(self, claim: Claim, hold: Hold, bmc: Bmc) -> bool:
        """On again, if an image is on it; whether it was proved."""
        with self.parts.store.read() as session:
            order = orders.of_deploy(session, hold)
        if self.parts.ironic.node(hold.node_uuid).provision_state != "active":
            return False
        self.parts.ironic.power(hold.node_uuid, ON)
        if order is None or order.proof is None:
            return False
        return not differs(claim, hold, bmc, order)

    def clean(self, claim: Claim) -> Outcome:
        details: list[str] = []
        stuck: list[Stuck] = []
        seats = self._seats(claim)
        nodes = self.parts.seen_all([hold.node_uuid for hold, _bmc in seats])
        pairs = list(zip(seats, nodes, strict=True))
        results = self.parts.each(pairs, lambda pair: self._clean_or_wait(claim, *pair[0], pair[1]))
        for (_hold, bmc), result in zip(seats, results, strict=True):
            # One that is stuck does not keep the others dirty.
            if isinstance(result, Stuck):
                stuck.append(result)
            elif isinstance(result, Wait):
                details.append(f"{bmc.node_name} {result.detail}")
        if stuck:
            return replace(stuck[0], seconds=2.0)
        if details:
            return Wait(some(details))
        return self._free(claim)

    def _clean_or_wait(self, claim: Claim, hold: Hold, bmc: Bmc, seen: Node) -> Outcome:
        """Whoever acts asks Ironic once more."""
        order = self._order_of(hold)
        begun = order and order.kind is OrderKind.CLEAN and seen.provision_state in UNDEPLOY_FROM
        if seen.provision_state in WORKING and not (begun or (order and order.alarm)):
            return Wait(waiting_for(seen, order))
        return self._clean_one(claim, hold, bmc)

    def _clean_one(self, claim: Claim, hold: Hold, bmc: Bmc) -> Outcome:
        node = self.parts.ironic.node(hold.node_uuid)
        order = self._order_of(hold)
        if node.provision_state in UNDEPLOY_FROM and not node.reservation:
            return self._undeploy(claim, hold, bmc, node)
        if order and order.alarm and node.provision_state in WORKING:
            return stop(self.parts, order, node)
        if node.provision_state == "available":
            self._ironic_done(hold)
            return Done()
        if node.provision_state in ("clean failed", "manageable"):
            return self._clean_again(hold, bmc, node, order)
        return Wait(waiting_for(node, order))

    def _undeploy(self, claim: Claim, hold: Hold, bmc: Bmc, node: Node) -> Outcome:
        if not switched_off(self.parts, node):
            return Wait("is switched off")
        macs = sorted(m for m, pxe in self.parts.ironic.ports(hold.node_uuid).items() if pxe)
        self.parts.verify_identity(bmc, macs)
        if disks.keeps(claim):
            with self.parts.store.write() as session:
                if not self._ours(session, hold):
                    return Wait("is no longer ours")
                keeping.keep_for(session, claim, hold, bmc)
        kept = keeping.protect(self.parts, bmc, node)
        with self.parts.store.write() as session:
            if not self._ours(session, hold):
                return Wait("is no longer ours")
            if not keeping.are(session, bmc, kept):
                return Wait("its kept disks changed")
            orders.open_order(session, bmc, OrderKind.CLEAN, hold.generation, macs)
        self.parts.serve_wire()
        self.parts.ironic.provision(hold.node_uuid, "deleted")
        return Wait("booting the ramdisk for cleaning")

    def _clean_again(self, hold: Hold, bmc: Bmc, node: Node, order: Order | None) -> Outcome:
        """A failed clean is never retried into the pool by itself: a person says so."""
        if node.provision_state == "manageable":
            if stays := kept_by_a_person(node):
                return stays
            if not switched_off(self.parts, node):
                return Wait("is switched off")
            macs = sorted(m for m, pxe in self.parts.ironic.ports(hold.node_uuid).items() if pxe)
            self.parts.verify_identity(bmc, macs)
            if node.maintenance:
                self.parts.ironic.set_maintenance(hold.node_uuid, False)
            kept = keeping.protect(self.parts, bmc, replace(node, maintenance=False))
            with self.parts.store.write() as session:
                if not keeping.are(session, bmc, kept):
                    return Wait("its kept disks changed")
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
        self._drop(claim, seats)
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
