"""Sweep address ranges for BMCs: who answers Redfish or IPMI, and (with one login) who it is."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TypeVar
from uuid import UUID

import structlog
from sqlmodel import Session, col, select

from provisioning import choices, default_logins, models, neighbours, one_by_one, pinning
from provisioning.authority import fingerprint
from provisioning.bmc import Access, BmcProtocol, Contact, Identity
from provisioning.choices import Choice
from provisioning.errors import (
    BmcError,
    BmcLoginRefused,
    Conflict,
    HungUp,
    NotFound,
    SeedError,
    told,
)
from provisioning.models import Bmc, Credential, Discovery
from provisioning.ranges import addresses_of
from provisioning.room import Rotation
from provisioning.secrets import Sealer
from provisioning.states import BmcGoal, Login
from provisioning.store import Store, record
from provisioning.sweep import DEFAULT_RATE, Pace, expected_seconds, sweep
from provisioning.vault import in_vault

T = TypeVar("T")

log = structlog.get_logger()

LOGIN_TIMEOUT = 30.0  # seconds; real BMCs take up to 3 for a login
LOGINS_AT_ONCE = 64  # threads of one protocol, fewer where it says so
ROWS_AT_ONCE = 500  # in one transaction
PREFERENCE = ("redfish", "ipmi")  # of the protocols that one BMC speaks, the strongest first


def request(
    session: Session,
    ranges: list[str],
    credential: str | None,
    who: str,
    *,
    exclude: Sequence[str] = (),
    rate: float = DEFAULT_RATE,
    mac: str = "",
    defaults: bool = False,
) -> Discovery:
    """Write down a sweep. Raises Invalid for a range that cannot be, NotFound for the login.

    rate: addresses a second, 0: as fast as it goes. mac: who has the one address now (one_by_one).
    defaults: try what vendors ship.
    """
    addresses, pace = addresses_of(ranges, list(exclude)), Pace(rate)
    row = Discovery(
        ranges=ranges,
        exclude=list(exclude),
        options={"rate": rate, "seconds": round(expected_seconds(addresses, pace), 1)}
        | ({"defaults": True} if defaults else {}),
        addresses=len(addresses),
        asked_by=who,
    )
    if mac:
        row.options = row.options | {"mac": one_by_one.asked(session, addresses, mac)}
    if credential:
        row.credential_id = choices.named(session, credential).id
    session.add(row)
    count = f"{row.addresses} addresses"
    record(session, "discovery.requested", row.id, count, who=who, ranges=ranges)
    return row


@dataclass(frozen=True)
class Finder:
    """Does the sweeps. `access` opens a stored login."""

    store: Store
    protocols: dict[str, BmcProtocol]
    access: Callable[[Credential], Access]
    sealer: Sealer
    stopping: threading.Event = field(default_factory=threading.Event)
    """No login begins any more."""

    def run(self, discovery_id: UUID) -> None:
        """Probe all, then log in once to each that answered and is not known with this login."""
        with self.store.write() as session:
            row = session.get_one(Discovery, discovery_id)
            row.state = "running"
            credential = session.get(Credential, row.credential_id) if row.credential_id else None
        pace = Pace(float(row.options.get("rate", DEFAULT_RATE)))
        said = _Told(self.store, discovery_id)
        addresses = addresses_of(row.ranges, row.exclude)
        contacts = preferred(sweep(self.protocols.values(), addresses, pace, said))
        mac = str(row.options.get("mac", ""))
        if mac and contacts:
            with self.store.write() as session:
                one_by_one.make_room(session, contacts[0].address, mac)
        problems = self.take_in(contacts, credential, said)
        if row.options.get("defaults"):
            problems += self._guess(contacts, said)
        if any(isinstance(problem, HungUp) for problem in problems):
            return  # it is done anew when Seed is up again
        with self.store.write() as session:
            row = session.get_one(Discovery, discovery_id)
            if mac and contacts:
                one_by_one.keep(session, contacts[0].address, mac, row.asked_by)
            row.found = len(contacts)
            row.problems = [told(p) for p in problems]
            row.logged_in = len(_logged_in(session, [c.address for c in contacts]))
            row.state, row.ended_at = "done", models.now()
            row.progress = f"{row.found:,} found, {row.logged_in:,} with a working login"
            record(session, "discovery.done", row.id, f"{row.found} BMCs found", found=row.found)

    def take_in(
        self, contacts: list[Contact], credential: Credential | None, said: Callable[[str], None]
    ) -> list[SeedError]:
        """Keep what was seen, and log in once to whom the login is new. What a person must know."""
        problems: list[SeedError] = []
        due: list[Choice] = []
        opened, macs = _once(self.access), neighbours.macs()
        for begin in range(0, len(contacts), ROWS_AT_ONCE):
            with self.store.write() as session:
                own = choices.listed(session, macs)
                for contact, bmc in _rows(session, contacts[begin : begin + ROWS_AT_ONCE]):
                    candidates = [own.get(bmc.address), credential]
                    problem = _note(session, bmc, contact)
                    if problem is None and bmc.login is Login.OK:
                        _ask_vault_again(bmc, credential)
                        continue
                    choice = problem or choices.choose(contact, bmc, candidates, opened)
                    if isinstance(choice, SeedError):
                        problems.append(choice)
                    elif choice:
                        due.append(choice)
        return problems + self._log_in(due, said)

    def _log_in(self, due: list[Choice], said: Callable[[str], None]) -> list[SeedError]:
        def log_in(choice: Choice) -> SeedError | None:
            problem = self._logged_in_to(choice)
            ended.append(choice)
            said(f"logged in to {len(ended):,} of {len(due):,}")
            return problem

        ended: list[Choice] = []
        return self._each(log_in, [(choice.contact.protocol, choice) for choice in due])

    def _each(
        self, work: Callable[[T], SeedError | None], due: list[tuple[str, T]]
    ) -> list[SeedError]:
        """Do it for all, with as many threads as each one's protocol bears. What went wrong."""

        def unless_stopping(one: T) -> SeedError | None:
            return HungUp("") if self.stopping.is_set() else work(one)

        with ExitStack() as stack:
            pools = {
                name: stack.enter_context(
                    ThreadPoolExecutor(min(LOGINS_AT_ONCE, protocol.at_once), f"login-{name}")
                )
                for name, protocol in self.protocols.items()
            }
            tried = [pools[protocol].submit(unless_stopping, one) for protocol, one in due]
            return [problem for one in tried if (problem := one.result())]

    def _guess(self, contacts: list[Contact], said: Callable[[str], None]) -> list[SeedError]:
        """What vendors ship, within the budget, at those that no login opened yet."""
        macs = neighbours.macs()
        with self.store.read() as session:
            strangers = {
                bmc.address
                for bmc in session.exec(select(Bmc).where(Bmc.goal == BmcGoal.OBSERVED))
                if bmc.login is not Login.OK
            }
        due = [c for c in contacts if c.address in strangers]

        def guess(contact: Contact) -> SeedError | None:
            said(f"trying vendors' defaults at {contact.address}")
            return self._guess_one(contact, macs.get(contact.address, ""))

        return self._each(guess, [(contact.protocol, contact) for contact in due])

    def _guess_one(self, contact: Contact, mac: str) -> SeedError | None:
        maker = choices.maker(contact, self.protocols[contact.protocol], mac)
        if not maker:
            return NotFound(
                f"BMC {contact.address} does not tell who made it, so no default login was tried",
                f"Read its label: `seed discover {contact.address} --username U --password-stdin`.",
            )
        problem: SeedError | None = None
        for default in default_logins.of(maker):
            with self.store.write() as session:
                row = choices.kept_default(session, self.sealer, default)
                ((_, bmc),) = _rows(session, [contact])
                choice = choices.choose(contact, bmc, [row], self.access)
                if not isinstance(choice, Choice):
                    problem = choice
                    continue
                later = default_logins.spend(session, contact.address)
            if later is not None:
                return Conflict(
                    f"BMC {contact.address} had its {default_logins.TRIES} default logins in ten "
                    f"minutes; the next may be tried at {later:%H:%M:%S} UTC",
                    f"`seed discover {contact.address} --defaults` then, or read its label.",
                )
            problem = self._logged_in_to(choice)
            if problem is None or not isinstance(problem, BmcLoginRefused):
                return problem
        return problem

    def _logged_in_to(self, choice: Choice) -> SeedError | None:
        """One login at most."""
        contact, credential, access = choice.contact, choice.credential, choice.access
        with self.store.write() as session:
            ((_, bmc),) = _rows(session, [contact])
            # Written before the login: after a crash in between nobody tries it again.
            bmc.credential_id, bmc.login = credential.id, Login.REFUSED
            bmc.refused = [*bmc.refused, access.mark]
            bmc.problem = f"the login {credential.name!r} was tried and did not end"
        try:
            identity = self.protocols[contact.protocol].identify(contact, access, LOGIN_TIMEOUT)
        except SeedError as err:
            return self._refused(contact, access, err)
        except Exception as err:  # one lying BMC must not end the sweep of all others
            log.exception("bmc.nonsense", address=contact.address)
            return self._refused(contact, access, _nonsense(contact, err))
        self._known(contact, access, identity)
        return None

    def _refused(self, contact: Contact, access: Access, err: SeedError) -> SeedError:
        cause = None if isinstance(err, HungUp) else err
        log.warning("bmc.login", address=contact.address, problem=str(err), exc_info=cause)
        with self.store.write() as session:
            ((_, bmc),) = _rows(session, [contact])
            if not isinstance(err, BmcLoginRefused):  # it did not get as far as the password
                bmc.login = Login.NONE
                bmc.refused = [m for m in bmc.refused if m != access.mark]
            bmc.problem, bmc.remedy = str(err), err.remedy
            record(session, f"bmc.{err.code}", contact.address, str(err))
        return err

    def _known(self, contact: Contact, access: Access, identity: Identity) -> None:
        with self.store.write() as session:
            ((_, bmc),) = _rows(session, [contact])
            bmc.login, bmc.problem, bmc.remedy = Login.OK, "", ""
            bmc.refused = [m for m in bmc.refused if m != access.mark]
            if bmc.goal is not BmcGoal.OBSERVED:
                return  # accepted: its identity is what it was accepted as
            describe(bmc, identity)
            record(session, "bmc.found", contact.address, f"{identity.model} {identity.serial}")


