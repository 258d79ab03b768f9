"""The nodes of a claim go to another owner, Metal3 or an overcloud's Ironic, and come back.

Each has one owner at any time. Ironic off (maintenance) -> Seed off the BMCs (Login.LENT) -> lent;
and when the claim is released and its undo window is over: new logins on the BMCs, which the other
owner has not -> switched off -> maintenance off -> released as any claim. Until that is so the
claim does nothing else. Safe to be killed at any line: what is next is in the row.
"""

from contextlib import ExitStack
from typing import Final

from sqlmodel import Session, col, select

from provisioning import leasing, lent, rotation
from provisioning.claim_seats import Outcome, Seats, some
from provisioning.ironic import Node
from provisioning.lent import LEND, Lending
from provisioning.models import Bmc, Claim, now
from provisioning.outcome import Done, Stuck, Wait
from provisioning.room import Rotation
from provisioning.rotation import QUIET_SECONDS
from provisioning.states import ClaimState, LendingStep, Login, RotationStep, Wanted
from provisioning.store import record

LOOK_SECONDS: Final = 15.0
"""How often Ironic is looked at, whether its hands are still off."""
OFF: Final = "power off"
S = LendingStep
Result = Outcome | None


class Lender(Seats):
    """Takes one claim that is lent one step on."""

    def step(self, claim: Claim, giving_back: bool) -> Result:
        """None: it is not lent, or not any more."""
        with self.parts.store.read() as session:
            row = session.get(Lending, claim.id)
        if row is None:
            return None
        match row.step:
            case S.ASKED:
                return self._withdraw(claim, row) if giving_back else self._keep_off(claim, row)
            case S.QUIET:
                return self._withdraw(claim, row) if giving_back else self._let_go(claim, row)
            case S.LENT:
                return self._take(claim, row) if giving_back else self._guard(claim, row)
            case S.RETURNING:
                return self._returning(claim, row)
            case S.ROTATED:
                return self._switch_off(claim, row)
            case S.OFF:
                return self._finish(claim, row)

    # --- there ----------------------------------------------------------------------------------

    def _keep_off(self, claim: Claim, row: Lending) -> Outcome:
        pairs = self._nodes(claim)
        for _bmc, node in pairs:
            if node.provision_state != "active" or node.reservation:
                return Wait(f"lent once Ironic is done with {node.name}", 1.0)
            if node.maintenance and node.maintenance_reason != row.fence:
                return Stuck(
                    f"{node.name} is in maintenance: {node.maintenance_reason}",
                    f"When it may be lent: `baremetal node maintenance unset {node.name}`.",
                )
        self.parts.each(pairs, lambda pair: self._fence(pair[1], row))
        self._move(claim, S.QUIET)
        return Wait("Ironic is kept off its nodes", QUIET_SECONDS)

    def _let_go(self, claim: Claim, row: Lending) -> Outcome:
        """In one transaction: no BMC is spoken to from then on, and none while it is written."""
        if (left := QUIET_SECONDS - (now() - row.since).total_seconds()) > 0:
            return Wait("Ironic is kept off its nodes", left)
        with ExitStack() as talks:
            bmcs = [bmc for _hold, bmc in self._seats(claim)]
            if not all(talks.enter_context(self.parts.talks.alone(b.id, 0.0)) for b in bmcs):
                return Wait("waits until conversations with its BMCs have ended", 1.0)
            with self.parts.store.write() as session:
                if late := _not_now(session, claim):
                    return late
                for bmc in lent.bmcs_of(session, claim.id):
                    bmc.login = Login.LENT
                    session.add(bmc)
                _step(session, claim, S.LENT)
                record(
                    session, "claim.lent", claim.id, claim.name, who=row.asked_by,
                    project=claim.project,
                )  # fmt: skip
        return Wait(f"lent to {row.owner}", 0.0)

    def _guard(self, claim: Claim, row: Lending) -> Outcome:
        """People may end a maintenance: Ironic would force the power that it remembers."""
        warned = leasing.warn(self.parts.store, claim)
        seen = self.parts.seen_all([hold.node_uuid for hold, _bmc in self._seats(claim)])
        again = [self.parts.ironic.node(node.uuid) for node in seen if not _is_fenced(node, row)]
        loose = [node for node in again if not _is_fenced(node, row)]
        self.parts.each(loose, lambda node: self._fence(node, row))
        if loose:
            names = some([node.name for node in loose], ", ")
            with self.parts.store.write() as session:
                record(
                    session, "claim.fence-renewed", claim.id,
                    f"Ironic is kept off {names} again: {row.owner} has them",
                    project=claim.project,
                )  # fmt: skip
        return Done(f"lent to {row.owner}", seconds=min(LOOK_SECONDS, warned.seconds))

    def _withdraw(self, claim: Claim, row: Lending) -> Result:
        """Given back before anything was lent."""
        for _bmc, node in self._nodes(claim):
            self._unfence(node, row)
        self._forget(claim, "claim.lend-withdrawn")
        return None

    # --- and back -------------------------------------------------------------------------------

    def _take(self, claim: Claim, row: Lending) -> Outcome:
        """From here on nobody can have it otherwise: the other owner loses them."""
        until = leasing.undo_until(claim, self.parts.undo)
        if until and until > now():
            left = (until - now()).total_seconds()
            says = f"lent to {row.owner}; can be taken back for {left:.0f} s more"
            return Wait(says, min(left + 0.1, 5.0))
        leasing.record_over(self.parts.store, claim)
        with self.parts.store.write() as session:
            wish = session.get_one(Claim, claim.id)
            if wish.wish != claim.wish:
                return Wait("somebody wants it otherwise meanwhile", 0.1)
            wish.wanted, wish.undo_until = Wanted.RELEASED, now()
            session.add(wish)
            for bmc in lent.bmcs_of(session, claim.id):
                bmc.login = Login.OK
                session.add(bmc)
                if not row.keep_logins:
                    rotation.ask(session, bmc, row.asked_by)
            _step(session, claim, S.RETURNING)
            kind = f"claim.taken-from-{row.borrower}"
            record(session, kind, claim.id, claim.name, project=claim.project)
        return Wait(f"comes back from {row.owner}", 0.0)

    def _returning(self, claim: Claim, row: Lending) -> Outcome:
        with self.parts.store.read() as session:
            bmcs = lent.bmcs_of(session, claim.id)
            ids = [bmc.id for bmc in bmcs]
            changes = session.exec(select(Rotation).where(col(Rotation.bmc_id).in_(ids))).all()
        failed = [c for c in changes if c.step is RotationStep.FAILED and not row.keep_logins]
        lost = [c for c in changes if c.step is RotationStep.STUCK]
        for change in [*lost, *failed]:
            address = next(bmc.address for bmc in bmcs if bmc.id == change.bmc_id)
            anyway = (
                f"or, once it is let go there: `{LEND[row.borrower]} {claim.name} --keep-logins`."
            )
            remedy = change.remedy if change in lost else f"`seed bmc rotate {address}`; {anyway}"
            return Stuck(f"BMC {address} has no new login: {change.problem}", remedy, 5.0)
        if any(c.step is not RotationStep.FAILED for c in changes):
            return Wait(f"comes back from {row.owner}: its BMCs get new logins", 1.0)
        self._move(claim, S.ROTATED)
        return Wait(f"comes back from {row.owner}", 0.0)

    def _switch_off(self, claim: Claim, row: Lending) -> Outcome:
        """Asked of the BMC itself: what Ironic remembers is what was when they were lent."""
        pairs = self._nodes(claim)
        for bmc, node in pairs:
            if node.reservation:
                return Wait(f"{node.name} is switched off once Ironic lets go of it", 1.0)
            self.parts.verify_identity(bmc, [])  # a stranger is not even switched off
        self.parts.each(pairs, lambda pair: self.parts.ironic.power(pair[1].uuid, OFF))
        self._move(claim, S.OFF)
        return Wait(f"comes back from {row.owner}: switched off", 0.5)

    def _finish(self, claim: Claim, row: Lending) -> Result:
        pairs = self._nodes(claim)
        late = [node.name for _bmc, node in pairs if node.reservation or node.power_state != OFF]
        if late:
            return Wait(f"comes back from {row.owner}: switching off {some(late, ', ')}", 1.0)
        for _bmc, node in pairs:
            self._unfence(node, row)
        self._forget(claim, "claim.came-back")
        return None

    # --- tools ----------------------------------------------------------------------------------

    def _nodes(self, claim: Claim) -> list[tuple[Bmc, Node]]:
        """As Ironic has them now: what was seen before is not good enough to act by."""
        seats = self._seats(claim)
        nodes = self.parts.each(seats, lambda seat: self.parts.ironic.node(seat[0].node_uuid))
        return [(bmc, node) for (_hold, bmc), node in zip(seats, nodes, strict=True)]

    def _fence(self, node: Node, row: Lending) -> None:
        if not _is_fenced(node, row):
            self.parts.ironic.set_maintenance(node.uuid, True, row.fence)

    def _unfence(self, node: Node, row: Lending) -> None:
        """Only the maintenance that we set."""
        if _is_fenced(node, row):
            self.parts.ironic.set_maintenance(node.uuid, False)

    def _move(self, claim: Claim, step: LendingStep) -> None:
        with self.parts.store.write() as session:
            _step(session, claim, step)

    def _forget(self, claim: Claim, kind: str) -> None:
        with self.parts.store.write() as session:
            session.delete(session.get_one(Lending, claim.id))
            record(session, kind, claim.id, claim.name, project=claim.project)


def _is_fenced(node: Node, row: Lending) -> bool:
    return node.maintenance and node.maintenance_reason == row.fence


def _step(session: Session, claim: Claim, step: LendingStep) -> None:
    row = session.get_one(Lending, claim.id)
    row.step, row.since = step, now()
    session.add(row)


def _not_now(session: Session, claim: Claim) -> Outcome | None:
    """What changed since it was asked for; None: nothing."""
    wish = session.get_one(Claim, claim.id)
    if wish.wish != claim.wish or wish.state is not ClaimState.ACTIVE:
        return Wait("somebody wants it otherwise meanwhile", 0.1)
    for bmc in lent.bmcs_of(session, claim.id):
        change = session.get(Rotation, bmc.id)
        if change is not None and change.step is not RotationStep.FAILED:
            return Wait(f"lent once the login of BMC {bmc.address} is changed", 1.0)
        if bmc.login is not Login.OK:
            return Stuck(
                f"no login to BMC {bmc.address} works",
                f"Give one: `seed discover {bmc.address} --username U --password-stdin`.",
            )
    return None
