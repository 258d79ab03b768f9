"""Sweep address ranges for BMCs: who answers Redfish or IPMI, and (with one login) who it is."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlmodel import Session, select

from provisioning import models, networks
from provisioning.bmc import Access, BmcProtocol, Contact, Identity
from provisioning.errors import BmcError, BmcLoginRefused, Conflict, NotFound, SeedError, told
from provisioning.models import Bmc, Credential, Discovery
from provisioning.states import BmcGoal, Login
from provisioning.store import Store, record

log = structlog.get_logger()

PROBE_TIMEOUT = 2.0  # seconds for a BMC to answer without a login
AT_ONCE = 512  # addresses probed at the same time
LOGIN_TIMEOUT = 30.0  # seconds; real BMCs take up to 3 for a login
LOGINS_AT_ONCE = 16


def request(session: Session, ranges: list[str], credential: str | None, who: str) -> Discovery:
    """Write down a sweep. Raises Invalid for a range that cannot be, NotFound for the login."""
    count = len(networks.addresses_of(ranges))
    row = Discovery(ranges=ranges, addresses=count, asked_by=who)
    if credential:
        found = session.exec(select(Credential).where(Credential.name == credential)).first()
        if found is None:
            raise NotFound(
                f"no login is named {credential!r}",
                "Give one: `seed discover RANGE --username U --password-stdin`.",
            )
        row.credential_id = found.id
    session.add(row)
    record(session, "discovery.requested", row.id, f"{count} addresses", who=who, ranges=ranges)
    return row


@dataclass(frozen=True)
class Finder:
    """Does the sweeps. `access` opens a stored login."""

    store: Store
    protocols: dict[str, BmcProtocol]
    access: Callable[[Credential], Access]

    def run(self, discovery_id: UUID) -> None:
        """Probe all, then log in once to each that answered and is not known with this login."""
        with self.store.write() as session:
            row = session.get_one(Discovery, discovery_id)
            row.state = "running"
            credential = session.get(Credential, row.credential_id) if row.credential_id else None
        contacts = asyncio.run(self._probe_all(networks.addresses_of(row.ranges)))
        with ThreadPoolExecutor(LOGINS_AT_ONCE, thread_name_prefix="login") as pool:
            problems = list(pool.map(lambda c: self._take_in(c, credential), contacts))
        with self.store.write() as session:
            row = session.get_one(Discovery, discovery_id)
            row.found = len(contacts)
            row.problems = [told(p) for p in problems if p]
            row.logged_in = len(_logged_in(session, [c.address for c in contacts]))
            row.state, row.ended_at = "done", models.now()
            record(session, "discovery.done", row.id, f"{row.found} BMCs found", found=row.found)

    async def _probe_all(self, addresses: list[str]) -> list[Contact]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def probe(address: str) -> Contact | None:
            async with gate:
                answers = await asyncio.gather(
                    *(p.probe(address, PROBE_TIMEOUT) for p in self.protocols.values())
                )
                # One box, one record: a BMC that speaks both is kept as Redfish, the stronger.
                best = sorted((a for a in answers if a), key=lambda c: c.protocol != "redfish")
                return best[0] if best else None

        return [c for c in await asyncio.gather(*map(probe, addresses)) if c]

    def _take_in(self, contact: Contact, credential: Credential | None) -> SeedError | None:
        """Keep what was seen; one login at most. The answer is what a person must know."""
        access = self.access(credential) if credential else None
        with self.store.write() as session:
            bmc = _row(session, contact)
            if bmc.goal is not BmcGoal.OBSERVED and bmc.fingerprint != contact.fingerprint:
                return _changed(session, bmc)
            bmc.seen_at = models.now()
            bmc.protocol = contact.protocol
            bmc.fingerprint, bmc.certificate = contact.fingerprint, contact.certificate
            if credential is None or access is None or bmc.login is Login.OK:
                return None
            if access.mark in bmc.refused:
                return BmcLoginRefused(
                    f"BMC {bmc.address} refused this login before; it was not tried again",
                    f"Give another: `seed discover {bmc.address} --username U --password-stdin`; "
                    f"or, if it knows this one by now, first `seed bmc forget {bmc.address}`.",
                )
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
        log.warning("bmc.login", address=contact.address, problem=str(err), exc_info=err)
        with self.store.write() as session:
            bmc = _row(session, contact)
            if not isinstance(err, BmcLoginRefused):  # it did not get as far as the password
                bmc.login = Login.NONE
                bmc.refused = [m for m in bmc.refused if m != access.mark]
            bmc.problem, bmc.remedy = str(err), err.remedy
            record(session, f"bmc.{err.code}", contact.address, str(err))
        return err

    def _known(self, contact: Contact, access: Access, identity: Identity) -> None:
        with self.store.write() as session:
            bmc = _row(session, contact)
            bmc.login, bmc.problem, bmc.remedy = Login.OK, "", ""
            bmc.refused = [m for m in bmc.refused if m != access.mark]
            if bmc.goal is not BmcGoal.OBSERVED:
                return  # accepted: its identity is what it was accepted as
            describe(bmc, identity)
            record(session, "bmc.found", contact.address, f"{identity.model} {identity.serial}")


def describe(bmc: Bmc, identity: Identity) -> None:
    bmc.vendor, bmc.model = identity.vendor, identity.model
    bmc.serial, bmc.system_uuid = identity.serial, identity.system_uuid
    bmc.system_id, bmc.manager_mac = identity.system_id, identity.manager_mac
    bmc.firmware = identity.firmware
    bmc.macs = list(identity.macs)


def _row(session: Session, contact: Contact) -> Bmc:
    bmc = session.exec(select(Bmc).where(Bmc.address == contact.address)).first()
    if bmc is None:
        bmc = Bmc(address=contact.address, protocol=contact.protocol)
        session.add(bmc)
    return bmc


def _nonsense(contact: Contact, cause: Exception) -> BmcError:
    error = BmcError(
        f"{contact.protocol} on BMC {contact.address} answered nonsense",
        f"Restart the BMC, then `seed discover {contact.address}`.",
    )
    error.__cause__ = cause
    return error


def _changed(session: Session, bmc: Bmc) -> SeedError:
    bmc.problem = f"the certificate of BMC {bmc.address} changed since it was accepted"
    bmc.remedy = (
        f"Replaced or reset on purpose? `seed bmc forget {bmc.address}`, then discover it. "
        "Else unplug it and ask who did this."
    )
    record(session, "bmc.certificate-changed", bmc.address, bmc.problem)
    return Conflict(bmc.problem, bmc.remedy)


def _logged_in(session: Session, addresses: list[str]) -> list[Bmc]:
    rows = session.exec(select(Bmc).where(Bmc.login == Login.OK)).all()
    return [b for b in rows if b.address in set(addresses)]
