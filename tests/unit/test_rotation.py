"""A BMC's change of login, killed anywhere: who is let in, and how many wrong logins it counted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Interface, ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr
from sqlmodel import Session, select

from provisioning import authority, discovery, logins, pinning, rotation
from provisioning.acceptance import OnAccept, accept
from provisioning.authority import fingerprint
from provisioning.bmc import Access, Contact, Identity, Lengths
from provisioning.enrollment import Enrollment
from provisioning.errors import (
    BmcBusy,
    BmcLoginRefused,
    BmcRefused,
    BmcUnreachable,
    Conflict,
    Invalid,
    NotFound,
    SeedError,
)
from provisioning.image import Image
from provisioning.logins import Trust, trust_of
from provisioning.models import Bmc, Claim, Credential, Discovery, Event, Hold, now
from provisioning.networks import Pool
from provisioning.outcome import Stuck, Wait
from provisioning.parts import Parts
from provisioning.room import Observation, Rotation
from provisioning.rotation import Rotating
from provisioning.rotation_turn import REASON, TRIES
from provisioning.secrets import Sealer, Unsealer, make_keys
from provisioning.states import ClaimState, Login, RotationStep
from provisioning.store import Store
from tests.fakes.crashing import NoWire, an_image
from tests.fakes.ironic import FakeIronic
from tests.fakes.pool import why_not
from tests.fakes.store import new_store

ADDRESS, FACTORY = "192.0.2.7", "factory"


class Death(BaseException):
    """As near to kill -9 as one process comes: nothing of ours catches it."""


def a_certificate(name: str, *addresses: str) -> str:
    """Self-signed, as factories ship them: with a name, and few with an address."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now() - timedelta(days=1)).not_valid_after(now() + timedelta(days=9))
    )  # fmt: skip
    if addresses:
        names = [x509.IPAddress(ip_address(a)) for a in addresses]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signed = builder.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


@dataclass
class OneBmc:
    """A BMC with one account; it counts who is refused, and can fall silent or lie."""

    name: str = "redfish"
    driver: str = "redfish"
    password: str = FACTORY
    wrong: int = 0
    lengths: Lengths = field(default_factory=lambda: Lengths(8, 40))
    says: dict[str, SeedError] = field(default_factory=dict)
    deaf: bool = False  # says yes to a new password and keeps the old one
    loses_answers: bool = False
    away: bool = False
    certificate: str = field(default_factory=lambda: a_certificate("bmc.factory.example"))
    shows: str | None = None  # what it shows instead of what was installed
    installed: int = 0
    key: ec.EllipticCurvePrivateKey | None = None
    during: Callable[[], None] = lambda: None

    async def probe(self, address: str, timeout: float) -> Contact | None:
        shown = Contact(address, self.name, fingerprint(self.certificate), self.certificate)
        return None if self.away else shown

    def identify(self, contact: Contact, access: Access, timeout: float) -> Identity:
        self._pinned(contact)
        self._log_in(access)
        return Identity("S-7", "u-7")

    def check_login(self, contact: Contact, access: Access, timeout: float) -> None:
        self._log_in(access)

    def password_lengths(self, contact: Contact, access: Access, timeout: float) -> Lengths:
        self._log_in(access)
        self._say("password_lengths")
        return self.lengths

    def set_password(
        self, contact: Contact, access: Access, new: SecretStr, timeout: float
    ) -> None:
        self._log_in(access)
        self._say("set_password")
        self.during()
        if not self.deaf:
            self.password = new.get_secret_value()
        if self.loses_answers:
            raise BmcUnreachable("it did not answer", "wait")

    def request_csr(self, contact: Contact, access: Access, timeout: float) -> str:
        self._pinned(contact)
        self._log_in(access)
        self._say("request_csr")
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whatever the BMC likes")])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name)
        signed = csr.sign(self.key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM).decode()

    def install_certificate(
        self, contact: Contact, access: Access, pem: str, timeout: float
    ) -> None:
        self._pinned(contact)
        self._log_in(access)
        self._say("install_certificate")
        self.installed += 1
        self.certificate = pem if self.shows is None else self.shows

    def driver_info(
        self, contact: Contact, identity: Identity, access: Access, ca_path: str
    ) -> dict[str, Any]:
        return {"password": access.password.get_secret_value(), "verify_ca": ca_path}

    def _pinned(self, contact: Contact) -> None:
        if contact.fingerprint != fingerprint(self.certificate):
            raise BmcUnreachable("its certificate changed", "wait")

    def _log_in(self, access: Access) -> None:
        if access.password.get_secret_value() != self.password:
            self.wrong += 1
            raise BmcLoginRefused(f"the BMC {ADDRESS} refused the login", "seed discover")

    def _say(self, what: str) -> None:
        if what in self.says:
            raise self.says[what]


