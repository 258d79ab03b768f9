"""A claim's nodes go to Metal3 and come back: each has one owner, wherever Seed dies."""

from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import yaml
from pydantic import SecretStr
from sqlmodel import select

from provisioning import choices, lent, lent_ironic, metal3, rotation, survey
from provisioning.bmc import Access, Contact, Identity, Lengths
from provisioning.errors import BmcBusy, BmcLoginRefused, BmcRefused, Conflict, Invalid, NotFound
from provisioning.lent import Lending
from provisioning.models import Bmc, Claim, Credential, Event, Order
from provisioning.one_time import KeptDisk
from provisioning.room import Rotation
from provisioning.secrets import Sealer, Unsealer, make_keys
from provisioning.states import Borrower, ClaimState, LendingStep, Login, Wanted
from seed.reconciler import open_logins
from tests.fakes import metal3_crd
from tests.fakes.crashing import FakeBmc
from tests.fakes.life import UNDO, Clock, House, Killed, clock
from tests.unit.test_claims import a_spec

FIRST = "first-password"
REASON = Lending(claim_id=UUID(int=0)).fence


class Bmcs(FakeBmc):
    """All BMCs of the house: who is let in is told by the password that each has now."""

    def __init__(self) -> None:
        self.passwords: dict[str, str] = {}
        self.wrong = 0
        self.spoken_to: list[str] = []
        self.stubborn = False

    def _log_in(self, contact: Contact, access: Access) -> None:
        self.spoken_to.append(contact.address)
        if access.password.get_secret_value() != self.passwords.get(contact.address, FIRST):
            self.wrong += 1
            raise BmcLoginRefused("no", "no")

    def identify(self, contact: Contact, access: Access, timeout: float) -> Identity:
        self._log_in(contact, access)
        return super().identify(contact, access, timeout)

    def check_login(self, contact: Contact, access: Access, timeout: float) -> None:
        self._log_in(contact, access)

    def password_lengths(self, contact: Contact, access: Access, timeout: float) -> Lengths:
        self._log_in(contact, access)
        return Lengths(8, 40)

    def set_password(
        self, contact: Contact, access: Access, new: SecretStr, timeout: float
    ) -> None:
        self._log_in(contact, access)
        if self.stubborn:
            raise BmcRefused("it takes no new password", "Set it by hand.")
        self.passwords[contact.address] = new.get_secret_value()


class Room:
    """A small house with a claim of two nodes, whose BMCs' logins are really sealed."""

    def __init__(self) -> None:
        self.house, self.bmcs = House(3), Bmcs()
        private, public = self.house.folder / "master.key", self.house.folder / "master.pub"
        make_keys(private, public)
        self.sealer, self.access = Sealer(public), open_logins(Unsealer(private))
        with self.house.store.write() as session:
            for login in session.exec(select(Credential)).all():
                login.sealed = self.sealer.seal(FIRST, f"credential:{login.id}")
                session.add(login)
            for bmc in session.exec(select(Bmc)).all():
                bmc.protocol, bmc.system_id = "fake", "/redfish/v1/Systems/1"
                session.add(bmc)
        self.reborn()
        self.house.desk.request(a_spec("web", count=2), "p", "me", True)
        for _ in range(6):
            self.house.round()
        assert self.claim.state is ClaimState.ACTIVE

    def reborn(self) -> None:
        self.house.reconciler = self.house.a_life()
        parts = replace(
            self.house.reconciler.parts, protocols={"fake": self.bmcs}, access=self.access,
            sealer=self.sealer,
        )  # fmt: skip
        parts.__dict__["gang"] = self.house.reconciler.parts.__dict__["gang"]
        self.house.reconciler.parts = parts

    @property
    def claim(self) -> Claim:
        (found,) = self.house.rows(Claim)
        return found  # type: ignore[no-any-return]

    @property
    def lending(self) -> Lending | None:
        return next(iter(self.house.rows(Lending)), None)

    @property
    def ours(self) -> list[Bmc]:
        with self.house.store.read() as session:
            return lent.bmcs_of(session, self.claim.id)

    def lend(self, **how: Any) -> None:
        lent.ask(self.house.store, lambda s: self.house.desk.find(s, None, "web"), "olivia", **how)

    def step(self) -> None:
        """The claim, and its BMCs, as the reconciler takes them on; and time goes by."""
        Clock.at += timedelta(seconds=5)
        self.house.reconciler._claim(self.claim.id)
        for bmc in self.house.rows(Bmc):
            self.house.reconciler._bmc(bmc.id)

    def steps(self, until: Callable[[], bool], times: int = 30) -> None:
        for _ in range(times):
            if until():
                return
            self.step()
        raise AssertionError(f"{self.lending} {self.claim.detail} {self.claim.problem}")

    def is_lent(self) -> bool:
        return self.lending is not None and self.lending.step is LendingStep.LENT

    def release(self) -> None:
        with self.house.store.write() as session:
            claim = session.get_one(Claim, self.claim.id)
            claim.wanted, claim.undo_until = Wanted.RELEASED, Clock.at + UNDO
            session.add(claim)

    def node(self, bmc: Bmc) -> Any:
        return self.house.ironic.by_uuid[str(bmc.node_uuid)]

    def events(self, kind: str) -> list[Event]:
        return [event for event in self.house.rows(Event) if event.kind == kind]


