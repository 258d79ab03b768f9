"""A sweep against emulated BMCs as others ship them: each is found, named and logged in to.

ipmi_sim (OpenIPMI), sushy-emulator (sushy-tools), virtualbmc with libvirt's test driver, and
pyghmi's fakebmc. Real programs in network namespaces; needs root.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlmodel import select

import provisioning.bmc
from provisioning import discovery, plugins
from provisioning.bmc import Access, BmcProtocol, Contact, Identity
from provisioning.discovery import Finder
from provisioning.errors import BmcLoginRefused
from provisioning.models import Bmc, Credential, Discovery
from provisioning.ranges import addresses_of
from provisioning.secrets import Sealer
from provisioning.states import Login
from provisioning.store import Store
from provisioning.sweep import Pace, sweep
from seed.host import netns
from tests.fakes.appliance import base_folder, until
from tests.fakes.programs import (
    FAKEBMC,
    IPMI_SIM,
    PASSWORD,
    SERVER,
    SUSHY_TOOLS,
    USER,
    VIRTUALBMC,
    all_programs,
)
from tests.fakes.store import new_store
from tests.fakes.wire import appliance_namespace

PROTOCOLS: dict[str, BmcProtocol] = plugins.load(provisioning.bmc)
RANGE = "172.22.1.16/28"
RIGHT, WRONG = "right", "wrong"
SPEAKS = {IPMI_SIM: "ipmi", SUSHY_TOOLS: "redfish", VIRTUALBMC: "ipmi", FAKEBMC: "ipmi"}
NO_KEY = Sealer(Path("/nonexistent"))  # no default login is kept here


@dataclass
class Site:
    namespace: str
    store: Store

    def looked(self, login: str | None) -> Discovery:
        """One `seed discover`."""
        with self.store.write() as session:
            asked = discovery.request(session, [RANGE], login, "me", rate=0)
        finder = Finder(self.store, PROTOCOLS, access, NO_KEY)
        netns.call(self.namespace, lambda: finder.run(asked.id))
        with self.store.read() as session:
            return session.get_one(Discovery, asked.id)

    def bmcs(self) -> dict[str, Bmc]:
        with self.store.read() as session:
            return {b.address: b for b in session.exec(select(Bmc))}


def access(credential: Credential) -> Access:
    password = PASSWORD if credential.name == RIGHT else "not-this-one"
    return Access(USER, SecretStr(password), f"mark-{credential.name}")


def answering(namespace: str) -> set[str]:
    addresses, pace = addresses_of([RANGE]), Pace(rate=0)
    found = netns.call(
        namespace, lambda: sweep(PROTOCOLS.values(), addresses, pace, lambda _: None)
    )
    return {contact.address for contact in found}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with (
        base_folder() as base,
        appliance_namespace(f"seed-tw-{os.getpid()}") as namespace,
        all_programs(namespace, base),
    ):
        until(lambda: answering(namespace) == set(SPEAKS), 60, "all four programs")
        store = new_store(base)
        with store.write() as session:
            session.add_all(Credential(name=n, username=USER, sealed=b"") for n in (RIGHT, WRONG))
        yield Site(namespace, store)
        store.engine.dispose()


def test_each_is_found_and_named(site: Site) -> None:
    done = site.looked(None)
    assert (done.state, done.found, done.problems) == ("done", 4, [])
    assert {a: b.protocol for a, b in site.bmcs().items()} == SPEAKS


def test_a_wrong_login_reaches_each_once(site: Site) -> None:
    first, again = site.looked(WRONG), site.looked(WRONG)
    assert sorted(p["problem"] for p in first.problems) == [
        f"the BMC {address} refused the login" for address in sorted(SPEAKS)
    ]
    assert {b.login for b in site.bmcs().values()} == {Login.REFUSED}
    assert all("was not tried again" in p["problem"] for p in again.problems)
    assert len(again.problems) == 4


def test_the_right_login_tells_who_each_is(site: Site) -> None:
    done = site.looked(RIGHT)
    assert (done.logged_in, done.problems) == (4, [])
    bmcs = site.bmcs()
    assert (bmcs[IPMI_SIM].serial, bmcs[IPMI_SIM].vendor) == (SERVER.serial, SERVER.manufacturer)
    assert bmcs[SUSHY_TOOLS].system_uuid
    assert bmcs[SUSHY_TOOLS].macs
    assert [bmcs[a].serial for a in (VIRTUALBMC, FAKEBMC)] == ["", ""], "they do not tell one"


# --- virtualbmc, as Ironic will use it ------------------------------------------------------------


def identified(site: Site, password: str) -> Identity:
    who = Access(USER, SecretStr(password))
    contact = Contact(VIRTUALBMC, "ipmi")
    return netns.call(site.namespace, lambda: PROTOCOLS["ipmi"].identify(contact, who, 30.0))


def power(site: Site, *words: str) -> str:
    """ipmitool with what Ironic is told; the password by the environment."""
    who = Access(USER, SecretStr(PASSWORD))
    contact, nobody = Contact(VIRTUALBMC, "ipmi"), Identity(serial="", system_uuid="")
    told = PROTOCOLS["ipmi"].driver_info(contact, nobody, who, "")
    argv = [
        "env", f"IPMI_PASSWORD={told['ipmi_password']}", "ipmitool", "-I", "lanplus",
        "-H", told["ipmi_address"], "-U", told["ipmi_username"], "-E",
        "-C", told["ipmi_cipher_suite"], "power", *words,
    ]  # fmt: skip
    done = netns.run(site.namespace, argv, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_virtualbmc_takes_the_right_login_only(site: Site) -> None:
    assert identified(site, PASSWORD).serial == ""
    with pytest.raises(BmcLoginRefused, match=VIRTUALBMC):
        identified(site, "not-this-one")
    assert identified(site, PASSWORD).serial == "", "and it is not locked out"


def test_virtualbmc_switches_power(site: Site) -> None:
    assert power(site, "status") == "Chassis Power is on"
    power(site, "off")
    until(lambda: power(site, "status") == "Chassis Power is off", 20, "power off")
    power(site, "on")
    until(lambda: power(site, "status") == "Chassis Power is on", 20, "power on")


def test_no_password_is_in_a_log(site: Site) -> None:
    base = Path(str(site.store.engine.url.database)).parent
    for log in base.glob("*/log"):
        assert "not-this-one" not in log.read_text(errors="replace"), log