class DyingStore(Store):
    """Dies right after the commit of chosen number, as kill -9 would."""

    left: int | None = None

    @contextmanager
    def write(self) -> Iterator[Session]:
        with super().write() as session:
            yield session
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Death


@dataclass
class Room:
    parts: Parts
    ironic: FakeIronic
    bmc: OneBmc
    unsealer: Unsealer

    def row(self) -> Bmc:
        with self.parts.store.read() as session:
            return session.exec(select(Bmc)).one()

    def change(self) -> Rotation | None:
        with self.parts.store.read() as session:
            return session.exec(select(Rotation)).first()

    def ask(self) -> None:
        with self.parts.store.write() as session:
            rotation.ask(session, session.exec(select(Bmc)).one(), "me")

    def run(self) -> Wait | Stuck | None:
        """Until it needs no more, or only a person or time can help."""
        result: Wait | Stuck | None = Wait("")
        for _ in range(5):
            result = Rotating(self.parts).step(self.row().id)
            if not isinstance(result, Wait):
                return result
        return result

    def kept(self) -> str:
        """The password Seed has for it."""
        with self.parts.store.read() as session:
            row = session.get_one(Credential, self.row().credential_id)
        return self.parts.access(row).password.get_secret_value()

    def back_to_factory_certificate(self, *addresses: str) -> None:
        self.bmc.certificate = a_certificate("bmc", *addresses)
        with self.parts.store.write() as session:
            row = session.exec(select(Bmc)).one()
            row.certificate = self.bmc.certificate
            row.fingerprint = fingerprint(row.certificate)

    def names(self) -> list[str]:
        with self.parts.store.read() as session:
            return sorted(c.name for c in session.exec(select(Credential)).all())


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """An accepted BMC with its node in Ironic and a login that others share."""
    make_keys(tmp_path / "key", tmp_path / "pub")
    unsealer, sealer = Unsealer(tmp_path / "key"), Sealer(tmp_path / "pub")
    store = new_store(tmp_path, DyingStore)
    ironic, bmc = FakeIronic(), OneBmc()
    authority.make(tmp_path / "ca.key", tmp_path / "ca.pem")
    ours = authority.Authority(tmp_path / "ca.key", tmp_path / "ca.pem")

    def access(row: Credential) -> Access:
        password = unsealer.open(row.sealed, f"credential:{row.id}")
        return Access(row.username, SecretStr(password), password)

    parts = Parts(
        store=store, ironic=ironic, protocols={"redfish": bmc}, access=access,  # type: ignore[arg-type]
        sealer=sealer, authority=ours,
        token=lambda purpose: purpose, boot=NoWire(), ca_dir=tmp_path, image=an_image,
        pool=Pool(IPv4Interface("192.0.2.1/24"), IPv4Address("192.0.2.50"),
                  IPv4Address("192.0.2.99")),
        boot_url="http://x", gateway_url="https://x", gateway_ca=tmp_path / "ca",
    )  # fmt: skip
    with store.write() as session:
        login = Credential(name="discover-1", username="admin", sealed=b"")
        login.sealed = sealer.seal(FACTORY, f"credential:{login.id}")
        session.add(login)
        session.flush()
        row = Bmc(
            address=ADDRESS, protocol="redfish", login=Login.OK, credential_id=login.id,
            serial="S-7", system_uuid="u-7", vendor="Lenovo",
            fingerprint=fingerprint(bmc.certificate), certificate=bmc.certificate,
        )  # fmt: skip
        session.add(row)
        session.add(Discovery(ranges=["x"], credential_id=login.id, state="done", ended_at=now()))
        accept(session, row, "node-7", "baremetal", "me", OnAccept.KEEP)
        node_uuid = row.node
    ironic.add("node-7", uuid=node_uuid, provision_state="manageable")
    return Room(parts, ironic, bmc, unsealer)


