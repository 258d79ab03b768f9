"""What the steps of a change of login share: the rows of one step, and how it is left alone."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from provisioning import logins, pinning
from provisioning.bmc import Access, BmcProtocol, Contact
from provisioning.errors import BmcLoginRefused, SeedError
from provisioning.ironic import Node
from provisioning.models import Bmc, Credential
from provisioning.outcome import Stuck, Wait
from provisioning.parts import Parts, contact_of
from provisioning.room import Rotation
from provisioning.states import Login, RotationStep
from provisioning.store import record

TRIES: Final = 2
REASON: Final = "Seed changes the BMC's login"
PROBE_SECONDS: Final = 5.0
AGAIN_SECONDS: Final = 5.0

Result = Wait | Stuck | None
"""None: go on at once."""


@dataclass(frozen=True)
class Turn:
    """The two rows as they were read for one step."""

    bmc: Bmc
    rotation: Rotation

    @property
    def contact(self) -> Contact:
        return contact_of(self.bmc)


@dataclass(frozen=True)
class Turning:
    """Tools of a step."""

    parts: Parts

    def node(self, turn: Turn) -> Node | None:
        return self.parts.ironic.find_node(turn.bmc.node)

    def let_on(self, node: Node | None) -> None:
        """Only the maintenance that we set: a person's own stays."""
        if node and node.maintenance and node.maintenance_reason == REASON:
            self.parts.ironic.set_maintenance(node.uuid, False)

    def protocol(self, turn: Turn) -> BmcProtocol:
        return self.parts.protocols[turn.bmc.protocol]

    def old(self, turn: Turn) -> Access:
        return self.access(turn.bmc.credential_id)

    def access(self, credential_id: UUID | None) -> Access:
        with self.parts.store.read() as session:
            return self.parts.access(session.get_one(Credential, credential_id))

    def move(self, turn: Turn, step: RotationStep, tries: int | None = None) -> None:
        with self.parts.store.write() as session:
            row = session.get_one(Rotation, turn.bmc.id)
            row.step = step
            if step is not RotationStep.FAILED:  # of that one people read why
                row.problem = row.remedy = ""
            row.tries = row.tries if tries is None else tries

    def absent(self, turn: Turn) -> Result:
        """None: this BMC answers. Without a login, so that no try is spent on one that is away."""
        shown = self.parts.probe(turn.bmc.protocol, turn.bmc.address, PROBE_SECONDS)
        if shown is None:
            return Wait(f"BMC {turn.bmc.address} does not answer", AGAIN_SECONDS)
        return None if shown.fingerprint == turn.bmc.fingerprint else self.stranger(turn, shown)

    def stranger(self, turn: Turn, shown: Contact) -> Stuck:
        """It shows another certificate: the change stays where it is until a person has looked."""
        with self.parts.store.write() as session:
            row = session.get_one(Rotation, turn.bmc.id)
            changed = pinning.stranger(session, session.get_one(Bmc, row.bmc_id), shown, row)
            row.problem, row.remedy = str(changed), changed.remedy
        return Stuck(str(changed), changed.remedy)

    def fail(self, turn: Turn, err: SeedError, login: Login = Login.OK) -> Result:
        """The BMC has the login it had. The row stays, so that people can read why."""
        with self.parts.store.write() as session:
            row = session.get_one(Rotation, turn.bmc.id)
            candidate, row.candidate_id = row.candidate_id, None
            row.step, row.problem, row.remedy = RotationStep.FAILING, str(err), err.remedy
            session.get_one(Bmc, turn.bmc.id).login = login
            session.flush()
            logins.forget_unused(session, candidate)
            record(session, "bmc.login-kept", turn.bmc.address, str(err), remedy=err.remedy)
        return None

    def refused(self, turn: Turn, err: BmcLoginRefused) -> BmcLoginRefused:
        """The login we had stopped working: the caller keeps Ironic off, too."""
        self.fail(turn, err, Login.REFUSED)
        return err
