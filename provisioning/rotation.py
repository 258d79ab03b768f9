"""A BMC's change of login: the take-over at acceptance, and `seed bmc rotate`. One mechanism.

Ironic off that BMC (maintenance) -> candidate kept, sealed -> set on the BMC -> log in with it ->
Ironic's driver_info -> promoted, the old one forgotten -> a certificate of Seed's CA, where the BMC
takes one -> maintenance off. Where a step's effect is unknown after a crash (RotationStep.SENT),
the candidate is tried first, then the old login: two tries in all, the count written before each.
Meanwhile nobody else logs in: Parts.login.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog
from sqlmodel import Session, col, select

from provisioning import lent, logins, passwords
from provisioning.bmc import Access
from provisioning.certifying import Certifying
from provisioning.errors import BmcError, BmcLoginRefused, BmcRefused, Conflict
from provisioning.ironic import Node
from provisioning.models import Bmc, Claim, Credential, Hold, now
from provisioning.outcome import Stuck, Wait
from provisioning.parts import LOGIN_TIMEOUT
from provisioning.room import Rotation
from provisioning.rotation_turn import (
    AGAIN_SECONDS,
    REASON,
    TRIES,
    Result,
    Turn,
    Turning,
)
from provisioning.states import MOVING, WORKING, BmcGoal, ClaimState, Login, RotationStep, Wanted
from provisioning.store import record

log = structlog.get_logger()

S = RotationStep
QUIET_SECONDS: Final = 3.0
"""For a power sync that had begun before the maintenance; Ironic begins no other one."""
RESTING: Final = frozenset({ClaimState.ACTIVE, ClaimState.FAILED})


def ask(session: Session, bmc: Bmc, who: str) -> None:
    """This BMC shall have a login that nobody else has. Asked twice, it is done once."""
    if bmc.goal is BmcGoal.OBSERVED:
        raise Conflict(
            f"BMC {bmc.address} is not accepted: Seed only looks at it",
            f"`seed bmc accept {bmc.address}` takes it over.",
        )
    if bmc.login is Login.LENT:
        raise Conflict(
            f"BMC {bmc.address} is another owner's until its claim is released",
            "It gets a new login then. See which are lent: `seed metal3 list`.",
        )
    row = session.get(Rotation, bmc.id)
    if row is not None and row.step in MOVING | {S.ASKED}:
        return
    if bmc.login is not Login.OK and (row is None or row.step is not S.STUCK):
        raise Conflict(
            f"the login of BMC {bmc.address} does not work, so it cannot be changed",
            f"Give the right one: `seed discover {bmc.address} --username U --password-stdin`.",
        )
    row = row or Rotation(bmc_id=bmc.id)
    # Stuck: a person says that both may be tried once more.
    row.step = S.SENT if row.step is S.STUCK else S.ASKED
    row.tries, row.problem, row.remedy = 0, "", ""
    row.asked_by, row.asked_at = who, now()
    session.add(row)
    record(session, "bmc.rotate-asked", bmc.address, bmc.node_name or "", who=who)


def moving(session: Session, bmc_ids: list[UUID]) -> list[str]:
    """Which of them are in the middle of it, by address."""
    query = select(Bmc.address).join(Rotation, col(Rotation.bmc_id) == col(Bmc.id))
    chosen = query.where(col(Bmc.id).in_(bmc_ids), col(Rotation.step).in_(MOVING))
    return sorted(session.exec(chosen).all())


def forget(session: Session, bmc: Bmc) -> None:
    """The BMC is let go. Both logins stay: one of them is the BMC's."""
    row = session.get(Rotation, bmc.id)
    if row is not None:
        session.delete(row)
        session.flush()


