"""What the steps of a change of login share: the rows of one step, and how it is left alone."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from provisioning import logins
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
            row.tries = row.tries if tries is None else tries

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