@pytest.fixture
def room() -> Iterator[Room]:
    with clock():
        made = Room()
        try:
            yield made
        finally:
            made.house.close()


def objects(room: Room, **how: Any) -> tuple[metal3.Export, list[dict[str, Any]]]:
    with room.house.store.write() as session:
        claim = lent.find(session, "web")
        made = metal3.export(session, claim, room.access, "root", **({"namespace": "metal3"} | how))
    return made, list(yaml.safe_load_all(made.text.get_secret_value()))


# --- there ----------------------------------------------------------------------------------------


def test_ironic_is_kept_off_before_anybody_else_may_have_them(room: Room) -> None:
    room.lend()
    with pytest.raises(Conflict, match="on their way: asked"):
        objects(room)
    room.house.reconciler._claim(room.claim.id)
    assert {room.node(bmc).maintenance_reason for bmc in room.ours} == {REASON}
    room.house.reconciler._claim(room.claim.id)  # at once: a power sync may still go on
    assert room.lending
    assert room.lending.step is LendingStep.QUIET
    with pytest.raises(Conflict, match="on their way: quiet"):
        objects(room)
    room.steps(room.is_lent)
    assert {bmc.login for bmc in room.ours} == {Login.LENT}
    (told,) = room.events("claim.lent")
    assert told.who == "olivia"


def test_nobody_of_seeds_speaks_to_a_lent_bmc(room: Room) -> None:
    room.lend()
    room.steps(room.is_lent)
    bmc, before = room.ours[0], len(room.bmcs.spoken_to)
    Clock.at += timedelta(hours=2)
    with room.house.store.read() as session:
        assert bmc.id not in [identity for identity, _ in survey.due(session)]
    for ask in (survey.request, rotation.ask):
        with room.house.store.write() as session, pytest.raises(Conflict, match="another owner"):
            ask(session, session.get_one(Bmc, bmc.id), "me")
    with pytest.raises(BmcBusy, match="another owner's"):
        room.house.reconciler.parts.login(bmc)
    with pytest.raises(BmcBusy):
        room.house.reconciler.parts.verify_identity(bmc, [])
    (login,) = room.house.rows(Credential)
    refused = choices.choose(Contact(bmc.address, "fake"), bmc, [login], room.access)
    assert isinstance(refused, BmcLoginRefused)
    for _ in range(5):
        room.step()
    assert len(room.bmcs.spoken_to) == before
    other = next(b for b in room.house.rows(Bmc) if b.login is Login.OK)
    assert other.id in [i for i, _ in _due(room)], "the others are looked at as ever"


def _due(room: Room) -> list[tuple[UUID, str]]:
    with room.house.store.read() as session:
        return survey.due(session)


def test_a_maintenance_that_somebody_ends_is_begun_again(room: Room) -> None:
    room.lend()
    room.steps(room.is_lent)
    room.house.ironic.change(room.ours[0].node, maintenance=False, maintenance_reason="")
    room.house.work()
    room.step()
    assert room.node(room.ours[0]).maintenance_reason == REASON
    (told,) = room.events("claim.fence-renewed")
    assert "again" in told.message
    room.step()
    assert len(room.events("claim.fence-renewed")) == 1


