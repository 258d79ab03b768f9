"""Vendors' default logins and those of lists: who is tried what, and never once too often."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlmodel import select

from provisioning import choices, default_logins, discovery, oui, passwords
from provisioning.bmc import Access, Contact, Identity
from provisioning.default_logins import TRIES, WINDOW
from provisioning.discovery import Finder
from provisioning.errors import BmcLoginRefused, Invalid, NotFound
from provisioning.models import Bmc, Credential, Discovery, now
from provisioning.room import LoginTry, Observation
from provisioning.secrets import Sealer, Unsealer, make_keys
from provisioning.states import Login
from provisioning.store import Store
from tests.fakes.store import new_store

ADDRESS = "192.0.2.7"


@dataclass
class Rack:
    """One BMC that says who made it, and counts each login it was sent."""

    made_by: str = "Dell Inc."
    login: tuple[str, str] = ("root", "calvin")
    name: str = "redfish"
    driver: str = "redfish"
    at_once: int = 4
    knock: None = None
    shout: None = None
    at_once: int = 16
    sent: Counter[tuple[str, str]] = field(default_factory=Counter)

    async def probe(self, address: str, timeout: float, line: Any = None) -> Contact | None:
        return Contact(address, self.name, "a" * 64, "PEM") if address == ADDRESS else None

    def heard(self, address: str) -> Contact | None:
        return None

    def maker(self, contact: Contact, timeout: float) -> str:
        if self.made_by == "a liar":
            raise RecursionError
        return self.made_by

    def identify(self, contact: Contact, access: Access, timeout: float) -> Identity:
        said = (access.username, access.password.get_secret_value())
        self.sent[said] += 1
        if said != self.login:
            raise BmcLoginRefused(f"the BMC {contact.address} refused the login", "seed discover")
        return Identity("S-7", "u-7")


@dataclass
class Site:
    store: Store
    sealer: Sealer
    unsealer: Unsealer

    def access(self, row: Credential) -> Access:
        password = self.unsealer.open(row.sealed, f"credential:{row.id}")
        return Access(row.username, SecretStr(password), f"{row.username}:{password}")

    def keep(self, name: str, username: str, password: str) -> Credential:
        row = Credential(name=name, username=username, sealed=b"")
        row.sealed = self.sealer.seal(password, f"credential:{row.id}")
        with self.store.write() as session:
            session.add(row)
        return row

    def sweep(self, rack: Rack, login: str | None = None, defaults: bool = False) -> Discovery:
        with self.store.write() as session:
            asked = discovery.request(session, [ADDRESS], login, "me", defaults=defaults)
        Finder(self.store, {"redfish": rack}, self.access, self.sealer).run(asked.id)  # type: ignore[dict-item]
        with self.store.read() as session:
            return session.get_one(Discovery, asked.id)

    def bmc(self) -> Bmc:
        with self.store.read() as session:
            return session.exec(select(Bmc)).one()

    def later(self) -> None:
        """Ten minutes go by."""
        with self.store.write() as session:
            for row in session.exec(select(LoginTry)).all():
                row.at -= WINDOW


@pytest.fixture
def site(tmp_path: Path) -> Site:
    make_keys(tmp_path / "key", tmp_path / "pub")
    store = new_store(tmp_path)
    return Site(store, Sealer(tmp_path / "pub"), Unsealer(tmp_path / "key"))


def test_only_who_asks_for_them_gets_them(site: Site) -> None:
    rack = Rack()
    assert site.sweep(rack).logged_in == 0
    assert rack.sent == {}
    assert site.sweep(rack, defaults=True).logged_in == 1
    assert site.bmc().login is Login.OK
    assert rack.sent == {("root", "calvin"): 1}
    site.sweep(rack, defaults=True)
    assert rack.sent.total() == 1, "what works is not tried again"


def test_two_tries_in_ten_minutes_however_often_one_asks(site: Site) -> None:
    rack = Rack("Huawei", ("Administrator", "from-the-label"))
    first = site.sweep(rack, defaults=True)
    assert "refused" in first.problems[0]["problem"]
    for _ in range(3):
        site.sweep(rack, defaults=True)
    assert rack.sent == {("Administrator", "Admin@9000"): 1, ("root", "Huawei12#$"): 1}
    rack.made_by = "Dell Inc."  # a new table, a lie: the budget is the BMC's all the same
    again = site.sweep(rack, defaults=True)
    assert "had its 2 default logins in ten minutes" in again.problems[0]["problem"]
    assert rack.sent.total() == TRIES
    site.later()
    site.sweep(rack, defaults=True)
    assert rack.sent[("root", "calvin")] == 1


@pytest.mark.parametrize("maker", ["Nobody Knows Ltd", "", "a liar"])
def test_a_stranger_is_not_guessed_at(site: Site, maker: str) -> None:
    rack = Rack(made_by=maker)
    told = site.sweep(rack, defaults=True)
    assert "does not tell who made it" in told.problems[0]["problem"]
    assert rack.sent == {}


def test_the_lists_login_for_this_box_comes_before_the_one_given(site: Site) -> None:
    rack = Rack(login=("root", "on-its-label"))
    own, fleet = site.keep("list-7", "root", "on-its-label"), site.keep("fleet", "root", "shared")
    with site.store.write() as session:
        session.add(
            Observation(source="packing-list", key="S-7", bmc_address=ADDRESS, credential_id=own.id)
        )
    assert site.sweep(rack, login="fleet").logged_in == 1
    assert rack.sent == {("root", "on-its-label"): 1}
    assert site.bmc().credential_id == own.id
    assert fleet.id != own.id


def test_a_lists_login_that_was_refused_gives_way(site: Site) -> None:
    rack = Rack(login=("root", "shared"))
    own = site.keep("list-7", "root", "on-its-label")
    site.keep("fleet", "root", "shared")
    with site.store.write() as session:
        session.add(
            Observation(source="packing-list", key="S-7", bmc_address=ADDRESS, credential_id=own.id)
        )
    site.sweep(rack)
    assert site.sweep(rack, login="fleet").logged_in == 1
    assert rack.sent == {("root", "on-its-label"): 1, ("root", "shared"): 1}


def test_a_box_is_known_by_its_mac_before_any_login(site: Site) -> None:
    row = site.keep("list-7", "root", "x")
    with site.store.write() as session:
        session.add(
            Observation(
                source="packing-list", key="S-7", bmc_mac="52:54:00:22:01:0b", credential_id=row.id
            )
        )
        session.flush()
        seen = choices.listed(session, {ADDRESS: "52:54:00:22:01:0b", "192.0.2.8": "52:54:00:0:0"})
        assert {address: c.name for address, c in seen.items()} == {ADDRESS: "list-7"}


def test_a_place_in_a_vault_needs_no_login_of_ours(site: Site) -> None:
    with site.store.write() as session:
        row = choices.named(session, "vault:secret/rack-a")
        assert (row.name, row.sealed) == ("vault:secret/rack-a", b"")
        assert choices.named(session, "vault:secret/rack-a").id == row.id
        with pytest.raises(Invalid):
            choices.named(session, "vault:rack-a")
        with pytest.raises(NotFound):
            choices.named(session, "rack-a")


def test_asked_for_again_a_vaults_login_is_told_to_ironic_again(site: Site) -> None:
    """It may have another password by now; one that Seed keeps is as it was told."""
    rack = Rack(login=("root", "in-the-vault"))

    def access(row: Credential) -> Access:
        return Access("root", SecretStr("in-the-vault"), "mark")

    def told(login: str) -> object:
        with site.store.write() as session:
            asked = discovery.request(session, [ADDRESS], login, "me")
        Finder(site.store, {"redfish": rack}, access, site.sealer).run(asked.id)  # type: ignore[dict-item]
        with site.store.write() as session:
            bmc = session.exec(select(Bmc)).one()
            before, bmc.told_ironic = bmc.told_ironic, bmc.credential_id
            return before

    told("vault:secret/rack-a")
    site.keep("fleet", "root", "in-the-vault")
    assert told("fleet") == site.bmc().credential_id
    assert told("vault:secret/rack-b") == site.bmc().credential_id, "not the one it has"
    assert told("vault:secret/rack-a") is None
    assert rack.sent.total() == 1, "no login is spent on it"


def test_no_vendor_has_more_than_the_budget() -> None:
    assert default_logins.of("Dell Inc.") == [default_logins.DEFAULTS[0]]
    assert default_logins.of("") == []
    for default in default_logins.DEFAULTS:
        word = default.vendor.split("|")[0]
        assert 1 <= len(default_logins.of(word)) <= TRIES
    assert len({d.name for d in default_logins.DEFAULTS}) == len(default_logins.DEFAULTS)
    assert all(d.source for d in default_logins.DEFAULTS), "none is guessed"


def test_makers_by_their_mac() -> None:
    assert default_logins.of(oui.maker("18:66:da:00:00:01"))[0].username == "root"
    assert oui.maker("52:54:00:00:00:01") == ""
    assert oui.maker("nonsense") == ""


@pytest.mark.parametrize(
    ("mac", "user", "longest"),
    [
        ("d0:94:66:00:00:01", "root", 20),
        ("94:40:c9:00:00:01", None, 20),  # HPE: a password of each box's own
        ("3c:ec:ef:00:00:01", "ADMIN", 16),
        ("6c:ae:8b:00:00:01", "USERID", 20),
        ("18:c0:4d:00:00:01", "admin", 16),  # the registry writes GIGA-BYTE
        ("d0:50:99:00:00:01", None, 16),  # ASRock: no source, no guess
        ("9c:71:3a:00:00:01", "Administrator", 20),
        ("90:1b:0e:00:00:01", "admin", 20),
        ("70:79:b3:00:00:01", "admin", 14),
        ("6c:92:bf:00:00:01", "admin", 16),
        ("52:54:00:00:00:01", None, 0),
    ],
)
def test_the_registrys_names_are_known_to_both_tables(
    mac: str, user: str | None, longest: int
) -> None:
    """Makers as IEEE's registry spells them, for BMCs that tell nothing but their MAC."""
    maker = oui.maker(mac)
    assert next((d.username for d in default_logins.of(maker)), None) == user
    assert passwords.rule_of(maker).most == longest


def test_the_budget_is_counted_before_the_try(site: Site) -> None:
    with site.store.write() as session:
        assert default_logins.spend(session, ADDRESS) is None
        session.flush()
        assert default_logins.spend(session, ADDRESS) is None
        session.flush()
        later = default_logins.spend(session, ADDRESS)
    assert later is not None
    assert later > now()