def test_a_change_ends_with_one_login_that_all_know(room: Room) -> None:
    room.ask()
    room.bmc.during = lambda: _in_maintenance(room)
    assert room.run() is None
    assert room.change() is None
    assert room.kept() == room.bmc.password != FACTORY
    node = room.ironic.nodes()[0]
    assert room.ironic.driver_infos[node.uuid]["password"] == room.bmc.password
    assert not node.maintenance
    row = room.row()
    assert row.told_ironic == row.credential_id
    assert room.bmc.wrong == 0
    assert len(room.names()) == 1, "the old one is forgotten, though a past sweep had it"


def _in_maintenance(room: Room) -> None:
    node = room.ironic.nodes()[0]
    assert (node.maintenance, node.maintenance_reason) == (True, REASON)


def test_killed_after_any_commit_it_ends_the_same(room: Room) -> None:
    """Also at the worst place, between "being set" and the setting: one wrong login, no more."""
    store = room.parts.store
    assert isinstance(store, DyingStore)
    died, before, most = 0, FACTORY, 0
    for commits in range(30):
        room.back_to_factory_certificate()
        room.ask()
        store.left = commits
        with suppress(Death):
            room.run()
        if store.left is not None:  # it came to its end before
            break
        died += 1
        wrong = room.bmc.wrong
        assert room.run() is None
        assert room.change() is None
        assert room.kept() == room.bmc.password != before, f"died after commit {commits}"
        assert not room.ironic.nodes()[0].maintenance
        most = max(most, room.bmc.wrong - wrong)
        assert room.bmc.wrong - wrong <= 1
        assert room.row().fingerprint == fingerprint(room.bmc.certificate)
        assert room.row().trust == Trust.SEED_CA
        before = room.bmc.password
    assert died >= 12
    assert most == 1


def test_a_lost_answer_is_looked_into(room: Room) -> None:
    room.bmc.loses_answers = True
    room.ask()
    assert room.run() is None
    assert room.kept() == room.bmc.password != FACTORY
    assert room.bmc.wrong == 0


def test_a_bmc_that_is_away_costs_no_try(room: Room) -> None:
    room.bmc.loses_answers = True
    room.bmc.during = lambda: setattr(room.bmc, "away", True)
    room.ask()
    assert isinstance(room.run(), Wait)
    change = room.change()
    assert change is not None
    assert (change.step, change.tries, room.bmc.wrong) == (RotationStep.SENT, 0, 0)
    room.bmc.away = False
    assert room.run() is None
    assert room.kept() == room.bmc.password


def test_neither_login_works_two_tries_in_all(room: Room) -> None:
    def somebody_else_changes_it() -> None:
        room.bmc.deaf, room.bmc.password = True, "somebody else's"

    room.bmc.during = somebody_else_changes_it
    room.ask()
    stuck = room.run()
    assert isinstance(stuck, Stuck)
    assert "refused both" in stuck.problem
    assert f"seed bmc rotate {ADDRESS}" in stuck.remedy
    for _ in range(3):
        assert isinstance(room.run(), Stuck)
    assert room.bmc.wrong == 2
    assert room.row().login is Login.REFUSED
    assert room.ironic.nodes()[0].maintenance, "Ironic stays off"
    with pytest.raises(BmcLoginRefused):
        room.parts.login(room.row())
    assert len(room.names()) == 2, "both stay: one of them may be the BMC's"
    room.ask()  # a person says so: both once more
    assert isinstance(room.run(), Stuck)
    assert room.bmc.wrong == 4


def test_two_tries_in_all_also_when_killed_between_them(room: Room) -> None:
    """Both logins are wrong, and it dies once, anywhere: the third one is never sent."""
    store = room.parts.store
    assert isinstance(store, DyingStore)
    room.bmc.loses_answers, room.bmc.deaf = True, True
    room.bmc.during = lambda: setattr(room.bmc, "password", "somebody else's")
    room.ask()
    assert isinstance(room.run(), Stuck)
    died = 0
    for commits in range(20):
        room.ask()  # a person: both once more
        before, store.left = room.bmc.wrong, commits
        with suppress(Death):
            room.run()
        if store.left is not None:
            break
        died += 1
        assert isinstance(room.run(), Stuck)
        assert room.bmc.wrong - before <= 2, f"died after commit {commits}"
    assert died >= 3