def test_what_cannot_be_lent_is_refused_and_nothing_is_written(room: Room) -> None:
    bmc = room.ours[0]
    cases: list[tuple[type[Any], UUID, dict[str, Any], str]] = [
        (Bmc, bmc.id, {"login": Login.REFUSED}, "no login to BMC"),
        (Claim, room.claim.id, {"state": ClaimState.PROVING}, "only an active one"),
        (Claim, room.claim.id, {"wanted": Wanted.RELEASED}, "given back"),
        (Credential, bmc.credential_id or bmc.id, {"name": "vault:kv/x"}, "kept elsewhere"),
    ]
    for kind, identity, changes, says in cases:
        with room.house.store.write() as session:
            row = session.get_one(kind, identity)
            before = {name: getattr(row, name) for name in changes}
            for name, value in changes.items():
                setattr(row, name, value)
            session.add(row)
        with pytest.raises(Conflict, match=says):
            room.lend()
        assert room.lending is None
        with room.house.store.write() as session:
            row = session.get_one(kind, identity)
            for name, value in before.items():
                setattr(row, name, value)
            session.add(row)
    with room.house.store.write() as session:
        session.add(KeptDisk(node_uuid=bmc.node, serial="S1", why="evidence", kept_by="me"))
    with pytest.raises(Conflict, match="disks that are kept"):
        room.lend()
    assert room.lending is None


def test_given_back_before_it_was_lent_it_was_never_away(room: Room) -> None:
    room.lend()
    room.house.reconciler._claim(room.claim.id)
    room.release()
    room.house.reconciler._claim(room.claim.id)
    assert room.lending is None
    assert {room.node(bmc).maintenance for bmc in room.ours} == {False}
    assert {bmc.login for bmc in room.ours} == {Login.OK}
    assert room.claim.state is ClaimState.RELEASING


def test_an_overclouds_ironic_borrows_by_the_same_fence(room: Room) -> None:
    """One owner at any time: who has them is in the fence, the events and the refusals."""
    room.lend(to=Borrower.IRONIC)
    room.steps(room.is_lent)
    reason = "The overcloud's Ironic has this server until its claim is released"
    assert {room.node(bmc).maintenance_reason for bmc in room.ours} == {reason}
    assert room.claim.detail == "lent to the overcloud's Ironic"
    with pytest.raises(Conflict, match="the overcloud's Ironic has the nodes"):
        room.lend()
    with pytest.raises(Conflict, match="lent elsewhere: ironic"):
        objects(room)
    with room.house.store.read() as session:
        given = lent_ironic.graduates(session, lent.find(session, "web"))
    assert [node.name for node in given] == ["web-0", "web-1"]
    ours = room.ours
    room.release()
    Clock.at += UNDO
    room.steps(lambda: room.lending is None)
    assert {room.node(bmc).maintenance for bmc in ours} == {False}
    assert set(room.bmcs.passwords) == {bmc.address for bmc in ours}
    assert len(room.events("claim.taken-from-ironic")) == 1


# --- objects --------------------------------------------------------------------------------------


def test_the_objects_are_what_metal3_publishes(room: Room) -> None:
    room.lend()
    room.steps(room.is_lent)
    with room.house.store.write() as session:
        bmc = lent.bmcs_of(session, room.claim.id)[0]
        bmc.abilities, bmc.firmware = {"virtual_media": True}, "bios"
        bmc.certificate, bmc.trust = "PEM\n", "own"
        session.add(bmc)
        order = session.exec(select(Order).where(Order.node_uuid == bmc.node_uuid)).one()
        disks = [{"name": "sdb", "serial": "S9"}, {"name": "sda", "serial": "S7", "root": True}]
        order.proof = {**(order.proof or {}), "disks": [d | {"size_bytes": 1} for d in disks]}
        session.add(order)
    made, found = objects(room)
    assert [fault for document in found for fault in metal3_crd.faults(document)] == []
    assert [d["kind"] for d in found] == ["Secret", "BareMetalHost"] * 2
    secret, host = found[0], found[1]
    assert b64decode(secret["data"]["password"]).decode() == FIRST
    spec = host["spec"]
    assert host["metadata"]["name"] == "web-0"
    assert spec["bmc"] == {
        "address": f"redfish-virtualmedia://{bmc.address}/redfish/v1/Systems/1",
        "credentialsName": secret["metadata"]["name"],
        "disableCertificateVerification": False,
    }
    assert spec["bootMACAddress"] == bmc.macs[0]
    assert spec["bootMode"] == "legacy"
    assert "externallyProvisioned" not in spec
    assert spec["rootDeviceHints"] == {"serialNumber": "S7"}
    assert host["metadata"]["labels"]["seed.claim"] == "web"
    assert (made.hosts, made.ca_pem) == (("web-0", "web-1"), "PEM\n")
    _, kept = objects(room, keeps_running=True)
    assert kept[1]["spec"]["externallyProvisioned"] is True


