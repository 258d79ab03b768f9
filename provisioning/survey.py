"""Asking BMCs what their servers consist of and what they can do themselves, power untouched.

Every BMC with a working login is surveyed as soon as it has one, every ten minutes, and when a
person asks. What failed keeps the last inventory and its age, and says why.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlmodel import Session, col, or_, select

from provisioning import classify, discovery, quirks
from provisioning.bmc import Access, BmcProtocol, Survey
from provisioning.errors import BmcError, BmcLoginRefused, Conflict, HungUp, SeedError
from provisioning.models import Bmc, Credential, now
from provisioning.parts import Talks, contact_of
from provisioning.room import Rotation
from provisioning.states import MOVING, BmcGoal, Login, RotationStep
from provisioning.store import Store, record

log = structlog.get_logger()

EVERY = timedelta(minutes=10)
SURVEY_TIMEOUT = 90.0  # seconds for a whole conversation: a large server has a hundred resources
LOCATE_TIMEOUT = 30.0
AGAIN = 0.0  # the rows say when


# --- wishes, written by the API -------------------------------------------------------------------


def request(session: Session, bmc: Bmc, who: str) -> None:
    """Survey it now. Conflict where no login works."""
    _needs_login(bmc)
    bmc.survey_asked_at = now()
    session.add(bmc)
    record(session, "bmc.survey-asked", bmc.address, "", who=who)


def locate(session: Session, bmc: Bmc, on: bool, who: str) -> None:
    """Switch its server's locate LED. Conflict where no login works."""
    _needs_login(bmc)
    bmc.led_wanted, bmc.led_asked_at = "on" if on else "off", now()
    session.add(bmc)
    record(session, "bmc.locate-asked", bmc.address, bmc.led_wanted, who=who)


def _needs_login(bmc: Bmc) -> None:
    if bmc.login is Login.LENT:
        raise Conflict(
            f"BMC {bmc.address} is another owner's until its claim is released",
            "See which are: `seed metal3 list`.",
        )
    if bmc.login is not Login.OK:
        raise Conflict(
            f"no login to BMC {bmc.address} works",
            f"Give one: `seed discover {bmc.address} --username U --password-stdin`.",
        )


def waits(asked: Any, done: Any) -> bool:  # noqa: ANN401
    """Is a wish of this time still to be done?"""
    return asked is not None and (done is None or done < asked)


# --- what is due ----------------------------------------------------------------------------------


def due(session: Session) -> list[tuple[UUID, str]]:
    """Ids and protocols of BMCs whose survey is due."""
    return _reachable(session, _stale())


def led_due(session: Session) -> list[tuple[UUID, str]]:
    """Ids and protocols of BMCs whose locate LED is not as wanted."""
    return _reachable(session, _led_waits())


MAY_BE_ASKED: Any = (col(Bmc.login) == Login.OK, col(Bmc.goal) != BmcGoal.FORGOTTEN)


def _stale() -> Any:  # noqa: ANN401
    return or_(
        col(Bmc.survey_at).is_(None),
        col(Bmc.survey_at) < now() - EVERY,
        col(Bmc.survey_at) < col(Bmc.survey_asked_at),
    )


def _led_waits() -> Any:  # noqa: ANN401
    waiting = or_(col(Bmc.led_at).is_(None), col(Bmc.led_at) < col(Bmc.led_asked_at))
    return waiting & (col(Bmc.led_wanted) != "")


def _reachable(session: Session, condition: Any) -> list[tuple[UUID, str]]:  # noqa: ANN401
    """A BMC whose login is being changed is left alone: the old one may be refused by now."""
    changing = select(Rotation.bmc_id).where(col(Rotation.step) != RotationStep.FAILED)
    found = select(Bmc.id, Bmc.protocol).where(
        *MAY_BE_ASKED, col(Bmc.id).not_in(changing), condition
    )
    return [(identity, protocol) for identity, protocol in session.exec(found)]


def pools(protocols: Mapping[str, BmcProtocol]) -> dict[str, ThreadPoolExecutor]:
    """Threads for each protocol, as many as it bears."""
    return {
        name: ThreadPoolExecutor(protocol.at_once, thread_name_prefix=f"survey-{name}")
        for name, protocol in protocols.items()
    }