def test_the_right_login_given_by_a_person_ends_it(room: Room) -> None:
    room.bmc.during = lambda: setattr(room.bmc, "password", "somebody else's")
    room.bmc.deaf = True
    room.ask()
    assert isinstance(room.run(), Stuck)
    with room.parts.store.write() as session:  # as a sweep does whose login works
        row = session.exec(select(Bmc)).one()
        given = Credential(name="discover-2", username="admin", sealed=b"")
        given.sealed = room.parts.sealer.seal("somebody else's", f"credential:{given.id}")
        session.add(given)
        session.flush()
        row.credential_id, row.login = given.id, Login.OK
    assert room.ironic.nodes()[0].maintenance
    assert room.run() is None
    assert room.change() is None
    assert room.kept() == "somebody else's"
    Enrollment(room.parts)._tell_login(room.row(), room.ironic.nodes()[0])
    assert not room.ironic.nodes()[0].maintenance, "it is told, and let on again"


def test_a_bmc_that_cannot_keeps_its_login(room: Room) -> None:
    room.bmc.says["password_lengths"] = BmcRefused("it has no AccountService", "vendor's tool")
    room.ask()
    assert room.run() is None
    change = room.change()
    assert change is not None
    assert (change.step, change.problem) == (RotationStep.FAILED, "it has no AccountService")
    assert room.kept() == FACTORY
    assert not room.ironic.nodes()[0].maintenance
    assert room.parts.login(room.row()).password.get_secret_value() == FACTORY


@pytest.mark.parametrize("deaf", [False, True], ids=["says no", "says yes and keeps the old"])
def test_a_password_that_is_not_taken_changes_nothing(room: Room, deaf: bool) -> None:
    if deaf:
        room.bmc.deaf = True
    else:
        room.bmc.says["set_password"] = BmcRefused("too long", "vendor's tool")
    room.ask()
    assert room.run() is None
    change = room.change()
    assert change is not None
    assert change.step is RotationStep.FAILED
    assert room.kept() == room.bmc.password == FACTORY
    assert room.names() == ["discover-1"], "the candidate is forgotten"
    assert room.bmc.wrong == int(deaf)
    assert not room.ironic.nodes()[0].maintenance


def test_killed_while_it_fails_ironic_is_let_on_again(room: Room) -> None:
    store, died = room.parts.store, 0
    assert isinstance(store, DyingStore)
    room.bmc.says["set_password"] = BmcRefused("too long", "vendor's tool")
    for commits in range(20):
        room.ask()
        store.left = commits
        with suppress(Death):
            room.run()
        if store.left is not None:
            break
        died += 1
        assert room.run() is None
        change = room.change()
        assert change is not None
        assert change.step is RotationStep.FAILED
        assert not room.ironic.nodes()[0].maintenance, f"died after commit {commits}"
        assert room.kept() == room.bmc.password == FACTORY
        assert room.names() == ["discover-1"]
    assert died >= 5


def test_a_login_that_stopped_working_is_sent_once(room: Room) -> None:
    room.bmc.password = "changed by somebody"
    room.ask()
    with pytest.raises(BmcLoginRefused):
        room.run()
    assert room.row().login is Login.REFUSED
    room.run()
    assert room.bmc.wrong == 1
    assert isinstance(Enrollment(room.parts).step(room.row()), Stuck)
    assert room.bmc.wrong == 1


def test_passwords_a_bmc_takes_only_if_weak_are_not_set(room: Room) -> None:
    room.bmc.lengths = Lengths(4, 8)
    room.ask()
    assert room.run() is None
    change = room.change()
    assert change is not None
    assert "4 to 8 characters" in change.problem


# --- with others at work --------------------------------------------------------------------------


def test_nobody_else_logs_in_meanwhile(room: Room) -> None:
    def others() -> None:
        with pytest.raises(BmcBusy):
            room.parts.login(room.row())
        with room.parts.store.write() as session:
            claim = Claim(name="c", image="debian")
            why = why_not(session, claim, room.ironic.nodes()[0])
        assert why in ("its BMC's login is being changed", "it was not provided")

    room.bmc.during = others
    room.ask()
    assert room.run() is None


