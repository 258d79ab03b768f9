"""The reconciler dies at every step of the flow, on real Ironic: each time the claim ends right.

Real Ironic with fake-hardware, a real reconciler process, real SIGKILL. The invariants are judged
from outside: from Ironic's own records and from the history of holds, at every look.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlmodel import col, select

from provisioning import classify, reclass, reinspect, sight
from provisioning.acceptance import OnAccept, accept, forget
from provisioning.claims import Desk
from provisioning.dress import capabilities
from provisioning.errors import NoCapacity
from provisioning.ironic import Ironic
from provisioning.models import (
    Address,
    Bmc,
    Booking,
    Claim,
    ClaimSpec,
    Credential,
    Hold,
    Order,
    now,
)
from provisioning.states import BmcGoal, ClaimState, Login, OrderKind
from provisioning.store import Store
from seed.host import appliance, netns
from seed.host.paths import Paths
from tests.fakes.crashing import identity_of, resolved
from tests.fakes.hardware import a_class, an_inventory
from tests.fakes.proofs import as_wanted
from tests.fakes.reborn import deaths_in
from tests.fakes.settings import some_settings
from tests.fakes.wire import appliance_namespace

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKE02EXZopJm+V+0QfxedG6Gy6HeCx4/dROzGkxDOS5X test"
NODES = 3
LIMIT = 240  # seconds; some 60 deaths, each a new process on a busy machine


class Site:
    """One Ironic, our database, and a reconciler that is started again whenever it died."""

    def __init__(self, folder: Path, namespace: str, url: str, password: str) -> None:
        self.folder, self.namespace = folder, namespace
        self.database = f"sqlite:///{folder / 'seed.db'}"
        self.store = Store(self.database)
        self.store.create()
        self.ironic = Ironic(url, "seed-reconciler", SecretStr(password))
        self.process: subprocess.Popen[bytes] | None = None
        (folder / "store.json").write_text(
            json.dumps({"database": self.database, "ironic": url, "password": password})
        )

    def keep_running(self) -> None:
        if self.process is not None:
            assert self.process.poll() is None, "the reconciler died of something else"
            return
        argv = [sys.executable, "-m", "tests.fakes.crashing", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*netns.prefix(self.namespace), *argv], stdout=log, stderr=log
            )

    @property
    def deaths(self) -> int:
        return deaths_in(self.folder / "deaths")

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    def rest(self) -> None:
        """Nobody reconciles until somebody waits for something."""
        self.stop()
        self.process = None

    def held_by(self, name: str) -> list[UUID]:
        claim = self.claim(name).id
        with self.store.read() as session:
            return list(session.exec(select(Hold.node_uuid).where(Hold.claim_id == claim)).all())

    def inside(self, function):
        return netns.call(self.namespace, function)

    def until(self, what: str, done) -> None:
        begin = time.monotonic()
        while not done():
            self.keep_running()
            self.check()
            said = (self.folder / "log").read_text()[-3000:]
            assert time.monotonic() - begin < LIMIT, f"not {what}: {self.told()}\n{said}"
            time.sleep(0.1)

    def check(self) -> None:
        """No node is held twice: not by our rows, and not by Ironic's allocations."""
        with self.store.read() as session:
            holds = session.exec(select(Hold).where(col(Hold.claim_id).is_not(None))).all()
        seats = [(h.claim_id, h.position) for h in holds]
        assert len(seats) == len(set(seats)), f"one seat, two nodes: {seats}"

    def told(self) -> str:
        with self.store.read() as session:
            claims = [(c.name, c.state, c.detail, c.problem) for c in session.exec(select(Claim))]
            bmcs = [(b.node_name, b.goal, b.detail, b.problem) for b in session.exec(select(Bmc))]
            orders = [(o.kind, o.ironic_done_at, o.proof_at) for o in session.exec(select(Order))]
        return f"{claims} {bmcs} {orders}"

    def states(self) -> list[str]:
        return sorted(n.provision_state for n in self.inside(self.ironic.nodes))

    def powers(self) -> set[str]:
        return {n.power_state for n in self.inside(self.ironic.nodes)}

    def seen(self) -> list[str]:
        """The states that a claim is answered from: as the reconciler saw them last."""
        with self.store.read() as session:
            return sorted(n.provision_state for n in sight.nodes(session))

    def all_free(self, count: int = NODES) -> bool:
        """By Ironic, and by what the reconciler saw of it."""
        return self.states() == self.seen() == ["available"] * count

    def in_maintenance(self) -> set[str]:
        """As the reconciler saw it last."""
        with self.store.read() as session:
            return {n.name for n in sight.nodes(session) if n.maintenance}

    def dressed(self, traits: list[str]) -> bool:
        """Is every node inspected, of class storage, and has it these traits?"""
        return (
            all(
                (n.inspected, n.resource_class, list(n.traits)) == (True, "storage", traits)
                for n in self.inside(self.ironic.nodes)
            )
            and len(self.states()) == NODES
        )

    def inspected_at(self) -> dict[str, str]:
        return {n.name: n.inspected_at for n in self.inside(self.ironic.nodes)}

    def misfits(self) -> set[str]:
        with self.store.read() as session:
            return {b.node_name for b in session.exec(select(Bmc)).all() if b.misfit}

    def details(self, names: list[str], begin: str) -> bool:
        with self.store.read() as session:
            rows = session.exec(select(Bmc).where(col(Bmc.node_name).in_(names))).all()
        return all(
            b.detail.startswith(begin) and self.inspected_at()[b.node_name] != b.stale_inspection
            for b in rows
        )

    def open_orders(self) -> int:
        with self.store.read() as session:
            return len(session.exec(select(Order).where(col(Order.closed_at).is_(None))).all())

    def provide(self) -> None:
        with self.store.write() as session:
            for bmc in session.exec(select(Bmc)).all():
                bmc.goal = BmcGoal.AVAILABLE
                session.add(bmc)

    def rows(self, table) -> int:
        with self.store.read() as session:
            return len(session.exec(select(table)).all())

    def claim(self, name: str) -> Claim:
        with self.store.read() as session:
            query = select(Claim).where(Claim.name == name).order_by(col(Claim.created_at).desc())
            return session.exec(query).first()

    def prove(self) -> None:
        """What the gateway does when a server phones home."""
        with self.store.write() as session:
            for order in session.exec(
                select(Order).where(col(Order.proof_at).is_(None), Order.proof_hash != "")
            ).all():
                hold = session.get_one(Hold, order.node_uuid)
                claim = session.get(Claim, hold.claim_id) if hold.claim_id else None
                if claim is None or not order.ironic_done_at:
                    continue
                order.proof_at = now()
                order.proof = as_wanted(order)
                session.add(order)


