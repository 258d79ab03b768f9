"""The reconciler is told to stop while it talks to BMCs: soon gone, and logged out. Needs root."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import cast

import pytest
from pydantic import SecretStr
from sqlmodel import select

import provisioning.bmc
from provisioning import discovery, plugins
from provisioning.authority import Authority
from provisioning.bmc import Access, BmcProtocol, Contact
from provisioning.discovery import Finder
from provisioning.ironic import Ironic
from provisioning.models import Bmc, Credential, Discovery
from provisioning.networks import Pool
from provisioning.parts import Parts
from provisioning.reconcile import STOP_SECONDS, Reconciler
from provisioning.secrets import Sealer
from provisioning.states import Login
from provisioning.store import Store
from seed.host import netns
from seed.lab.fleet.running import Control, running
from seed.lab.fleet.spec import Lie, Spec
from tests.fakes.appliance import until
from tests.fakes.crashing import NoWire, an_image
from tests.fakes.ironic import FakeIronic
from tests.fakes.wire import ip

PASSWORD = "fleet-password"
BMCS = 24
SLOW = 3.0  # seconds for each answer: a survey takes minutes
MARGIN = 4.0  # seconds: the machine may be busy


@pytest.fixture
def room() -> Iterator[tuple[str, Control]]:
    name = f"seed-tq-{os.getpid()}"
    spec = Spec(
        range="10.64.0.0/24", bmcs=BMCS, speaks=("redfish",), password=SecretStr(PASSWORD),
        get_seconds=SLOW,
    )  # fmt: skip
    ip("netns", "add", name)
    try:
        with running(spec, name) as control:
            yield name, control
    finally:
        ip("netns", "delete", name)


def a_reconciler(folder: Path) -> Reconciler:
    store = Store(f"sqlite:///{folder / 'seed.db'}")
    store.create()
    protocols: dict[str, BmcProtocol] = plugins.load(provisioning.bmc)
    sealer = Sealer(folder / "no.pub")

    def access(credential: Credential) -> Access:
        return Access("admin", SecretStr(PASSWORD), "mark")

    parts = Parts(
        store=store, ironic=cast(Ironic, FakeIronic()), protocols=protocols, access=access,
        sealer=sealer, authority=Authority(folder / "ca.key", folder / "ca.pem"),
        token=lambda purpose: purpose, boot=NoWire(), ca_dir=folder, image=an_image,
        pool=Pool(
            IPv4Interface("172.22.0.1/24"), IPv4Address("172.22.0.10"), IPv4Address("172.22.0.99")
        ),
        boot_url="http://172.22.0.1", gateway_url="https://172.22.0.1", gateway_ca=folder / "x",
    )  # fmt: skip
    return Reconciler(parts, Finder(store, protocols, access, sealer))


@contextmanager
def at_work(reconciler: Reconciler, where: str) -> Iterator[Callable[[], tuple[bool, float]]]:
    """It runs; the answer stops it: whether all ended, and in how many seconds."""
    stop, said = threading.Event(), []
    thread = threading.Thread(
        target=lambda: said.append(netns.call(where, lambda: reconciler.run(stop)))
    )

    def stopped() -> tuple[bool, float]:
        begin = time.monotonic()
        stop.set()
        thread.join(60)
        return said[0], time.monotonic() - begin

    thread.start()
    try:
        yield stopped
    finally:
        stop.set()
        thread.join(60)


def known(store: Store, where: str, control: Control) -> None:
    """Every BMC has a login that works, so that its survey is due."""
    redfish: BmcProtocol = plugins.load(provisioning.bmc)["redfish"]

    async def probe_all() -> list[Contact | None]:
        addresses = [b["address"] for b in control.bmcs()]
        return await asyncio.gather(*(redfish.probe(a, 20.0) for a in addresses))

    contacts = netns.call(where, lambda: asyncio.run(probe_all()))
    with store.write() as session:
        login = Credential(name="fleet", username="admin", sealed=b"")
        session.add(login)
        session.flush()
        for contact in contacts:
            assert contact
            session.add(
                Bmc(
                    address=contact.address, protocol="redfish", login=Login.OK,
                    credential_id=login.id, fingerprint=contact.fingerprint,
                    certificate=contact.certificate,
                )
            )  # fmt: skip


def sessions(control: Control) -> dict[str, int]:
    return {b["address"]: b["sessions"] for b in control.bmcs() if b["sessions"]}


def bmcs(store: Store) -> list[Bmc]:
    with store.read() as session:
        return list(session.exec(select(Bmc)).all())


@pytest.mark.parametrize("hanging", [0, 2])
def test_surveys_log_out_of_who_can_be_reached(
    room: tuple[str, Control], tmp_path: Path, hanging: int
) -> None:
    where, control = room
    reconciler = a_reconciler(tmp_path)
    store = reconciler.parts.store
    known(store, where, control)
    with at_work(reconciler, where) as stopped:
        until(lambda: len(sessions(control)) == BMCS, 60, "all logins")
        silent = sorted(sessions(control))[:hanging]
        for address in silent:  # from now on it answers no new connection
            control.lie(address, Lie.HANG)
        all_ended, seconds = stopped()
    print(f"stopped in {seconds:.1f} s")
    assert sorted(sessions(control)) == silent, "logged out of all others"
    assert all_ended is (not hanging)
    assert seconds < STOP_SECONDS + MARGIN
    assert {(b.survey_at, b.survey_problem) for b in bmcs(store)} == {(None, "")}, "still due"
    assert {b["failed_logins"] for b in control.bmcs()} == {0}


def test_a_sweep_is_taken_up_again(room: tuple[str, Control], tmp_path: Path) -> None:
    """It was logging in; it stays a sweep to be done, and no login counts as refused."""
    where, control = room
    reconciler = a_reconciler(tmp_path)
    store = reconciler.parts.store
    with store.write() as session:
        session.add(Credential(name="fleet", username="admin", sealed=b""))
        session.flush()
        asked = discovery.request(session, ["10.64.0.0/24"], "fleet", "me", rate=0).id
    with at_work(reconciler, where) as stopped:
        until(lambda: len(sessions(control)) == BMCS, 60, "all logins")
        all_ended, seconds = stopped()
    assert (all_ended, sessions(control)) == (True, {})
    assert seconds < STOP_SECONDS + MARGIN
    for bmc in control.bmcs():
        control.set(bmc["address"], get_seconds=0.0)
    assert {(b.login, tuple(b.refused)) for b in bmcs(store)} == {(Login.NONE, ())}
    again = a_reconciler(tmp_path)

    def state() -> str:
        with store.read() as session:
            return session.get_one(Discovery, asked).state

    assert state() == "running"
    with at_work(again, where):
        until(lambda: state() == "done", 60, "the sweep")
    assert {b.login for b in bmcs(store)} == {Login.OK}