def test_it_waits_for_ironic_and_for_claims(room: Room) -> None:
    node = room.ironic.nodes()[0]
    room.ironic.change(node.uuid, provision_state="cleaning")
    room.ask()
    assert isinstance(room.run(), Wait)
    room.ironic.change(node.uuid, provision_state="active")
    with room.parts.store.write() as session:
        claim = Claim(name="c", image="debian", state=ClaimState.DEPLOYING)
        session.add(claim)
        session.flush()
        session.get_one(Hold, room.row().node).claim_id = claim.id
    waiting = room.run()
    assert isinstance(waiting, Wait)
    assert "until claim c rests" in waiting.detail
    assert not room.ironic.nodes()[0].maintenance
    with room.parts.store.write() as session:
        session.exec(select(Claim)).one().state = ClaimState.ACTIVE
    assert room.run() is None
    assert room.kept() == room.bmc.password != FACTORY


def test_a_persons_own_maintenance_stays(room: Room) -> None:
    uuid = room.ironic.nodes()[0].uuid
    room.ironic.set_maintenance(uuid, True, "new fan")
    room.ask()
    assert room.run() is None
    assert room.ironic.nodes()[0].maintenance_reason == "new fan"


def test_a_persons_maintenance_is_waited_for(room: Room) -> None:
    uuid = room.ironic.nodes()[0].uuid
    room.ironic.set_maintenance(uuid, True, "new fan")
    result = Enrollment(room.parts)._onward(room.row(), room.ironic.node(uuid))
    assert isinstance(result, Stuck)
    assert result.problem == "node-7 is in maintenance: new fan"
    assert room.ironic.node(uuid).maintenance_reason == "new fan"


@pytest.mark.parametrize(
    ("reason", "fault"), [(REASON, ""), ("the BMC refused its login", ""), ("", "clean failure")]
)
def test_a_maintenance_of_seeds_or_ironics_own_ends(room: Room, reason: str, fault: str) -> None:
    uuid = room.ironic.nodes()[0].uuid
    room.ironic.change(uuid, maintenance=True, maintenance_reason=reason, fault=fault)

    def unpublished(name: str) -> Image:
        raise NotFound(f"there is no image {name}", "seed image build ramdisk")

    with pytest.raises(NotFound):  # it goes on, and gets as far as that
        Enrollment(replace(room.parts, image=unpublished))._onward(
            room.row(), room.ironic.node(uuid)
        )
    assert not room.ironic.node(uuid).maintenance


def test_only_accepted_bmcs_with_a_login_that_works(room: Room) -> None:
    with room.parts.store.write() as session:
        stranger = Bmc(address="192.0.2.8", protocol="redfish")
        session.add(stranger)
        with pytest.raises(Conflict, match="Seed only looks at it"):
            rotation.ask(session, stranger, "me")
        row = session.exec(select(Bmc).where(Bmc.address == ADDRESS)).one()
        row.login = Login.REFUSED
        with pytest.raises(Conflict, match="does not work"):
            rotation.ask(session, row, "me")


def test_a_login_that_others_use_stays(room: Room) -> None:
    with room.parts.store.write() as session:
        login = session.exec(select(Credential)).one()
        session.add(Observation(source="packing-list", key="S-8", credential_id=login.id))
    room.ask()
    assert room.run() is None
    assert "discover-1" in room.names()


def test_in_an_emergency_every_login_of_a_bmc_can_be_read(room: Room) -> None:
    room.ask()
    assert room.run() is None

    def read() -> list[tuple[str, str]]:
        with room.parts.store.write() as session:
            found = logins.kept_for(session, ADDRESS, "root")
            return [(k.what, room.parts.access(k.credential).password) for k in found]  # type: ignore[misc]

    ((what, password),) = read()
    assert (what, password) == ("the login it has", SecretStr(room.bmc.password))
    with room.parts.store.write() as session:
        session.delete(session.exec(select(Hold)).one())
        session.delete(session.exec(select(Bmc)).one())
    ((what, password),) = read()
    assert (what, password) == ("of a BMC that was forgotten", SecretStr(room.bmc.password))
    with room.parts.store.read() as session:
        events = session.exec(select(Event).where(Event.kind == "bmc.login-revealed")).all()
    assert [(e.subject, e.who) for e in events] == [(ADDRESS, "root")] * 2
    with room.parts.store.write() as session, pytest.raises(NotFound):
        logins.kept_for(session, "192.0.2.99", "root")


