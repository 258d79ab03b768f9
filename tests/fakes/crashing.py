"""A real reconciler process that kills itself (SIGKILL) right before and right after each effect.

python -m tests.fakes.crashing FOLDER: FOLDER/store.json says where database, Ironic and password
are. Each crash point kills once; FOLDER/crashed holds those that did. The next life begins at once,
with one more line in FOLDER/deaths. Without FOLDER/armed nothing is killed. An effect is a
committed write of ours, a changing call of Ironic, or the wire's files.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlmodel import Session, col, select

from provisioning import parts as module_parts
from provisioning import reconcile
from provisioning.authority import Authority
from provisioning.bmc import Access, Contact, Identity, Survey
from provisioning.discovery import Finder
from provisioning.hardware import Inventory
from provisioning.image import Image, ImageFile
from provisioning.ironic import Ironic
from provisioning.models import Bmc, Claim, Credential, now
from provisioning.networks import Pool
from provisioning.parts import Parts
from provisioning.reconcile import Reconciler
from provisioning.secrets import Sealer
from provisioning.store import Store
from provisioning.wire import WireState
from seed import log as logs
from tests.fakes.hardware import an_inventory
from tests.fakes.reborn import reborn

EFFECTS = ("create_node", "patch_node", "create_port", "provision", "power", "allocate",
           "drop_allocation", "set_maintenance", "set_traits")  # fmt: skip


class FakeBmc:
    """A server that only exists in Ironic's fake-hardware; as strict about who it is as a real one.

    Its address says who it is: 192.0.2.7 is serial FAKE-7.
    """

    name = "fake"
    driver = "fake-hardware"
    knock = shout = None
    at_once = 1

    async def probe(self, address: str, timeout: float, line: Any = None) -> Contact | None:
        return Contact(address, self.name)

    def heard(self, address: str) -> Contact | None:
        return None

    def identify(self, contact: Contact, access: Access, timeout: float) -> Identity:
        return identity_of(contact.address)

    def survey(self, contact: Contact, access: Access, timeout: float) -> Survey:
        who = identity_of(contact.address)
        seen = Inventory.model_validate(an_inventory())
        return Survey(who, seen.model_copy(update={"serial": who.serial, "health": "OK"}))

    def locate(self, contact: Contact, access: Access, on: bool, timeout: float) -> None:
        """Its LED is nowhere to be seen."""

    def hang_up(self) -> None:
        """Nobody ever talks to it for long."""

    def driver_info(self, *_: Any) -> dict[str, Any]:
        return {}


def identity_of(address: str) -> Identity:
    number = int(address.rsplit(".", 1)[1])
    return Identity(
        serial=f"FAKE-{number}",
        system_uuid=f"00000000-0000-4000-8000-{number:012d}",
        vendor="Fake",
        model="F",
        macs=(f"52:54:00:99:00:{number:02x}",),
    )


def an_image(ref: str) -> Image:
    """NAME or NAME:VERSION, as the reconciler asks for it."""
    name = ref.partition(":")[0]
    file = ImageFile(name="disk.qcow2", size=1, sha256="0" * 64, sha512="0" * 128)
    return Image(
        name=name, version="1", recipe="debian", architecture="x86_64", firmware=("bios", "uefi"),
        format="qcow2", files={"disk": file}, virtual_size=1, min_disk_gib=1, built_at=now(),
        build_seconds=0, ssh_user="debian",
    )  # fmt: skip


def resolved(_session: Session, ref: str, _insider: bool) -> Image:
    """The same as the desk asks for it."""
    return an_image(ref)


class NoWire:
    def serve(self, wanted: WireState) -> None:
        """Nothing boots here; the e2e tests have the real one."""


class Crasher:
    """What Ironic is told is told to its end: no other thread's death hides what comes after it."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self.lock = threading.RLock()
        self.done = folder / "crashed"

    def point(self, what: str) -> None:
        """Die here, if this point never killed before. The claim's state is part of its name."""
        if not (self.folder / "armed").exists():
            return
        with self.lock:
            with self.store.read() as session:
                claims = select(Claim.state).where(col(Claim.ended_at).is_(None))
                states, goals = session.exec(claims).all(), session.exec(select(Bmc.goal)).all()
            label = f"{what} claim={','.join(states) or '-'} bmc={','.join(sorted(set(goals)))}"
            known = self.done.read_text().splitlines() if self.done.exists() else []
            if label in known:
                return
            with self.done.open("a") as file:
                file.write(label + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            target = f" {args[1]}" if name == "provision" else ""
            with self.lock:
                self.point(f"before {name}{target}")
                try:
                    return function(*args, **kwargs)
                finally:  # also where only its answer was lost: Ironic resets connections at times
                    self.point(f"after {name}{target}")

        return called


class CrashingStore(Store):
    crasher: Crasher | None = None

    @contextmanager
    def write(self) -> Iterator[Session]:
        with super().write() as session:
            yield session
        caller = sys._getframe(2).f_code.co_name
        if self.crasher:
            self.crasher.point(f"after commit in {caller}")


def make(folder: Path) -> Reconciler:
    told = json.loads((folder / "store.json").read_text())
    store = CrashingStore(told["database"])
    crasher = store.crasher = Crasher(folder, store)
    ironic = Ironic(told["ironic"], "seed-reconciler", SecretStr(told["password"]))
    for name in EFFECTS:
        setattr(ironic, name, crasher.around(name, getattr(ironic, name)))

    def access(credential: Credential) -> Access:
        return Access(credential.username, SecretStr("x"), "mark")

    parts = Parts(
        store=store,
        ironic=ironic,
        protocols={"fake": FakeBmc()},
        access=access,
        sealer=Sealer(folder / "master.pub"),
        authority=Authority(folder / "bmc-ca.key", folder / "bmc-ca.pem"),
        token=lambda purpose: f"token-{purpose}",
        pool=Pool(
            IPv4Interface("172.22.0.1/24"), IPv4Address("172.22.0.10"), IPv4Address("172.22.0.99")
        ),
        boot=NoWire(),
        ca_dir=folder,
        image=an_image,
        boot_url="http://172.22.0.1",
        gateway_url="https://172.22.0.1",
        gateway_ca=folder / "store.json",
        undo=timedelta(0),
        turnaround=timedelta(0),
    )
    return Reconciler(parts, Finder(store, {"fake": FakeBmc()}, access, parts.sealer))


def until_told(maker: Callable[[Path], Reconciler], folder: Path) -> None:
    """Runs until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    maker(folder).run(stop)


if __name__ == "__main__":
    logs.configure(sys.stdout)
    reconcile.THREADS = module_parts.GANG = 1  # so that no other death hides a point
    reborn(lambda: until_told(make, Path(sys.argv[1])), Path(sys.argv[1]) / "deaths")