def _ask_vault_again(bmc: Bmc, credential: Credential | None) -> None:
    """It may hold another password by now, which Ironic is told before it tries the old one."""
    if credential and credential.id == bmc.credential_id and in_vault(credential):
        bmc.told_ironic = None


def describe(bmc: Bmc, identity: Identity) -> None:
    bmc.vendor, bmc.model = identity.vendor, identity.model
    bmc.serial, bmc.system_uuid = identity.serial, identity.system_uuid
    bmc.system_id, bmc.manager_mac = identity.system_id, identity.manager_mac
    bmc.firmware = identity.firmware
    bmc.macs = list(identity.macs)


def _once(access: Callable[[Credential], Access]) -> Callable[[Credential], Access]:
    """Opens each login once: a thousand BMCs share one, and it may live in a vault."""
    opened: dict[UUID, Access] = {}

    def open_once(credential: Credential) -> Access:
        if credential.id not in opened:
            opened[credential.id] = access(credential)
        return opened[credential.id]

    return open_once


class _Told:
    """Writes down what a sweep does now, once a second at most."""

    def __init__(self, store: Store, discovery_id: UUID) -> None:
        self._store, self._id = store, discovery_id
        self._lock, self._at = threading.Lock(), 0.0

    def __call__(self, words: str) -> None:
        with self._lock:
            if time.monotonic() - self._at < 1.0:
                return
            self._at = time.monotonic()
        with self._store.write() as session:
            session.get_one(Discovery, self._id).progress = words


