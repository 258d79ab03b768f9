"""Logins of real BMCs are changed, and the reconciler dies at every step of it: real lab, Ironic.

Both BMCs are accepted with the lab's password and taken over; then each is given new passwords, and
at each step once the reconciler is killed. Judged from outside: who is let in by the BMC, what
Ironic was told, and how many wrong logins the BMC counted.
"""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr
from sqlmodel import select

from provisioning import authority, discovery, pinning, rotation
from provisioning.acceptance import accept
from provisioning.authority import Authority, fingerprint
from provisioning.bmc import Access
from provisioning.errors import BmcLoginRefused
from provisioning.logins import Trust
from provisioning.models import Bmc, Credential, Discovery
from provisioning.parts import Parts, contact_of
from provisioning.room import Rotation
from provisioning.rotation_turn import REASON
from provisioning.secrets import Sealer
from provisioning.states import Login, RotationStep
from provisioning.store import Store
from seed import reconciler
from seed.host import appliance, netns
from seed.host.paths import Paths
from seed.lab.lab import Lab, stored
from seed.settings import Settings
from tests.fakes.appliance import base_folder, environments, initialised, until
from tests.fakes.reborn import deaths_in

TOP = Path(__file__).resolve().parents[2]
NAMESPACE = f"seed-tr-{os.getpid()}"
REDFISH, IPMI = "172.22.1.11", "172.22.1.12"
NAMES = {REDFISH: "server1", IPMI: "server2"}
LIMIT = 60  # seconds for one change of a login, one death and a new process on a busy machine


@dataclass
class Site:
    base: Path
    settings: Settings
    process: subprocess.Popen[bytes] | None = None
    refused: dict[str, int] = field(default_factory=dict)  # wrong logins each BMC must have counted

    def __post_init__(self) -> None:
        self.store = Store(self.settings.database_url)
        self.store.create()
        self.work = self.base / "work"
        self.work.mkdir()
        self.refused = {REDFISH: 0, IPMI: 0}

    @property
    def lab(self) -> Lab:
        return Lab(stored(self.base / "lab"), self.base / "lab", environments())

    @cached_property
    def parts(self) -> Parts:
        return reconciler.make(self.settings).parts

    def start(self) -> None:
        argv = [sys.executable, "-m", "tests.fakes.crashing_logins", str(self.work)]
        env = {**os.environ, "SEED_CONFIG": str(self.base / "seed.toml")}
        with (self.base / "said").open("ab") as log:
            self.process = subprocess.Popen(
                [*netns.prefix(NAMESPACE), *argv], stdout=log, stderr=log, env=env, cwd=TOP
            )

    def deaths(self) -> int:
        """By SIGKILL only; of anything else nothing comes after."""
        assert self.process is not None
        assert self.process.poll() is None, self.said()
        return deaths_in(self.work / "deaths")

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    def said(self) -> str:
        rows = [self.bmc(a).model_dump(include={"address", "detail", "problem"}) for a in NAMES]
        with self.store.read() as session:
            changes = [r.model_dump() for r in session.exec(select(Rotation)).all()]
        return f"{rows} {changes} {(self.base / 'said').read_text()[-3000:]}"

    def bmc(self, address: str) -> Bmc:
        with self.store.read() as session:
            return session.exec(select(Bmc).where(Bmc.address == address)).one()

    def change(self, address: str) -> Rotation | None:
        with self.store.read() as session:
            return session.get(Rotation, self.bmc(address).id)

    def access(self, address: str) -> Access:
        with self.store.read() as session:
            row = session.get_one(Credential, self.bmc(address).credential_id)
        return self.parts.access(row)

    def lets_in(self, address: str, access: Access) -> bool:
        """Ask the BMC itself; a refusal is one that it must count."""
        bmc = self.bmc(address)
        protocol = self.parts.protocols[bmc.protocol]
        try:
            netns.call(NAMESPACE, lambda: protocol.check_login(contact_of(bmc), access, 30))
        except BmcLoginRefused:
            self.refused[address] += 1
            return False
        return True

    def counted(self) -> dict[str, int]:
        rows = {row["name"]: row["failed_logins"] for row in self.lab.status()}
        return {address: rows[name] for address, name in NAMES.items()}

    def in_ironic(self, address: str) -> dict[str, Any]:
        """Ironic's own record, passwords and all: its API hides them."""
        bmc = self.bmc(address)
        database = sqlite3.connect(Paths(self.settings).ironic_db, timeout=30)
        query = "SELECT driver_info, maintenance, provision_state FROM nodes WHERE uuid = ?"
        with closing(database), database:
            found = database.execute(query, [str(bmc.node_uuid)]).fetchone()
        return {**json.loads(found[0]), "maintenance": bool(found[1]), "state": found[2]}

    def ask(self, address: str) -> None:
        with self.store.write() as session:
            bmc = session.exec(select(Bmc).where(Bmc.address == address)).one()
            rotation.ask(session, bmc, "test")

    def discover(self, where: str, password: str) -> Discovery:
        """As `seed discover --password-stdin` does it."""
        with self.store.write() as session:
            row = Credential(name=f"discover-{password[:3]}", username="admin", sealed=b"")
            row.sealed = Sealer(Paths(self.settings).master_pub).seal(
                password, f"credential:{row.id}"
            )
            session.add(row)
            session.flush()
            sweep = discovery.request(session, [where], row.name, "test").id

        def read() -> Discovery:
            with self.store.read() as session:
                return session.get_one(Discovery, sweep)

        until(lambda: read().state == "done", 60, "the sweep")
        return read()

    def until(self, what: str, done: Any) -> None:
        try:
            until(done, LIMIT, what)
        except AssertionError as slow:
            raise AssertionError(f"{slow}\n{self.said()}") from None

    def rotate(self, address: str) -> None:
        self.ask(address)
        self.until("the new login", lambda: self.change(address) is None)

    def rotate_with_death(self, address: str, point: str) -> None:
        before = self.deaths()
        (self.work / "armed").write_text(point)
        self.ask(address)
        self.until(f"its death {point}", lambda: self.deaths() > before)
        self.until(f"the new login after dying {point}", lambda: self.change(address) is None)