@contextmanager
def a_site() -> Iterator[Site]:
    with (
        appliance_namespace(f"seed-tk-{os.getpid()}") as namespace,
        tempfile.TemporaryDirectory(prefix="seed-crash-", dir="/var/tmp") as name,
    ):
        base = Path(name)
        base.chmod(0o755)
        settings = some_settings(base, namespace=namespace, env_dir=Path(sys.prefix).parent)
        appliance.up(settings, names=["ironic"], extra_hardware=["fake-hardware"])
        work = base / "work"
        work.mkdir()
        password = Paths(settings).ironic_password("seed-reconciler").read_text().strip()
        site = Site(work, namespace, settings.ironic_url, password)
        try:
            yield site
        finally:
            site.stop()
            appliance.down(settings)


@pytest.mark.timeout(900)
def test_killed_at_every_step_the_claim_ends_right_and_no_node_is_held_twice() -> None:
    with a_site() as site:
        (site.folder / "armed").touch()
        accept_all(site)
        site.until("enrolled and inspected", lambda: site.states() == ["manageable"] * NODES)
        # fake-hardware has no power state of its own, and no allocation takes a node without one.
        for node in site.inside(site.ironic.nodes):
            site.inside(lambda uuid=node.uuid: site.ironic.power(uuid, "power off"))
        site.provide()
        site.until("available", site.all_free)
        desk = Desk(site.store, site.ironic, resolved, undo=_no_time())
        spec = ClaimSpec(name="web", count=2, image="debian", ssh_keys=[KEY])
        site.inside(lambda: desk.request(spec, "default", "test"))

        def active() -> bool:
            site.prove()
            return site.claim("web").state is ClaimState.ACTIVE

        site.until("active", active)
        assert site.states() == ["active", "active", "available"]
        for node in site.inside(site.ironic.nodes):  # fake-hardware's deploy does not start them
            site.inside(lambda uuid=node.uuid: site.ironic.power(uuid, "power on"))
        site.until("all on", lambda: site.powers() == {"power on"})
        plan = site.inside(lambda: desk.plan_release("default", "web"))
        site.inside(lambda: desk.release("default", "web", plan.hash, "test", at_once=True))
        site.until("released", lambda: site.claim("web").state is ClaimState.RELEASED)
        site.until("all free", site.all_free)
        # The order of who was never claimed is closed by its own step, after the first look.
        site.until("no order is open", lambda: site.open_orders() == 0)
        with site.store.read() as session:
            assert session.exec(select(Hold).where(col(Hold.claim_id).is_not(None))).all() == []
            orders = session.exec(select(Order)).all()
        with site.store.write() as session:
            forget(session, session.exec(select(Bmc).where(Bmc.node_name == "fake-3")).one(), "me")
        site.until("forgotten", lambda: site.all_free(NODES - 1))
        site.until("no row is left", lambda: site.rows(Bmc) == site.rows(Hold) == NODES - 1)
        assert site.rows(Address) == NODES - 1
        # What was repeated after a crash found its own earlier work: one order each, no more.
        per_node = [(o.node_uuid, o.kind, o.generation) for o in orders]
        assert len(per_node) == len(set(per_node)), "an order was opened twice"
        crashed = (site.folder / "crashed").read_text().splitlines()
        print(f"\n{site.deaths} deaths at {len(crashed)} points")
        for needed in NEEDED:
            assert any(needed in point for point in crashed), f"never died {needed}"