@pytest.mark.parametrize(
    ("offered", "used"),
    [([0, 3, 17], "17"), ([0, 1, 2, 3], "3"), ([17], "17"), ([], "3"), (None, "3")],
)
def test_the_strongest_cipher_suite_offered_is_used(offered: list[int] | None, used: str) -> None:
    abilities = {} if offered is None else {"cipher_suites": offered}
    bmc = Bmc(address=ADDRESS, protocol="ipmi", abilities=abilities)
    assert logins.cipher_suite(bmc) == used


@pytest.mark.parametrize("offered", [[0], [0, 1, 2]])
def test_no_weaker_cipher_suite_is_used(offered: list[int]) -> None:
    bmc = Bmc(address=ADDRESS, protocol="ipmi", abilities={"cipher_suites": offered})
    with pytest.raises(BmcRefused, match="suites 0"):
        logins.cipher_suite(bmc)


# --- certificates ---------------------------------------------------------------------------------


def verify_ca(room: Room) -> str:
    told = room.ironic.driver_infos[room.ironic.nodes()[0].uuid]["verify_ca"]
    return Path(told).read_text() if told else ""


def test_a_factory_certificate_gives_way_to_one_of_ours(room: Room) -> None:
    assert trust_of(room.parts, room.row()) is Trust.NOTHING, "just a name"
    room.ask()
    assert room.run() is None
    row = room.row()
    assert row.fingerprint == fingerprint(room.bmc.certificate)
    assert room.parts.authority.signed(row.certificate, ADDRESS)
    assert not room.parts.authority.signed(row.certificate, "192.0.2.8"), "for this address only"
    assert row.trust == Trust.SEED_CA
    assert verify_ca(room) == room.parts.authority.pem
    before = room.bmc.installed
    room.ask()
    assert room.run() is None
    assert room.bmc.installed == before, "it has one already"


def test_a_bmc_that_takes_none_is_told_so(room: Room) -> None:
    room.bmc.says["request_csr"] = BmcRefused("it makes no certificate", "vendor's tool")
    room.ask()
    assert room.run() is None
    assert room.row().trust == Trust.NOTHING
    assert verify_ca(room) == "", "Ironic cannot verify it"
    assert room.kept() == room.bmc.password != FACTORY, "the login is changed all the same"


def test_a_factory_certificate_with_its_address_is_pinned_as_it_is(room: Room) -> None:
    room.back_to_factory_certificate(ADDRESS)
    room.bmc.says["install_certificate"] = BmcRefused("it keeps its certificate", "vendor's tool")
    room.ask()
    assert room.run() is None
    assert room.row().trust == Trust.OWN
    assert verify_ca(room) == room.bmc.certificate


def test_one_that_never_shows_it_keeps_the_old_pin(room: Room) -> None:
    room.bmc.shows = room.bmc.certificate
    room.ask()
    assert room.run() is None
    assert room.bmc.installed == TRIES
    assert room.row().fingerprint == fingerprint(room.bmc.certificate)


def test_a_sweep_in_between_finds_no_stranger(room: Room) -> None:
    """The BMC shows the new certificate already, our row has the old one still."""
    room.ask()
    new = a_certificate("bmc", ADDRESS)
    with room.parts.store.write() as session:
        bmc = session.exec(select(Bmc)).one()
        session.get_one(Rotation, bmc.id).certificate = new
        seen = Contact(ADDRESS, "redfish", fingerprint(new), new)
        assert discovery._note(session, bmc, seen) is None
        assert bmc.fingerprint == fingerprint(room.bmc.certificate), "not by a sweep"
        stranger = a_certificate("stranger", ADDRESS)
        problem = discovery._note(
            session, bmc, Contact(ADDRESS, "redfish", fingerprint(stranger), stranger)
        )
    assert "changed since it was accepted" in str(problem)


def test_a_strangers_certificate_gets_no_login(room: Room) -> None:
    room.bmc.shows = a_certificate("stranger", ADDRESS)
    room.ask()
    stuck = room.run()
    assert isinstance(stuck, Stuck)
    assert "neither its old one nor ours" in stuck.problem
    with pytest.raises(BmcBusy):
        room.parts.login(room.row())
    assert room.ironic.nodes()[0].maintenance