@contextmanager
def a_lab(base: Path) -> Iterator[None]:
    scenario = yaml.safe_load((TOP / "vagrant" / "lab.yaml").read_text())
    scenario["namespace"] = NAMESPACE
    for server in scenario["servers"]:
        server["memory_mib"] = 256
    (base / "lab.yaml").write_text(yaml.safe_dump(scenario))
    words = ("--scenario", str(base / "lab.yaml"), "--state-dir", str(base / "lab"))

    def cli(verb: str) -> None:
        argv = [sys.executable, "-m", "seed.lab.cli", verb, *words]
        done = subprocess.run(argv, timeout=240, cwd=TOP, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        cli("up")
        yield
    finally:
        cli("down")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with base_folder() as base, a_lab(base):
        settings = initialised(base, NAMESPACE)
        before = os.environ.get("SEED_CONFIG")
        os.environ["SEED_CONFIG"] = str(base / "seed.toml")
        try:
            appliance.up(settings, names=["ironic"])
            site = Site(base, settings)
            site.start()
            try:
                yield site
            finally:
                site.stop()
        finally:
            appliance.down(settings)
            os.environ.pop("SEED_CONFIG") if before is None else None
        assert {row["power"] for row in site.lab.status()} == {"off"}, "nothing ever booted"


@pytest.fixture(scope="module")
def taken_over(site: Site) -> Site:
    """Both BMCs, found with the lab's password and accepted."""
    site.discover(f"{REDFISH}-{IPMI}", site.lab.layout.password())
    with site.store.write() as session:
        for address, name in NAMES.items():
            bmc = session.exec(select(Bmc).where(Bmc.address == address)).one()
            accept(session, bmc, name, "baremetal", "test")
    for address in NAMES:
        site.until("taken over", lambda a=address: site.change(a) is None)
        site.until("enrolled", lambda a=address: "ramdisk" in site.bmc(a).problem)
    return site


def whole(site: Site, address: str, before: Access) -> None:
    """The BMC has one new login, and everybody who needs it has it."""
    now, told = site.access(address), site.in_ironic(address)
    new = now.password.get_secret_value()
    assert new != before.password.get_secret_value()
    assert site.lets_in(address, now), "its new login"
    bmc = site.bmc(address)
    assert bmc.login is Login.OK
    assert bmc.told_ironic == bmc.credential_id
    assert told[f"{bmc.protocol}_password"] == new
    assert (told["maintenance"], told["state"]) == (False, "manageable")


def test_accepted_bmcs_have_a_login_of_their_own(taken_over: Site) -> None:
    site, old = taken_over, SecretStr(taken_over.lab.layout.password())
    passwords = {site.access(a).password.get_secret_value() for a in NAMES}
    assert len(passwords) == 2, "no two have the same"
    assert {len(p) for p in passwords} == {20, 16}
    for address in NAMES:
        whole(site, address, Access("admin", old))
        assert not site.lets_in(address, Access("admin", old)), "the lab's login"
    until(lambda: site.counted() == site.refused, 20, "one refusal each")
    # Ironic checked the BMC's new certificate by this on its way to "manageable".
    bmc, told = site.bmc(REDFISH), site.in_ironic(REDFISH)
    assert bmc.trust == Trust.SEED_CA
    assert Path(told["redfish_verify_ca"]).read_text() == site.parts.authority.pem
    with site.store.read() as session:
        names = [c.name for c in session.exec(select(Credential)).all()]
    assert not [n for n in names if n.startswith("discover-")], "the old login is forgotten"
    assert len(names) == 2


def points(site: Site, address: str) -> list[str]:
    """Every step that one change of this BMC's login passes, in order, each once."""
    (site.work / "points").unlink(missing_ok=True)
    site.rotate(address)
    return list(dict.fromkeys((site.work / "points").read_text().splitlines()))


# At these a killed reconciler cannot know that the new password never went out: it tries it, once.
ONE_GUESS = frozenset({"after commit in move: sent", "before set_password: sent"})


@pytest.mark.timeout(900)
@pytest.mark.parametrize("address", [REDFISH, IPMI], ids=["redfish", "ipmi"])
def test_killed_at_every_step_the_new_login_is_whole(taken_over: Site, address: str) -> None:
    site = taken_over
    first = site.access(address)
    every = points(site, address)
    if address == IPMI:  # all but the BMC's own part is the same
        every = [p for p in every if p.endswith((": sent", ": taken"))]
    assert {"before set_password: sent", "after set_password: sent"} <= set(every), every
    assert ONE_GUESS <= set(every), every
    for point in every:
        before = site.access(address)
        site.rotate_with_death(address, point)
        site.refused[address] += point in ONE_GUESS
        whole(site, address, before)
    print(f"\n{len(every)} deaths")
    assert not site.lets_in(address, first), "the login it had at first"
    until(lambda: site.counted() == site.refused, 20, f"wrong logins: {site.refused}")


def a_new_authority(site: Site) -> None:
    """As after the loss of its key: no BMC's certificate is of this one."""
    site.stop()
    paths = Paths(site.settings)
    for path in (paths.bmc_ca_key, paths.bmc_ca_pem):
        path.unlink()
    authority.make(paths.bmc_ca_key, paths.bmc_ca_pem)
    site.__dict__.pop("parts", None)
    site.start()


def certified(site: Site) -> None:
    """What the BMC shows is ours, and pinned; Ironic verifies it by our authority."""
    shown = netns.call(NAMESPACE, lambda: site.parts.probe("redfish", REDFISH, 20))
    bmc, told = site.bmc(REDFISH), site.in_ironic(REDFISH)
    assert shown is not None
    assert shown.fingerprint == bmc.fingerprint
    assert site.parts.authority.signed(shown.certificate, REDFISH)
    assert bmc.trust == Trust.SEED_CA
    assert Path(told["redfish_verify_ca"]).read_text() == site.parts.authority.pem


@pytest.mark.timeout(900)
def test_killed_at_every_step_of_a_certificate_it_is_whole(taken_over: Site) -> None:
    site = taken_over
    a_new_authority(site)
    every = points(site, REDFISH)
    every = every[every.index("after commit in _promote: promoted") :]
    certified(site)
    assert {
        "before request_csr: promoted", "after commit in certify: certifying",
        "before install_certificate: certifying", "after install_certificate: certifying",
        "after commit in _pin: certified",
    } <= set(every), every  # fmt: skip
    for point in every:
        a_new_authority(site)
        before = site.access(REDFISH)
        site.rotate_with_death(REDFISH, point)
        whole(site, REDFISH, before)
        certified(site)
    print(f"\n{len(every)} deaths")
    until(lambda: site.counted() == site.refused, 20, f"wrong logins: {site.refused}")


def left_at_sent(site: Site, new: str) -> Access:
    """As a crash leaves it that came when the new password was being set; Seed is down."""
    site.stop()
    bmc = site.bmc(REDFISH)
    netns.call(
        NAMESPACE, lambda: site.parts.ironic.set_maintenance(str(bmc.node_uuid), True, REASON)
    )
    with site.store.write() as session:
        row = Credential(name=f"bmc-{REDFISH}-{new[:4]}", username="admin", sealed=b"")
        row.sealed = Sealer(Paths(site.settings).master_pub).seal(new, f"credential:{row.id}")
        session.add(row)
        session.flush()
        rotation.ask(session, session.get_one(Bmc, bmc.id), "test")
        session.flush()
        change = session.get_one(Rotation, bmc.id)
        change.step, change.candidate_id = RotationStep.SENT, row.id
        session.flush()
        return site.parts.access(row)


def set_on_bmc(site: Site, password: SecretStr) -> None:
    bmc, old = site.bmc(REDFISH), site.access(REDFISH)
    protocol = site.parts.protocols["redfish"]
    netns.call(NAMESPACE, lambda: protocol.set_password(contact_of(bmc), old, password, 30))


def test_both_logins_refused_two_tries_and_the_remedies_work(taken_over: Site) -> None:
    """The new password was never sent; meanwhile somebody set a third one."""
    site, third = taken_over, SecretStr("somebody-elses-1")
    left_at_sent(site, "never-sent-password-1")
    set_on_bmc(site, third)
    site.start()

    def stuck() -> bool:
        change = site.change(REDFISH)
        return change is not None and change.step is RotationStep.STUCK

    site.until("both refused", stuck)
    site.refused[REDFISH] += 2
    until(lambda: site.counted() == site.refused, 20, f"wrong logins: {site.refused}")
    change = site.change(REDFISH)
    assert change is not None
    assert "refused both its old and its new login" in change.problem
    assert f"`seed bmc rotate {REDFISH}`" in change.remedy
    assert f"`seed discover {REDFISH} --username U --password-stdin`" in change.remedy
    assert site.in_ironic(REDFISH)["maintenance"]
    site.ask(REDFISH)  # the first remedy: both once more, and no more than that
    site.until("asked again", lambda: not stuck())
    site.until("both refused again", stuck)
    site.refused[REDFISH] += 2
    until(lambda: site.counted() == site.refused, 20, f"wrong logins: {site.refused}")
    sweep = site.discover(REDFISH, third.get_secret_value())  # the second one
    assert sweep.logged_in == 1, sweep.problems
    site.until("its end", lambda: site.change(REDFISH) is None)
    known = third.get_secret_value()
    site.until("Ironic told", lambda: site.in_ironic(REDFISH)["redfish_password"] == known)
    site.until("Ironic on again", lambda: not site.in_ironic(REDFISH)["maintenance"])
    site.rotate(REDFISH)
    assert not site.lets_in(REDFISH, Access("admin", third)), "changed again"
    until(lambda: site.counted() == site.refused, 20, f"wrong logins: {site.refused}")


def test_a_stranger_in_the_middle_of_a_change(taken_over: Site) -> None:
    """The BMC is reset to another certificate while Seed is down: trusted, it goes on."""
    site = taken_over
    before, node = site.access(REDFISH), site.bmc(REDFISH).node_uuid
    now = left_at_sent(site, "sent-and-answer-lost-1")
    set_on_bmc(site, now.password)
    other = Authority(site.base / "other.key", site.base / "other.pem")
    authority.make(other.key_file, other.pem_file)
    protocol, contact = site.parts.protocols["redfish"], contact_of(site.bmc(REDFISH))
    csr = netns.call(NAMESPACE, lambda: protocol.request_csr(contact, now, 60))
    pem = other.sign(csr, REDFISH)
    netns.call(NAMESPACE, lambda: protocol.install_certificate(contact, now, pem, 30))
    site.start()
    site.until("the refusal", lambda: fingerprint(pem) in site.bmc(REDFISH).remedy)
    assert "nothing was sent there" in site.bmc(REDFISH).problem
    assert site.in_ironic(REDFISH)["maintenance"]
    with site.store.write() as session:
        row = session.exec(select(Bmc).where(Bmc.address == REDFISH)).one()
        pinning.trust(session, row, fingerprint(pem), "test")
    site.until("the change", lambda: site.change(REDFISH) is None)
    whole(site, REDFISH, before)
    certified(site)
    assert site.bmc(REDFISH).node_uuid == node
    until(lambda: site.counted() == site.refused, 20, f"wrong logins: {site.refused}")


def test_a_new_login_given_by_a_person_reaches_ironic(taken_over: Site) -> None:
    """Somebody sets the password by hand: Seed notices once, and is told the new one."""
    site, by_hand = taken_over, SecretStr("set-by-hand-1")
    bmc = site.bmc(REDFISH)
    protocol = site.parts.protocols["redfish"]
    now = site.access(REDFISH)
    netns.call(NAMESPACE, lambda: protocol.set_password(contact_of(bmc), now, by_hand, 30))
    site.ask(REDFISH)
    site.until("the refusal", lambda: site.bmc(REDFISH).login is Login.REFUSED)
    site.refused[REDFISH] += 1
    site.until("Ironic off", lambda: site.in_ironic(REDFISH)["maintenance"])
    sweep = site.discover(REDFISH, by_hand.get_secret_value())
    assert sweep.logged_in == 1, sweep.problems
    whole_again = lambda: site.in_ironic(REDFISH)["redfish_password"] == by_hand.get_secret_value()  # noqa: E731
    site.until("Ironic told", whole_again)
    site.until("Ironic on again", lambda: not site.in_ironic(REDFISH)["maintenance"])
    until(lambda: site.counted() == site.refused, 20, f"wrong logins: {site.refused}")


def test_no_password_is_in_a_log(taken_over: Site) -> None:
    site = taken_over
    secrets = [site.access(a).password.get_secret_value().encode() for a in NAMES]
    secrets.append(site.lab.layout.password().encode())
    logs = [site.base / "said", *(p for p in site.settings.log_dir.rglob("*") if p.is_file())]
    for path in logs:
        assert not [s for s in secrets if s in path.read_bytes()], path