@pytest.mark.timeout(900)
def test_killed_at_every_step_a_lease_ends_who_waited_is_served_and_a_reservation_begins() -> None:
    with a_site() as site:
        accept_all(site)
        site.until("enrolled and inspected", lambda: site.states() == ["manageable"] * NODES)
        for node in site.inside(site.ironic.nodes):
            site.inside(lambda uuid=node.uuid: site.ironic.power(uuid, "power off"))
        site.provide()
        site.until("available", site.all_free)
        (site.folder / "armed").touch()
        desk = Desk(site.store, site.ironic, resolved, undo=_no_time(), turnaround=_no_time())

        def ask(name: str, **wish) -> None:
            spec = ClaimSpec(name=name, image="debian", ssh_keys=[KEY], **wish)
            site.inside(lambda: desk.request(spec, "default", "test"))

        def is_(name: str, state: ClaimState) -> bool:
            site.prove()
            for node in site.inside(site.ironic.nodes):  # fake-hardware has no power of its own
                if not node.power_state:
                    site.inside(lambda uuid=node.uuid: site.ironic.power(uuid, "power off"))
            return site.claim(name).state is state

        ask("leased", count=2, lease_seconds=86400)
        site.until("active", lambda: is_("leased", ClaimState.ACTIVE))
        site.until("warned of", lambda: bool(site.claim("leased").warned))
        ask("gang", count=3, if_full="queue")
        assert site.claim("gang").state is ClaimState.QUEUED
        desk.renew("default", "leased", "test", ends_at=now() + timedelta(seconds=61))
        with site.store.write() as session:  # as if that minute were over
            row = session.exec(select(Claim).where(Claim.name == "leased")).one()
            row.renewed_to = now()
        site.until("its lease ended", lambda: is_("leased", ClaimState.RELEASED))
        site.until("the gang has them", lambda: is_("gang", ClaimState.ACTIVE))
        plan = site.inside(lambda: desk.plan_release("default", "gang"))
        site.inside(lambda: desk.release("default", "gang", plan.hash, "test", at_once=True))
        site.until("released", lambda: is_("gang", ClaimState.RELEASED))
        site.until("all free", site.all_free)
        ask("later", count=2, starts_at=now() + timedelta(seconds=3))
        assert site.claim("later").state is ClaimState.RESERVED
        site.until("it began", lambda: is_("later", ClaimState.ACTIVE))
        assert site.states() == ["active", "active", "available"]
        assert site.rows(Booking) == 0
        site.rest()
        ask("refused", if_full="queue")
        (node,) = site.held_by("refused")
        site.inside(lambda: site.ironic.set_maintenance(node, True, "a fan"))  # Seed sees it later
        site.until("it waits again", lambda: is_("refused", ClaimState.QUEUED))
        assert site.held_by("refused") == []
        locks = site.inside(lambda: site.ironic.allocated("baremetal"))
        assert {uuid for _, uuid, _ in locks.values()} == {str(u) for u in site.held_by("later")}
        site.inside(lambda: desk.release("default", "refused", "", "test", at_once=True))
        site.until("given up", lambda: is_("refused", ClaimState.RELEASED))
        crashed = (site.folder / "crashed").read_text().splitlines()
        print(f"\n{site.deaths} deaths at {len(crashed)} points")
        for needed in ("serve_queue", "begin_reserved", "_free", "warn", "_choose_anew"):
            assert any(f"after commit in {needed}" in point for point in crashed), needed


