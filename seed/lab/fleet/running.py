"""A fleet as a child process in a network namespace, and how to ask and tell it."""

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioning.errors import HostError, NotFound
from seed.host import netns
from seed.lab.fleet import wire
from seed.lab.fleet.shapes import Shape
from seed.lab.fleet.spec import Lie, Spec

START_SECONDS = 30.0
ASK_SECONDS = 10.0


@dataclass(frozen=True)
class Control:
    """The control socket of a running fleet."""

    path: Path

    def ask(self, **question: Any) -> dict[str, Any]:
        """One question, one answer. NotFound where no fleet or no such BMC is."""
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(ASK_SECONDS)
                line.connect(str(self.path))
                line.sendall(json.dumps(question).encode() + b"\n")
                answer: dict[str, Any] = json.loads(line.makefile("rb").readline())
        except (OSError, ValueError) as err:
            raise NotFound("no fleet runs here", "seed lab fleet up") from err
        if "error" in answer:
            raise NotFound(answer["error"], "seed lab fleet list")
        return answer

    def bmcs(self) -> list[dict[str, Any]]:
        """Every BMC: who it is and what it counted (bmc.Counts)."""
        return list(self.ask(do="bmcs")["bmcs"])

    def bmc(self, address: str) -> dict[str, Any]:
        return next(b for b in self.bmcs() if b["address"] == address)

    def set(self, address: str, **changes: Any) -> None:
        """Change lie, shapes, power, serial, login_seconds, get_seconds or session_limit."""
        self.ask(do="set", address=address, changes=changes)

    def lie(self, address: str, lie: Lie | None) -> None:
        self.set(address, lie=lie)

    def shape(self, address: str, *shapes: Shape) -> None:
        self.set(address, shapes=shapes)

    def renew_certificate(self, address: str) -> None:
        """The BMC shows another certificate from now on."""
        self.ask(do="renew", address=address)

    def bytes_per_bmc(self) -> int:
        return int(self.ask(do="status")["bytes_per_bmc"])


@contextmanager
def running(
    spec: Spec, namespace: str, control: Path | None = None, attach: str = ""
) -> Iterator[Control]:
    """The fleet answers in `namespace`; afterwards its process and its addresses are gone.

    attach: a second namespace that shall reach the fleet as over a router; there, other programs
    may have the ports 443 and 623.
    """
    with tempfile.TemporaryDirectory(prefix="seed-fleet-") as folder:
        path = control or Path(folder) / "control.sock"
        wire.make(namespace, spec.range, spec.where())
        if attach:
            wire.attach(namespace, attach, spec.range)
        argv = [*netns.prefix(namespace), sys.executable, "-m", "seed.lab.fleet", str(path)]
        child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            _start(child, spec)
            yield Control(path)
        finally:
            _stop(child)
            wire.remove(namespace)
            path.unlink(missing_ok=True)


def _start(child: subprocess.Popen[bytes], spec: Spec) -> None:
    assert child.stdin is not None  # noqa: S101 - both are pipes
    assert child.stdout is not None  # noqa: S101
    child.stdin.write(json.dumps(spec.wire_form()).encode() + b"\n")
    child.stdin.flush()
    if child.stdout.readline() != b"ready\n":
        raise HostError(
            "the fleet did not start; are ports 443 and 623 of its namespace free?",
            "ss -lntup; seed lab fleet up --namespace NAME",
        )


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.communicate(timeout=START_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate(timeout=START_SECONDS)
        raise