def test_the_check_of_that_is_strict(room: Room) -> None:
    room.lend()
    room.steps(room.is_lent)
    _, (secret, host, *_) = objects(room)
    spec, bmc = host["spec"], host["spec"]["bmc"]
    media = {**bmc, "address": "idrac-virtualmedia://192.0.2.9/r/1"}
    for broken in (
        {**host, "spec": {**spec, "bmc": {**bmc, "address": "idrac://192.0.2.9"}}},
        {**host, "spec": {"online": True, "bmc": media}},
        {**host, "spec": {**spec, "image": {"checksum": "0"}}},
        {**host, "spec": {**spec, "raid": {"softwareRAIDVolumes": [{"level": "5"}]}}},
        {**host, "metadata": {**host["metadata"], "name": str(room.claim.id)}},
        {**host, "spec": {**host["spec"], "bootMacAddress": "52:54:00:00:00:01"}},
        {**host, "spec": {**host["spec"], "bootMode": "bios"}},
        {**host, "spec": {k: v for k, v in host["spec"].items() if k != "online"}},
        {**host, "apiVersion": "metal3.io/v1beta1"},
        {**secret, "data": {"username": "dQ=="}},
    ):
        assert metal3_crd.faults(broken)


def test_passwords_are_shown_to_nobody_but_in_that_file(room: Room) -> None:
    room.lend()
    room.steps(room.is_lent)
    made, _ = objects(room)
    assert FIRST not in repr(made)
    (told,) = room.events("claim.exported")
    assert told.who == "root"
    written = repr([e.model_dump() for e in room.house.rows(Event)])
    assert FIRST not in written
    with pytest.raises(Invalid, match="namespace"):
        objects(room, namespace="../x")
    with room.house.store.read() as session, pytest.raises(NotFound):
        lent.find(session, "nobody")


@pytest.mark.parametrize(
    ("facts", "url"),
    [
        ({"protocol": "ipmi", "address": "192.0.2.9"}, "ipmi://192.0.2.9"),
        ({"protocol": "redfish", "address": "2001:db8::9"}, "redfish://[2001:db8::9]/r/1"),
        ({"protocol": "redfish", "vendor": "Dell Inc."}, "idrac-redfish://192.0.2.9/r/1"),
        ({"protocol": "redfish", "vendor": "Dell Inc.", "abilities": {"virtual_media": True}},
         "idrac-virtualmedia://192.0.2.9/r/1"),
        ({"protocol": "redfish", "abilities": {"virtual_media": True}},
         "redfish-virtualmedia://192.0.2.9/r/1"),
    ],
)  # fmt: skip
def test_a_bmcs_address_is_written_as_metal3_reads_it(facts: dict[str, Any], url: str) -> None:
    assert metal3.bmc_url(Bmc(**({"address": "192.0.2.9", "system_id": "/r/1"} | facts))) == url


# --- and back -------------------------------------------------------------------------------------


def test_a_release_waits_for_its_undo_window_and_can_be_taken_back(room: Room) -> None:
    room.lend()
    room.steps(room.is_lent)
    room.release()
    before = len(room.bmcs.spoken_to)
    room.step()
    assert room.is_lent()
    assert room.claim.detail.startswith("lent to Metal3; can be taken back")
    room.house.desk.take_back("p", "web", "me")
    Clock.at += UNDO
    room.step()
    assert room.is_lent()
    assert len(room.bmcs.spoken_to) == before
    assert room.claim.detail == "lent to Metal3"


