"""The real reconciler, which kills itself (SIGKILL) at one chosen step of a BMC's change of login.

python -m tests.fakes.crashing_logins FOLDER, with SEED_CONFIG set. FOLDER/points gets a line for
each step it passes; at the one that FOLDER/armed names it dies, once. The next life begins at once,
with one more line in FOLDER/deaths. What runs beside the change (the look at Ironic's nodes, the
other BMC, surveys) is no step of it: whether it writes something just then is chance.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from provisioning import reconcile, rotation
from provisioning.reconcile import Reconciler
from provisioning.room import Rotation
from provisioning.store import Store
from seed import log as logs
from seed import reconciler
from seed.settings import Settings
from tests.fakes.crashing import CrashingStore, until_told
from tests.fakes.reborn import reborn

ON_BMC = ("password_lengths", "set_password", "check_login", "request_csr", "install_certificate")
IN_IRONIC = ("patch_node", "set_maintenance")


class OneDeath:
    """Points are named after the effect and how far the change is: "before set_password: sent"."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.armed, self.points, self.store = folder / "armed", folder / "points", store
        self.stepping = threading.local()

    def point(self, what: str) -> None:
        bmc = getattr(self.stepping, "bmc", None)
        if bmc is None:
            return
        with self.store.read() as session:
            change = session.get(Rotation, bmc)
        if change is None and "_finish" not in what:
            return
        label = f"{what}: {change.step if change else 'gone'}"
        with self.points.open("a") as file:
            file.write(label + "\n")
        if self.armed.exists() and self.armed.read_text() == label:
            self.armed.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            self.point(f"before {name}")
            result = function(*args, **kwargs)
            self.point(f"after {name}")
            return result

        return called


class Mortal(Reconciler):
    """Its deaths happen in the steps of a BMC that changes its login."""

    death: OneDeath

    def _bmc(self, identity: UUID) -> float:
        self.death.stepping.bmc = identity
        try:
            return super()._bmc(identity)
        finally:
            self.death.stepping.bmc = None


def make(folder: Path) -> Reconciler:
    settings = Settings()  # type: ignore[call-arg]
    real = reconciler.make(settings)
    store = CrashingStore(settings.database_url)
    death = OneDeath(folder, store)
    store.crasher = death  # type: ignore[assignment]
    for protocol in real.parts.protocols.values():
        for name in filter(lambda n, p=protocol: hasattr(p, n), ON_BMC):
            setattr(protocol, name, death.around(name, getattr(protocol, name)))
    for name in IN_IRONIC:
        setattr(real.parts.ironic, name, death.around(name, getattr(real.parts.ironic, name)))
    mortal = Mortal(replace(real.parts, store=store), replace(real.finder, store=store))
    mortal.death = death
    return mortal


if __name__ == "__main__":
    logs.configure(sys.stdout)
    reconcile.THREADS = 1  # so that no other step's death hides a point
    rotation.QUIET_SECONDS = 0.2  # type: ignore[misc]  # Ironic's power sync is off here
    reborn(lambda: until_told(make, Path(sys.argv[1])), Path(sys.argv[1]) / "deaths")
