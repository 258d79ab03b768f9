"""What a reconcile step works with; wired by seed/appliance code, faked by tests."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from provisioning import holders, pinning, wire
from provisioning.authority import Authority
from provisioning.bmc import Access, BmcProtocol, Contact, Identity
from provisioning.errors import BmcBusy, BmcLoginRefused, Conflict, IronicUnavailable, NotFound
from provisioning.image import Image
from provisioning.ironic import Ironic, Node
from provisioning.kube_api import Transport, over_tls
from provisioning.models import Bmc, Credential
from provisioning.networks import Pool
from provisioning.playbooks import Playbooks
from provisioning.room import Rotation
from provisioning.secrets import Sealer, Unsealer
from provisioning.states import MOVING, Login
from provisioning.store import Store
from provisioning.watching import Watch
from provisioning.wire import BootService

Item = TypeVar("Item")
Result = TypeVar("Result")

GANG = 12
FEW = 3  # nodes that are asked for one by one
LOGIN_TIMEOUT = 30.0  # seconds
PROBE_TIMEOUT = 5.0
LOGIN_REFUSED = "the BMC refused its login"  # the maintenance that a login that works ends


@dataclass(frozen=True)
class Talks:
    """One conversation per BMC at a time, of those that must not meet a change of login."""

    _locks: dict[str, threading.Lock] = field(default_factory=dict)

    @contextmanager
    def alone(self, bmc_id: UUID, seconds: float) -> Iterator[bool]:
        """False: somebody else still talks to it after so many seconds."""
        lock = self._locks.setdefault(str(bmc_id), threading.Lock())
        mine = lock.acquire(timeout=seconds)
        try:
            yield mine
        finally:
            if mine:
                lock.release()


@dataclass(frozen=True)
class Parts:
    store: Store
    ironic: Ironic
    protocols: dict[str, BmcProtocol]
    access: Callable[[Credential], Access]
    """Opens a stored login: only the reconciler can."""
    sealer: Sealer
    authority: Authority
    token: Callable[[str], str]
    """A secret fixed by our key and a purpose."""
    pool: Pool
    boot: BootService
    ca_dir: Path
    """Where Ironic finds the certificates of BMCs."""
    image: Callable[[str], Image]
    boot_url: str
    gateway_url: str
    gateway_ca: Path
    unseal: Callable[[bytes, str], str] = Unsealer(Path("/nonexistent")).open
    """What was sealed for us: secret files of claims."""
    kube: Transport = over_tls
    """The way to a cluster's Kubernetes API."""
    talks: Talks = field(default_factory=Talks)
    undo: timedelta = timedelta(minutes=10)
    """How long a claim that ended by itself can be taken back."""
    playbooks: Mapping[str, Playbooks] = field(default_factory=dict)
    """Runs of Ansible, by environment: those that are installed here."""
    turnaround: timedelta = timedelta(hours=1)
    """How long after a claim its nodes count as free for a reservation."""
    answers: Callable[[str, int], bool] = holders.answers
    """Whether somebody serves at an address and a port already."""

    @cached_property
    def watch(self) -> Watch:
        """What Ironic's nodes were, seconds ago."""
        return Watch(self.store, self.ironic)

    def seen(self, uuid: object) -> Node:
        """The node for who waits: as it was within seconds and after all that we did to it."""
        return self.watch.seen(uuid) or self.ironic.node(uuid)

    def seen_all(self, uuids: Sequence[UUID]) -> list[Node]:
        """The same of many, by one call where it takes one."""
        if sum(self.watch.seen(uuid) is None for uuid in uuids) > FEW:
            self.watch.catch_up()
        return [self.seen(uuid) for uuid in uuids]

    @cached_property
    def gang(self) -> ThreadPoolExecutor:
        """For the nodes of a claim; `ironic` lets a few at a time through."""
        return ThreadPoolExecutor(GANG, thread_name_prefix="gang")

    def each(self, items: Iterable[Item], work: Callable[[Item], Result]) -> list[Result]:
        """`work` of every item, side by side. The first error is raised once all have ended."""
        going = [self.gang.submit(work, item) for item in items]
        wait(going)
        try:
            return [future.result() for future in going]
        except CancelledError as err:
            raise IronicUnavailable("Seed goes down", "It goes on with `seed up`.") from err

    def serve_wire(self) -> None:
        """Bring DHCP and boot files in line with the rows, before a server is told to boot."""
        with self.store.read() as session:
            state = wire.wanted(session)
        self.boot.serve(state)

    def probe(self, protocol: str, address: str, timeout: float) -> Contact | None:
        """Who answers there, without any login."""
        return asyncio.run(self.protocols[protocol].probe(address, timeout))

    def login(self, bmc: Bmc) -> Access:
        """The login this BMC has now. BmcBusy while it is being changed; never a refused one."""
        with self.store.read() as session:
            row = session.get(Bmc, bmc.id) or bmc
            rotation = session.get(Rotation, bmc.id)
            found = session.get(Credential, row.credential_id) if row.credential_id else None
        if rotation and rotation.step in MOVING:
            raise BmcBusy(
                f"the login of BMC {bmc.address} is being changed",
                f"See how far it is: `seed bmc show {bmc.address}`.",
            )
        if row.login is Login.LENT:
            raise BmcBusy(
                f"BMC {bmc.address} is another owner's until its claim is released",
                "See which are: `seed metal3 list`.",
            )
        if row.login is Login.REFUSED:
            raise BmcLoginRefused(
                f"BMC {bmc.address} refused its login; it is not sent again",
                f"Give the right one: `seed discover {bmc.address} --username U --password-stdin`.",
            )
        if found is None:
            raise NotFound(
                f"no login is kept for BMC {bmc.address}",
                f"Give one: `seed discover {bmc.address} --username U --password-stdin`.",
            )
        return self.access(found)

    def verify_identity(self, bmc: Bmc, macs: list[str]) -> None:
        """Ask the BMC who it is, right before a disk is touched. Conflict when it is not the same.

        A BMC that cannot name its serial and UUID proves nothing, so it is refused too.
        """
        found = self._identify(bmc)
        for what, told, known in _facts(bmc, found):
            if told != known:
                raise Conflict(
                    f"BMC {bmc.address} says {what} {told or 'nothing'}, "
                    f"{bmc.node_name} was accepted with {known or 'nothing'}",
                    "No disk was touched. If the server was swapped: `seed bmc forget "
                    f"{bmc.address}`, then discover it; else see which box hangs there.",
                )
        strangers = set(macs) - set(found.macs) if found.macs else set()
        if strangers:
            raise Conflict(
                f"BMC {bmc.address} does not know the boot NIC {', '.join(sorted(strangers))}",
                f"No disk was touched. Check the cabling, then `seed node retry {bmc.node_name}`.",
            )

    def _identify(self, bmc: Bmc) -> Identity:
        with self.talks.alone(bmc.id, LOGIN_TIMEOUT) as mine:
            if not mine:
                raise BmcBusy(
                    f"another conversation with BMC {bmc.address} goes on",
                    f"See what it does: `seed bmc show {bmc.address}`.",
                )
            access = self.login(bmc)
            with self.store.read() as session:
                now = session.get_one(Bmc, bmc.id)
            self._same_certificate(now)
            try:
                return self.protocols[now.protocol].identify(contact_of(now), access, LOGIN_TIMEOUT)
            except BmcLoginRefused:
                self.keep_ironic_off(now)
                raise

    def _same_certificate(self, bmc: Bmc) -> None:
        """Before any login, and before Ironic's: its own calls may not be pinned."""
        shown = self.probe(bmc.protocol, bmc.address, PROBE_TIMEOUT) if bmc.fingerprint else None
        if shown is not None and shown.fingerprint != bmc.fingerprint:
            with self.store.write() as session:
                changed = pinning.stranger(session, session.get_one(Bmc, bmc.id), shown)
            raise changed

    def keep_ironic_off(self, bmc: Bmc) -> None:
        """Its login no longer works: Ironic's power sync would lock the account."""
        with self.store.write() as session:
            session.get_one(Bmc, bmc.id).login = Login.REFUSED
        if bmc.node_uuid and self.ironic.find_node(bmc.node_uuid):
            self.ironic.set_maintenance(bmc.node_uuid, True, LOGIN_REFUSED)


def contact_of(bmc: Bmc) -> Contact:
    return Contact(bmc.address, bmc.protocol, bmc.fingerprint, bmc.certificate)


def _facts(bmc: Bmc, found: Identity) -> list[tuple[str, str, str]]:
    return [
        ("serial", found.serial, bmc.serial or "\0no serial was ever known"),
        ("UUID", found.system_uuid, bmc.system_uuid),
    ]