def test_they_come_back_with_logins_that_metal3_has_not(room: Room) -> None:
    room.lend()
    room.steps(room.is_lent)
    _, (secret, *_) = objects(room)
    known = b64decode(secret["data"]["password"]).decode()
    for bmc in room.ours:  # the other owner did as it liked
        room.house.ironic.change(bmc.node, power_state="power off")
    room.release()
    Clock.at += UNDO
    back = room.ours
    room.steps(lambda: room.lending is None)
    for bmc in back:
        assert room.bmcs.passwords[bmc.address] not in (known, FIRST)
        assert not room.node(bmc).maintenance
        assert room.node(bmc).power_state == "power off"
    assert room.bmcs.wrong == 0
    for _ in range(10):
        room.house.round()
    assert room.claim.state is ClaimState.RELEASED
    assert {room.node(bmc).provision_state for bmc in back} == {"available"}
    assert {bmc.login for bmc in room.house.rows(Bmc)} == {Login.OK}
    assert not room.house.rows(Rotation)


@pytest.mark.parametrize("by", ["a person", "its lease"])
def test_nobody_keeps_the_claim_once_they_are_on_their_way_back(room: Room, by: str) -> None:
    room.house.desk.renew("p", "web", "me", lease_seconds=86400)
    room.lend()
    room.steps(room.is_lent)
    if by == "a person":
        room.release()
    else:
        Clock.at += timedelta(days=2)
    Clock.at += UNDO
    room.step()
    assert room.lending
    assert room.lending.step is LendingStep.RETURNING
    for keep in (
        lambda: room.house.desk.take_back("p", "web", "me"),
        lambda: room.house.desk.renew("p", "web", "me", lease_seconds=86400),
        lambda: room.house.desk.protect("p", "web", True, "me", ""),
    ):
        with pytest.raises(Conflict):
            keep()


def test_a_bmc_that_takes_no_new_login_keeps_the_claim_until_a_person_says_so(room: Room) -> None:
    room.lend()
    room.steps(room.is_lent)
    room.bmcs.stubborn = True
    room.release()
    Clock.at += UNDO
    for _ in range(10):
        room.step()
    assert room.lending
    assert room.lending.step is LendingStep.RETURNING
    assert "has no new login: it takes no new password" in room.claim.problem
    assert "--keep-logins" in room.claim.remedy
    room.lend(keep_logins=True)
    room.steps(lambda: room.lending is None)
    assert room.bmcs.passwords == {}


def test_a_lease_that_ends_takes_them_back(room: Room) -> None:
    room.house.desk.renew("p", "web", "me", lease_seconds=86400)
    room.lend()
    room.steps(room.is_lent)
    Clock.at += timedelta(days=2)
    room.steps(lambda: room.lending is None)
    assert len(room.bmcs.passwords) == 2


# --- killed anywhere ------------------------------------------------------------------------------


class Dying:
    """Each life ends at its nth effect; every second one is let live for a step."""

    def __init__(self, room: Room, number: int) -> None:
        self.room, self.number, self.seen, self.deaths = room, number, 0, 0

    def _dies(self, when: str, what: str, args: tuple[Any, ...]) -> None:
        self.seen += 1
        if self.seen == self.number:
            raise Killed

    def one_owner(self) -> None:
        lent_now = [bmc for bmc in self.room.house.rows(Bmc) if bmc.login is Login.LENT]
        assert len(lent_now) == (2 if self.room.is_lent() else 0)
        for bmc in lent_now:
            assert self.room.node(bmc).maintenance_reason == REASON

    def through(self, until: Callable[[], bool]) -> None:
        for _ in range(100):
            if until():
                return
            self.seen = 0
            self.room.house.store.hook = self._dies  # type: ignore[method-assign]
            try:
                self.room.step()
            except Killed:
                self.deaths += 1
            self.room.house.store.hook = lambda *_: None  # type: ignore[method-assign]
            self.one_owner()
            self.room.reborn()
            self.room.step()
            self.one_owner()
        raise AssertionError(f"{self.room.lending} {self.room.claim.problem}")


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6])
def test_killed_at_any_effect_each_node_has_one_owner(room: Room, number: int) -> None:
    dying = Dying(room, number)
    room.lend()
    dying.through(room.is_lent)
    room.release()
    Clock.at += UNDO
    dying.through(lambda: room.lending is None)
    assert dying.deaths > 2
    assert room.bmcs.wrong <= 2
    for _ in range(12):
        room.house.round()
        for bmc in room.house.rows(Bmc):
            room.house.reconciler._bmc(bmc.id)
    assert room.claim.state is ClaimState.RELEASED