@dataclass(frozen=True)
class Rotating(Turning):
    """Takes one BMC's change on. Safe to repeat after a crash at any line."""

    def step(self, bmc_id: UUID) -> Result:
        """As far as it goes now; None when there is nothing more to change."""
        certifying = Certifying(self.parts)
        steps: dict[RotationStep, Callable[[Turn], Result]] = {
            S.ASKED: self._keep_off,
            S.QUIET: self._prepare,
            S.READY: self._send,
            S.SENT: self._find_out,
            S.TAKEN: self._prove,
            S.PROVED: self._tell,
            S.TOLD: self._promote,
            S.PROMOTED: certifying.certify,
            S.CERTIFYING: certifying.install,
            S.CERTIFIED: self._finish,
            S.FAILING: self._settle,
            S.STUCK: self._stay_stuck,
        }
        with self.parts.talks.alone(bmc_id, 0.0) as mine:
            while True:
                with self.parts.store.read() as session:
                    rotation = session.get(Rotation, bmc_id)
                    turn = Turn(session.get_one(Bmc, bmc_id), rotation) if rotation else None
                if turn is None or turn.rotation.step is S.FAILED:
                    return None
                if not mine:
                    return Wait("waits until another conversation with the BMC has ended")
                result = steps[turn.rotation.step](turn)
                if result is not None:
                    return result

    # --- the steps --------------------------------------------------------------------------------

    def _keep_off(self, turn: Turn) -> Result:
        node = self.node(turn)
        others = self._others(turn, node)
        if others:
            return Wait(others)
        if node and not node.maintenance:
            self.parts.ironic.set_maintenance(node.uuid, True, REASON)
        self.move(turn, S.QUIET)
        return Wait("Ironic is kept off the BMC", QUIET_SECONDS) if node else None

    def _prepare(self, turn: Turn) -> Result:
        node = self.node(turn)
        if self._others(turn, node):  # somebody was faster
            self.move(turn, S.ASKED)
            self.let_on(node)
            return Wait("waits for its turn")
        if absent := self.absent(turn):
            return absent
        try:
            old = self.old(turn)
            lengths = self.protocol(turn).password_lengths(turn.contact, old, LOGIN_TIMEOUT)
            password = passwords.generate(turn.bmc.vendor, old.username, lengths)
        except BmcLoginRefused as err:
            raise self.refused(turn, err) from err
        except BmcError as err:
            if err.retryable:
                raise
            return self.fail(turn, err)
        with self.parts.store.write() as session:
            row = Credential(name="", username=old.username, sealed=b"")
            address = turn.bmc.address.replace(":", "-")
            row.name = f"{logins.OUR_NAMES[1]}{address}-{row.id.hex[:8]}"
            row.sealed = self.parts.sealer.seal(password.get_secret_value(), f"credential:{row.id}")
            session.add(row)
            session.flush()
            rotation = session.get_one(Rotation, turn.bmc.id)
            rotation.candidate_id, rotation.step = row.id, S.READY
        return None

    def _send(self, turn: Turn) -> Result:
        new = self._candidate(turn)
        self.move(turn, S.SENT)
        try:
            self.protocol(turn).set_password(
                turn.contact, self.old(turn), new.password, LOGIN_TIMEOUT
            )
        except BmcLoginRefused as err:
            raise self.refused(turn, err) from err
        except BmcRefused as err:
            return self.fail(turn, err)
        except BmcError as err:  # lost on the way there, or on the way back
            log.warning("rotation.lost", address=turn.bmc.address, problem=str(err))
            return Wait(f"{err}: looking which login it has", AGAIN_SECONDS)
        self.move(turn, S.TAKEN, tries=0)
        return None

    def _find_out(self, turn: Turn) -> Result:
        """The request was sent, or not; it arrived, or not."""
        if absent := self.absent(turn):
            return absent
        if self._lets_in(turn, self._candidate(turn)):
            self.move(turn, S.PROVED)
        elif self._lets_in(turn, self.old(turn)):
            self.move(turn, S.READY)
        else:
            return self._give_up(turn)
        return None

    def _prove(self, turn: Turn) -> Result:
        if absent := self.absent(turn):
            return absent
        if self._lets_in(turn, self._candidate(turn)):
            self.move(turn, S.PROVED)
            return None
        if self._lets_in(turn, self.old(turn)):
            return self.fail(
                turn,
                BmcRefused(
                    f"BMC {turn.bmc.address} said yes to a new password and kept the old one",
                    "Update the BMC's firmware, or keep this login.",
                ),
            )
        return self._give_up(turn)

    def _tell(self, turn: Turn) -> Result:
        node = self.node(turn)
        if node:
            access = self._candidate(turn)
            _, driver_info = logins.ironic_driver(self.parts, turn.bmc, access)
            self.parts.ironic.patch_node(node.uuid, {"/driver_info": driver_info})
        self.move(turn, S.TOLD)
        return None

    def _promote(self, turn: Turn) -> Result:
        node = self.node(turn)
        with self.parts.store.write() as session:
            bmc = session.get_one(Bmc, turn.bmc.id)
            old, bmc.credential_id = bmc.credential_id, turn.rotation.candidate_id
            bmc.told_ironic = bmc.credential_id if node else None
            bmc.login, bmc.refused = Login.OK, []
            session.get_one(Rotation, bmc.id).step = S.PROMOTED
            session.flush()
            if old != bmc.credential_id:
                logins.forget_unused(session, old)
        return None

    def _finish(self, turn: Turn) -> Result:
        node = self.node(turn)
        if node:  # once more: what it verifies the certificate by may be another now
            _, driver_info = logins.ironic_driver(self.parts, turn.bmc, self.old(turn))
            self.parts.ironic.patch_node(node.uuid, {"/driver_info": driver_info})
        self.let_on(node)
        with self.parts.store.write() as session:
            session.get_one(Bmc, turn.bmc.id).trust = logins.trust_of(self.parts, turn.bmc)
            session.delete(session.get_one(Rotation, turn.bmc.id))
            record(
                session, "bmc.login-changed", turn.bmc.address, turn.bmc.node_name or "",
                who=turn.rotation.asked_by,
            )  # fmt: skip
        return None

    # --- which login has it? ----------------------------------------------------------------------

    def _lets_in(self, turn: Turn, access: Access) -> bool:
        with self.parts.store.write() as session:
            row = session.get_one(Rotation, turn.bmc.id)
            if row.tries >= TRIES:
                return False
            row.tries += 1
        try:
            self.protocol(turn).check_login(turn.contact, access, LOGIN_TIMEOUT)
        except BmcLoginRefused:
            return False
        return True

    # --- when it does not work --------------------------------------------------------------------

    def _give_up(self, turn: Turn) -> Stuck:
        address = turn.bmc.address
        stuck = Stuck(
            f"BMC {address} refused both its old and its new login; neither is tried again",
            f"`seed bmc rotate {address}` tries both once more; or give the one it has: "
            f"`seed discover {address} --username U --password-stdin`.",
        )
        with self.parts.store.write() as session:
            row = session.get_one(Rotation, turn.bmc.id)
            row.step, row.problem, row.remedy = S.STUCK, stuck.problem, stuck.remedy
            session.get_one(Bmc, turn.bmc.id).login = Login.REFUSED
            record(session, "bmc.login-lost", address, stuck.problem, remedy=stuck.remedy)
        return stuck

    def _settle(self, turn: Turn) -> Result:
        if turn.bmc.login is Login.OK:  # else its refusal keeps Ironic off
            self.let_on(self.node(turn))
        self.move(turn, S.FAILED)
        return None

    def _stay_stuck(self, turn: Turn) -> Result:
        if turn.bmc.login is not Login.OK:
            return Stuck(turn.rotation.problem, turn.rotation.remedy)
        with self.parts.store.write() as session:  # somebody gave the right one
            row = session.get_one(Rotation, turn.bmc.id)
            candidate = row.candidate_id
            session.delete(row)
            session.flush()
            logins.forget_unused(session, candidate)
        return None

    def _others(self, turn: Turn, node: Node | None) -> str:
        """Who works on the node now; empty: nobody."""
        if node and (node.provision_state in WORKING or node.reservation):
            return f"a new login waits until Ironic is done: {node.provision_state}"
        with self.parts.store.read() as session:
            hold = session.get(Hold, turn.bmc.node)
            claim = session.get(Claim, hold.claim_id) if hold and hold.claim_id else None
            if claim and lent.comes_back(session, claim.id):
                return ""
        if claim and (claim.state not in RESTING or claim.wanted is not Wanted.ACTIVE):
            return f"a new login waits until claim {claim.name} rests: it is {claim.state}"
        return ""

    def _candidate(self, turn: Turn) -> Access:
        return self.access(turn.rotation.candidate_id)