# --- doing it -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Surveyor:
    """Does the surveys. `access` opens a stored login; `refused` is told of one that failed."""

    store: Store
    protocols: dict[str, BmcProtocol]
    access: Callable[[Credential], Access]
    refused: Callable[[Bmc], None]
    talks: Talks = field(default_factory=Talks)

    def survey(self, bmc_id: UUID) -> float:
        """The answer is when to look again whether it is due, in seconds."""
        return self._turn(bmc_id, _stale(), self._survey)

    def locate(self, bmc_id: UUID) -> float:
        return self._turn(bmc_id, _led_waits(), self._locate)

    def _turn(self, bmc_id: UUID, waits: Any, work: Callable[[UUID], float]) -> float:  # noqa: ANN401
        """If it still waits, and its login was not refused, since this was put into the queue."""
        with self._alone(bmc_id) as mine:
            with self.store.read() as session:
                query = select(Bmc.id).where(*MAY_BE_ASKED, Bmc.id == bmc_id, waits)
                wanted = session.exec(query).first() is not None
            return work(bmc_id) if mine and wanted else AGAIN

    @contextmanager
    def _alone(self, bmc_id: UUID) -> Iterator[bool]:
        """Only while nobody changes its login, which does not begin meanwhile."""
        with self.talks.alone(bmc_id, 0.0) as mine:
            with self.store.read() as session:
                change = session.get(Rotation, bmc_id)
            yield mine and (change is None or change.step not in MOVING)

    def _survey(self, bmc_id: UUID) -> float:
        bmc, began = self._bmc(bmc_id), now()
        try:
            found = self._protocol(bmc).survey(contact_of(bmc), self._login(bmc), SURVEY_TIMEOUT)
        except HungUp:  # it stays due
            return AGAIN
        except Exception as err:
            self._failed(bmc, _as_ours(bmc, err))
            return AGAIN
        with self.store.write() as session:
            row = session.get(Bmc, bmc_id)
            if row is not None:  # else it was forgotten meanwhile
                row.survey_at, row.survey_problem, row.survey_remedy = began, "", ""
                note(session, row, found)
        return AGAIN

    def _locate(self, bmc_id: UUID) -> float:
        bmc, began = self._bmc(bmc_id), now()
        problem = ""
        try:
            on = bmc.led_wanted == "on"
            self._protocol(bmc).locate(contact_of(bmc), self._login(bmc), on, LOCATE_TIMEOUT)
        except HungUp:
            return AGAIN
        except Exception as err:
            ours = _as_ours(bmc, err)
            self._maybe_refused(bmc, ours)
            problem = str(ours)
        with self.store.write() as session:
            row = session.get(Bmc, bmc_id)
            if row is not None:
                row.led_at, row.led_problem = began, problem
                row.led = row.led if problem else bmc.led_wanted
                record(session, "bmc.located", bmc.address, problem or bmc.led_wanted)
        return AGAIN

    def _bmc(self, bmc_id: UUID) -> Bmc:
        with self.store.read() as session:
            return session.get_one(Bmc, bmc_id)

    def _protocol(self, bmc: Bmc) -> BmcProtocol:
        return self.protocols[bmc.protocol]

    def _login(self, bmc: Bmc) -> Access:
        with self.store.read() as session:
            return self.access(session.get_one(Credential, bmc.credential_id))

    def _failed(self, bmc: Bmc, err: SeedError) -> None:
        log.warning("survey.failed", address=bmc.address, problem=str(err), exc_info=err)
        self._maybe_refused(bmc, err)
        with self.store.write() as session:
            row = session.get(Bmc, bmc.id)
            if row is None:
                return
            if str(err) != row.survey_problem:
                record(session, f"bmc.survey-{err.code}", bmc.address, str(err))
            row.survey_at = now()
            row.survey_problem, row.survey_remedy = str(err), err.remedy

    def _maybe_refused(self, bmc: Bmc, err: SeedError) -> None:
        """Never tried again, unless it was another login by now."""
        if isinstance(err, BmcLoginRefused):
            with self.store.read() as session:
                row = session.get(Bmc, bmc.id)
            if row is not None and row.credential_id == bmc.credential_id:
                self.refused(row)


def note(session: Session, row: Bmc, found: Survey) -> None:
    """Write down what a survey brought. The first one after acceptance is what drift is told by."""
    before = row.inventory.get("health", "")
    row.inventory = found.inventory.model_dump(mode="json")
    row.inventory_at = now()
    row.abilities = quirks.applied(found.abilities, found.inventory).model_dump(mode="json")
    row.findings = [*found.findings, *_another_server(row, found)]
    if row.goal is BmcGoal.OBSERVED:
        discovery.describe(row, found.identity)
    elif not row.baseline:
        row.baseline = row.inventory
    health = found.inventory.health
    if health != before and (before or health != "OK"):
        message = f"health is {health or 'not told'}, it was {before or 'not known'}"
        record(session, "bmc.health", row.address, message)
    if row.goal not in (BmcGoal.OBSERVED, BmcGoal.FORGOTTEN):
        classify.judge(session, row)  # a part that was swapped is told, and kept back, at once
    session.add(row)


def _another_server(row: Bmc, found: Survey) -> list[str]:
    told = (found.identity.serial, found.identity.system_uuid)
    if row.goal is BmcGoal.OBSERVED or told == (row.serial, row.system_uuid):
        return []
    return [
        f"it shows the server {told[0] or 'without a serial'} ({told[1] or 'no UUID'}), "
        f"{row.node_name} was accepted as {row.serial} ({row.system_uuid or 'no UUID'})"
    ]


def _as_ours(bmc: Bmc, err: Exception) -> SeedError:
    """One lying BMC must not end the surveys of the others."""
    if isinstance(err, SeedError):
        return err
    log.error("bmc.nonsense", address=bmc.address, exc_info=err)
    nonsense = BmcError(
        f"{bmc.protocol} on BMC {bmc.address} answered nonsense",
        f"Restart the BMC, then `seed bmc inspect {bmc.address}`.",
    )
    nonsense.__cause__ = err
    return nonsense
