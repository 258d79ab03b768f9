"""A small house with real rows, real steps and a strict Ironic, whose clock and crashes a test has.

Whoever acts is one thread: what others do meanwhile is done at a chosen effect of the step that
runs. An effect is a committed write of ours or a changing call of Ironic.
"""

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from pydantic import SecretStr
from sqlmodel import Session, col, select

from provisioning import holding, models
from provisioning.bmc import Access
from provisioning.claims import Desk
from provisioning.cluster_rows import Member
from provisioning.ironic import Ironic
from provisioning.kube_api import KubeAccess
from provisioning.models import Address, Bmc, Booking, Claim, Credential, Hold, Order, now
from provisioning.networks import Pool
from provisioning.parts import Parts
from provisioning.reconcile import Reconciler
from provisioning.room import Slot
from provisioning.states import BmcGoal, Login
from provisioning.store import Store
from provisioning.tenants import Project
from tests.fakes.api import nobody_answers
from tests.fakes.crashing import EFFECTS, FakeBmc, NoWire, an_image, identity_of, resolved
from tests.fakes.ironic import FakeIronic
from tests.fakes.kube_apiserver import InMemory, KubeApiserver, a_node
from tests.fakes.pool import see
from tests.fakes.proofs import as_wanted
from tests.fakes.store import new_store

TURNAROUND, UNDO, GRACE = timedelta(minutes=30), timedelta(minutes=10), timedelta(minutes=5)


class Killed(BaseException):
    """kill -9: nothing that comes after it in the program happens."""


class Clock(datetime):
    """Put in the place of provisioning.models' `datetime`, it is the time of `now` everywhere."""

    at = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return Clock.at


@contextmanager
def clock() -> Iterator[type[Clock]]:
    real, Clock.at = models.datetime, datetime(2026, 12, 1, 8, 0, tzinfo=UTC)
    models.datetime = Clock  # type: ignore[misc]
    try:
        yield Clock
    finally:
        models.datetime = real  # type: ignore[misc]