def preferred(contacts: Iterable[Contact]) -> list[Contact]:
    """One box, one record: of the protocols of one address the strongest, by address."""
    order = {name: place for place, name in enumerate(PREFERENCE)}
    best: dict[str, Contact] = {}
    for contact in sorted(contacts, key=lambda c: order.get(c.protocol, len(order))):
        best.setdefault(contact.address, contact)
    return sorted(best.values(), key=lambda c: (":" in c.address, ip_address(c.address)))


def _rows(session: Session, contacts: list[Contact]) -> list[tuple[Contact, Bmc]]:
    """Each contact's row, made where there is none."""
    wanted = [contact.address for contact in contacts]
    known = session.exec(select(Bmc).where(col(Bmc.address).in_(wanted))).all()
    rows = {bmc.address: bmc for bmc in known}
    for contact in contacts:
        if contact.address not in rows:
            rows[contact.address] = Bmc(address=contact.address, protocol=contact.protocol)
            session.add(rows[contact.address])
    return [(contact, rows[contact.address]) for contact in contacts]


def _note(session: Session, bmc: Bmc, contact: Contact) -> SeedError | None:
    """It was seen. An accepted BMC with another certificate stays as it was."""
    if bmc.goal is not BmcGoal.OBSERVED and bmc.fingerprint != contact.fingerprint:
        change = session.get(Rotation, bmc.id)
        wanted = fingerprint(change.certificate) if change and change.certificate else ""
        return None if contact.fingerprint == wanted else _changed(session, bmc, contact)
    bmc.seen_at = models.now()
    bmc.protocol = contact.protocol
    bmc.fingerprint, bmc.certificate = contact.fingerprint, contact.certificate
    bmc.offered = ""
    return None


def _nonsense(contact: Contact, cause: Exception) -> BmcError:
    error = BmcError(
        f"{contact.protocol} on BMC {contact.address} answered nonsense",
        f"Restart the BMC, then `seed discover {contact.address}`.",
    )
    error.__cause__ = cause
    return error


def _changed(session: Session, bmc: Bmc, contact: Contact) -> SeedError:
    changed = pinning.stranger(session, bmc, contact)
    bmc.problem, bmc.remedy = str(changed), changed.remedy
    return changed


def _logged_in(session: Session, addresses: list[str]) -> list[Bmc]:
    rows = session.exec(select(Bmc).where(Bmc.login == Login.OK)).all()
    return [b for b in rows if b.address in set(addresses)]