def by_the_remedy(room: Room, remedy: str) -> None:
    """What `seed bmc trust ADDRESS FINGERPRINT` does, as the remedy has it."""
    words = remedy.partition("`seed bmc trust ")[2].partition("`")[0].split()
    assert words[0] == ADDRESS
    with room.parts.store.write() as session:
        pinning.trust(session, session.exec(select(Bmc)).one(), words[1], "me")


def a_change_that_met_a_stranger(room: Room, after: str) -> Stuck:
    """Another certificate is shown from the chosen step on."""
    stranger = a_certificate("renewed", ADDRESS)

    def shows_another() -> None:
        room.bmc.certificate, room.bmc.during = stranger, lambda: None

    if after == "set_password":
        room.bmc.during, room.bmc.loses_answers = shows_another, True
    elif after == "install_certificate":
        room.bmc.shows = stranger
    else:
        shows_another()
    room.ask()
    stuck = room.run()
    assert isinstance(stuck, Stuck), room.change()
    room.bmc.shows, room.bmc.loses_answers = None, False
    return stuck


@pytest.mark.parametrize("after", ["maintenance", "set_password", "install_certificate"])
def test_a_renewed_certificate_is_trusted_and_the_change_goes_on(room: Room, after: str) -> None:
    """No login while a stranger answers; maintenance ends without the node being forgotten."""
    stuck, uuid = a_change_that_met_a_stranger(room, after), room.ironic.nodes()[0].uuid
    change = room.change()
    assert change is not None
    assert (change.problem, change.remedy) == (stuck.problem, stuck.remedy), "for people, too"
    assert isinstance(room.run(), Stuck), "and it stays so"
    assert (room.bmc.wrong, room.ironic.nodes()[0].maintenance) == (0, True)
    by_the_remedy(room, stuck.remedy)
    assert room.run() is None
    node = room.ironic.nodes()[0]
    assert (node.uuid, node.maintenance) == (uuid, False)
    assert room.kept() == room.bmc.password != FACTORY
    assert room.bmc.wrong == 0
    assert (room.row().trust, room.row().offered) == (Trust.SEED_CA, "")


def test_only_what_was_seen_is_trusted(room: Room) -> None:
    old, never_seen = room.row().fingerprint, "a" * 64

    def trust(told: str) -> None:
        with room.parts.store.write() as session:
            pinning.trust(session, session.exec(select(Bmc)).one(), told, "me")

    for told, kind, words in (
        ("no-hex", Invalid, "64 hex digits"),
        ("a" * 63, Invalid, "64 hex digits"),
        (never_seen, Conflict, "was not seen with that certificate"),
    ):
        with pytest.raises(kind, match=words) as error:
            trust(told)
        assert f"seed discover {ADDRESS}" in error.value.remedy
    room.bmc.certificate = a_certificate("renewed", ADDRESS)
    with pytest.raises(Conflict):
        room.parts.verify_identity(room.row(), [])
    with pytest.raises(Conflict, match="was not seen with that certificate"):
        trust(never_seen)
    assert room.row().fingerprint == old
    new = fingerprint(room.bmc.certificate)
    trust(":".join(new[i : i + 2] for i in range(0, 64, 2)).upper())
    trust(new)  # twice is once
    room.parts.verify_identity(room.row(), [])
    assert room.row().told_ironic is None, "it verifies by another certificate now"


def test_a_certificate_changed_between_check_and_order_stops_the_order(room: Room) -> None:
    room.bmc.says["request_csr"] = BmcRefused("it makes no certificate", "vendor's tool")
    room.parts.verify_identity(room.row(), [])
    room.bmc.certificate = a_certificate("stranger", ADDRESS)
    wrong = room.bmc.wrong
    with pytest.raises(Conflict, match=r"certificate of BMC 192\.0\.2\.7 changed") as error:
        room.parts.verify_identity(room.row(), [])
    assert "seed bmc forget" in error.value.remedy
    assert room.bmc.wrong == wrong


def test_what_is_no_request_is_not_signed(room: Room) -> None:
    with pytest.raises(BmcRefused, match="that is none"):
        room.parts.authority.sign("-----BEGIN NONSENSE-----", ADDRESS)