class Alone(Executor):
    """One at a time, in this thread: what the hooks of a life see comes in one order."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))  # what it raises ends the step, as a death does
        return done


class HookedStore(Store):
    hook: Callable[[str, str, tuple[Any, ...]], None] = staticmethod(lambda when, what, args: None)
    """Told of each effect: "before" or "after", its name, its arguments."""

    @contextmanager
    def write(self) -> Iterator[Session]:
        with super().write() as session:
            yield session
        self.hook("after", "commit", ())


class House:
    """`nodes` servers, two to a rack, all available; a desk, and a reconciler for each life.

    kube: the API of the cluster that was asked last. unready: member -> why its Node is not Ready.
    """

    def __init__(self, nodes: int = 6) -> None:
        memory = Path("/dev", "shm")
        self._folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self.folder = Path(self._folder.name)
        (self.folder / "ca.pem").write_text("certificate\n")
        self.store = cast(HookedStore, new_store(self.folder, HookedStore))
        self.ironic = FakeIronic()
        self.kube: KubeApiserver | None = None
        self.unready: dict[str, str] = {}
        self.node_images: tuple[str, ...] = ()
        self.uuids = self._furnish(nodes)
        self.reconciler = self.a_life()
        self.desk = Desk(
            self.store,
            cast(Ironic, self.ironic),
            resolved,
            UNDO,
            turnaround=TURNAROUND,
            grace=GRACE,
        )
        see(self.store, self.ironic)

    def close(self) -> None:
        self.store.engine.dispose()
        self._folder.cleanup()

    def _furnish(self, nodes: int) -> list[UUID]:
        found = []
        with self.store.write() as session:
            for name in ("p", "q"):
                session.add(Project(name=name, max_priority=100))
            login = Credential(name="fake", username="u", sealed=b"x")
            session.add(login)
            session.flush()
            for n in range(1, nodes + 1):
                who, name = identity_of(f"192.0.2.{n}"), f"node-{n}"
                uuid = UUID(self.ironic.add(name, inspected_at="then").uuid)
                self.ironic.macs[str(uuid)] = dict.fromkeys(who.macs, True)
                session.add(
                    Bmc(
                        address=f"192.0.2.{n}", protocol="fake", login=Login.OK,
                        credential_id=login.id, told_ironic=login.id, serial=who.serial,
                        system_uuid=who.system_uuid, macs=list(who.macs), node_uuid=uuid,
                        node_name=name, goal=BmcGoal.AVAILABLE,
                    )
                )  # fmt: skip
                session.add(Hold(node_uuid=uuid))
                session.add(Address(address=f"172.22.0.{n + 10}", mac=who.macs[0], node_uuid=uuid))
                session.add(Slot(rack=f"r{(n + 1) // 2}", unit=2 - n % 2, serial=who.serial))
                found.append(uuid)
        return found

    def a_life(self) -> Reconciler:
        """A reconciler that remembers nothing."""
        parts = Parts(
            store=self.store, ironic=cast(Ironic, Between(self)), protocols={"fake": FakeBmc()},
            access=lambda c: Access(c.username, SecretStr("x"), "mark"), sealer=cast(Any, None),
            authority=cast(Any, None), token=lambda purpose: f"token-{purpose}",
            pool=Pool(IPv4Interface("172.22.0.1/24"), IPv4Address("172.22.0.10"),
                      IPv4Address("172.22.0.99")),
            answers=nobody_answers, boot=NoWire(), ca_dir=self.folder, image=an_image, boot_url="http://172.22.0.1",
            gateway_url="https://172.22.0.1", gateway_ca=self.folder / "ca.pem", undo=UNDO,
            turnaround=TURNAROUND, kube=self.kube_of,
        )  # fmt: skip
        parts.__dict__["gang"] = Alone()
        return Reconciler(parts, cast(Any, None))

    def kube_of(self, access: KubeAccess) -> InMemory:
        """A cluster's Kubernetes API, in which every member that joined is a Node, and Ready."""
        if self.kube is None or self.kube.ca != access.ca:
            self.kube = KubeApiserver(access.ca)
        held = {hold.claim_id: hold.node_uuid for hold in self.rows(Hold)}
        for member in self.rows(Member):
            path = f"/api/v1/nodes/{member.name}"
            if member.joined_at is None or member.claim_id not in held:
                self.kube.objects.pop(path, None)
                continue
            provider = f"seed://{held[member.claim_id]}"
            why = self.unready.get(member.name, "")
            self.kube.objects[path] = a_node(member.name, provider, why, self.node_images)
        return InMemory(self.kube, access)

    # --- what goes on by itself -----------------------------------------------------------------

    def step(self, claim: UUID) -> None:
        self.reconciler._claim(claim)

    def serve(self) -> None:
        holding.serve_queue(self.store, TURNAROUND)

    def work(self, fails: bool = False) -> None:
        """Every node of Ironic's goes one state on, and who was deployed phones home."""
        for uuid in self.uuids:
            self.ironic.work(uuid, fails)
        self.reconciler.parts.__dict__.pop("watch", None)  # no clock of ours ages what it saw
        self.prove()

    def prove(self) -> None:
        with self.store.write() as session:
            waiting = select(Order).where(
                col(Order.proof_at).is_(None), Order.proof_hash != "",
                col(Order.ironic_done_at).is_not(None),
            )  # fmt: skip
            for order in session.exec(waiting).all():
                hold = session.get_one(Hold, order.node_uuid)
                if hold.claim_id is None or hold.generation != order.generation:
                    continue
                order.proof_at, order.proof = now(), as_wanted(order)
                session.add(order)

    def see(self) -> None:
        see(self.store, self.ironic)

    def round(self) -> None:
        """One look at everything, as often as the reconciler would have in some seconds."""
        self.see()
        self.serve()
        for claim in self.living():
            self.step(claim.id)
        self.work()

    # --- what is --------------------------------------------------------------------------------

    def living(self) -> list[Claim]:
        with self.store.read() as session:
            query = select(Claim).where(col(Claim.ended_at).is_(None))
            return list(session.exec(query.order_by(col(Claim.created_at))).all())

    def rows(self, kind: type[Any]) -> list[Any]:
        with self.store.read() as session:
            return list(session.exec(select(kind)).all())

    def snapshot(self) -> tuple[dict[UUID, Claim], list[Hold], list[Booking]]:
        with self.store.read() as session:
            claims = {c.id: c for c in session.exec(select(Claim)).all()}
            holds, booked = session.exec(select(Hold)).all(), session.exec(select(Booking)).all()
        return claims, list(holds), list(booked)

    def held_by(self, claim: UUID) -> set[UUID]:
        return {h.node_uuid for h in self.rows(Hold) if h.claim_id == claim}


class Between:
    """The house's Ironic, with a point before and behind each changing call."""

    def __init__(self, house: House) -> None:
        self._house = house

    def __getattr__(self, name: str) -> Any:
        called = getattr(self._house.ironic, name)
        if name not in EFFECTS:
            return called

        def around(*args: Any, **kwargs: Any) -> Any:
            self._house.store.hook("before", name, args)
            answer = called(*args, **kwargs)
            self._house.store.hook("after", name, args)
            return answer

        return around