@pytest.mark.timeout(900)
def test_killed_at_every_step_a_class_reaches_ironic_and_a_node_is_inspected_once_more() -> None:
    with a_site() as site:
        with site.store.write() as session:
            classify.put(session, a_class(), "test")
        accept_all(site, inventory=an_inventory(), inventory_at=now())
        (site.folder / "armed").touch()
        site.until("inspected, and as their class says", lambda: site.dressed(["CUSTOM_NVME"]))
        assert site.states() == ["manageable"] * NODES
        for node in site.inside(site.ironic.nodes):
            site.inside(lambda uuid=node.uuid: site.ironic.power(uuid, "power off"))
        site.provide()
        site.until("available", site.all_free)
        with site.store.write() as session:
            classify.put(session, a_class(traits=["CUSTOM_GOLD"], capabilities={}), "test")
        with site.store.write() as session:
            plan = reclass.plan(session, [])
        with site.store.write() as session:
            assert len(reclass.apply(session, [], plan.hash, "test")) == NODES
        site.until("as the new class says", lambda: site.dressed(["CUSTOM_GOLD"]))
        for node in site.inside(site.ironic.nodes):
            assert node.provision_state == "available"
            assert capabilities(node.properties) == {}
        again = ["fake-1", "fake-2"]
        before = site.inspected_at()
        known = {n.uuid: n for n in site.inside(site.ironic.nodes)}
        with site.store.write() as session:
            plan = reinspect.plan(session, again, known)
        with site.store.write() as session:
            reinspect.apply(session, again, known, plan.hash, "test")
        site.until("inspected again", lambda: site.details(again, "inspected;"))
        after = site.inspected_at()
        assert {n for n in after if after[n] != before[n]} == set(again)
        assert site.states() == ["available", "manageable", "manageable"]
        site.provide()
        site.until("available again", site.all_free)
        site.until("no order is open", lambda: site.open_orders() == 0)
        with site.store.write() as session:
            session.exec(
                select(Bmc).where(Bmc.node_name == "fake-3")
            ).one().inventory = an_inventory(ssds=3)
        site.until("judged", lambda: site.misfits() == {"fake-3"})
        desk = Desk(site.store, site.ironic, resolved, undo=_no_time())
        spec = ClaimSpec(
            name="web", count=NODES, image="debian", ssh_keys=[KEY], resource_class="storage"
        )
        with pytest.raises(NoCapacity) as full:
            site.inside(lambda: desk.request(spec, "default", "test", insider=True))
        assert full.value.reasons == {
            "fake-3": "it is not as its class says: drives: 3 x ssd 960 GB, class wants 4"
        }
        with site.store.read() as session:
            orders = session.exec(select(Order).where(Order.kind == OrderKind.INSPECT)).all()
        assert len(orders) == NODES + len(again), "an inspection was ordered twice"
        crashed = (site.folder / "crashed").read_text().splitlines()
        print(f"\n{site.deaths} deaths at {len(crashed)} points")
        in_pool = [point for point in crashed if "bmc=available,managed" in point]
        for needed in ("set_traits", "patch_node"):
            assert any(f"before {needed}" in point for point in crashed)
            assert any(f"after {needed}" in point for point in crashed)
        for needed in ("manage", "inspect", "provide"):
            assert any(f"after provision {needed}" in point for point in crashed)
        for needed in ("manage", "inspect"):
            assert any(f"before provision {needed}" in point for point in in_pool)


NEEDED = [
    "before create_node", "after create_node", "before create_port", "after create_port",
    "before provision manage", "after provision manage", "before provision inspect",
    "after provision inspect", "before provision provide", "after provision provide",
    "before allocate", "after allocate", "before patch_node", "after patch_node",
    "before provision active", "after provision active", "before power", "after power",
    "before provision deleted", "after provision deleted", "before drop_allocation",
    "after drop_allocation", "after commit in _order", "after commit in _open_orders",
    "after commit in _undeploy", "after commit in _free", "after commit in _write_claim",
]  # fmt: skip


def accept_all(site: Site, **facts) -> None:
    with site.store.write() as session:
        login = Credential(name="fake", username="u", sealed=b"x")
        session.add(login)
        session.flush()
        for number in range(1, NODES + 1):
            address = f"192.0.2.{number}"
            who = identity_of(address)
            bmc = Bmc(
                address=address, protocol="fake", login=Login.OK, credential_id=login.id,
                serial=who.serial, system_uuid=who.system_uuid, macs=list(who.macs), **facts,
            )  # fmt: skip
            accept(session, bmc, f"fake-{number}", "baremetal", "test", OnAccept.KEEP)


def _no_time():
    return timedelta(0)
