"""Row `deploy`: a claim from its wish to `active`, against its three parts measured apart.

One server of the lab, one run. The parts: the ramdisk's boot (power on to the agent's heartbeat,
while cleaning), the image's bytes over the wire (curl on the installed server, to nowhere), and
the disk's boot (power on to the proof's arrival, cloud-init and all, once the deploy is over). A
boot that was faster within the deploy than apart counts with that time: others on the machine
only ever add, and a slow part must not make the whole look good.
Boots are counted from the start of the server's QEMU, what arrives by nginx's own access log.
What happens within the deploy is said on standard error. Takes ten minutes under emulation.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from seed.lab.demo import SCENARIO, Demo, out
from seed.lab.lab import Lab, stored
from tests.bench.measure import Row
from tests.fakes.appliance import environments
from tests.fakes.machine import fresh, until

HOME = Path("/var/tmp/seed-bench-deploy")  # noqa: S108  the services' own users must enter it
NAMESPACE, SERVER, CLAIM = "seed-bench-deploy", "server1", "bench"
LOOK, LONG = 0.2, 1200.0
BOOTED, PROOF, HEARTBEAT = "power on", "/v1/phone-home", "/v1/heartbeat"


@dataclass
class Power:
    """When the server's QEMU began and ended, in seconds since the epoch."""

    lab: Lab
    on: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        pid = 0
        mark = str(self.lab.layout.disk(SERVER, 0)).encode()
        while not self.ended.wait(LOOK):
            if pid and not Path(f"/proc/{pid}/cmdline").exists():
                self.off.append(time.time())
                pid = 0
            pid = pid or _qemu(mark)
            if pid and len(self.on) == len(self.off):
                self.on.append(time.time())


def _qemu(mark: bytes) -> int:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if words.startswith(b"/usr/bin/qemu-system") and mark in words:
            return int(path.parent.name)
    return 0


@contextmanager
def _watched(lab: Lab) -> Iterator[Power]:
    power = Power(lab)
    thread = threading.Thread(target=power.watch, daemon=True)
    thread.start()
    try:
        yield power
    finally:
        power.ended.set()
        thread.join(10)


def _demo() -> Demo:
    scenario = fresh(HOME, NAMESPACE)
    room = yaml.safe_load(SCENARIO.read_text())
    room["namespace"] = NAMESPACE
    room["servers"] = [s for s in room["servers"] if s["name"] == SERVER]
    scenario.write_text(yaml.safe_dump(room))
    return Demo(HOME, scenario)


def _requests(demo: Demo) -> list[tuple[float, str, float]]:
    """All that nginx served: when it ended, the path, how long it took."""
    lines = (demo.home / "log" / "nginx" / "access.log").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    return [
        (datetime.fromisoformat(t["time"]).timestamp(), t["path"], float(t["seconds"]))
        for t in told
    ]


def _first(demo: Demo, path: str, after: float) -> float:
    """When this path was first asked for after then; 0.0: not yet."""
    found = [at for at, seen, _ in _requests(demo) if seen.startswith(path) and at >= int(after)]
    return found[0] if found else 0.0


def _steps(demo: Demo) -> list[dict[str, Any]]:
    return list(demo.look_at(f"/claims/{CLAIM}/timeline")["steps"])


def _on_node(demo: Demo, command: str) -> str:
    line = demo.ssh_lines(CLAIM)[0].split()
    done = subprocess.run(
        [*line, "-o", "BatchMode=yes", f"sudo sh -c '{command}'"],
        capture_output=True, text=True, timeout=LONG, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 255):  # 255: it powered itself off
        raise RuntimeError(f"{command}: {done.stderr}")
    return done.stdout


def _over_the_wire(demo: Demo) -> float:
    image = next(i for i in demo.ask("image", "list") if i["name"] == "debian")
    path = f"debian/{image['version']}/disk.qcow2"
    url = f"http://{demo.scenario.networks['prov0'].ip}/images/{path}"
    size = (demo.home / "state" / "http" / "images" / path).stat().st_size
    told = _on_node(demo, f'curl -sfo /dev/null -w "%{{time_total}} %{{size_download}}" {url}')
    seconds, got = told.split()
    assert int(got) == size, told
    return float(seconds)


def _boot_again(demo: Demo, lab: Lab, power: Power) -> float:
    """Seconds from power on to the proof, as at the first time: cloud-init forgot that it ran."""
    ons, offs = len(power.on), len(power.off)
    _on_node(demo, "cloud-init clean --logs && systemctl poweroff")
    until(lambda: len(power.off) > offs, LONG, "the server is off")
    lab.hypervisor.power(SERVER, "on")
    until(lambda: len(power.on) > ons, LONG, BOOTED)
    until(lambda: _first(demo, PROOF, power.on[-1]), LONG, "the proof once more")
    return _first(demo, PROOF, power.on[-1]) - power.on[-1]


def _told(demo: Demo, power: Power, begin: float, end: float) -> None:
    """What happened within the deploy, in seconds since the wish."""
    rows = [(at, BOOTED) for at in power.on] + [(at, "power off") for at in power.off]
    rows += [(at, f"{path} ({took:.1f} s)") for at, path, took in _requests(demo)]
    for at, what in sorted(rows):
        if int(begin) <= at <= end:
            sys.stderr.write(f"  {at - begin:6.1f} s  {what}\n")


def rows() -> list[Row]:
    out.file = sys.stderr  # a row is a line on standard output
    demo = _demo()
    try:
        demo.start("ramdisk", "debian")
        lab = Lab(stored(demo.lab_dir), demo.lab_dir, environments())
        with _watched(lab) as power:
            return _measured(demo, lab, power)
    finally:
        demo.end()


def _measured(demo: Demo, lab: Lab, power: Power) -> list[Row]:
    demo.find()
    demo.take_in()
    demo.offer()
    ramdisk = _first(demo, HEARTBEAT, power.on[-1]) - power.on[-1]
    offs, ons = len(power.off), len(power.on)
    begin = time.time()
    demo.claim(CLAIM)
    steps = _steps(demo)
    active = next(s for s in steps if s["name"] == "active")
    end = datetime.fromisoformat(active["begin"]).timestamp()
    whole = end - begin
    _told(demo, power, begin, end)
    own_ramdisk = _first(demo, HEARTBEAT, power.on[ons]) - power.on[ons]
    own_disk = _first(demo, PROOF, power.on[-1]) - power.on[-1]
    again = power.on[-1] - power.off[offs]
    wire = _over_the_wire(demo)
    disk = _boot_again(demo, lab, power)
    parts = min(ramdisk, own_ramdisk) + wire + min(disk, own_disk)
    return [
        Row("deploy", round(whole, 1), "s", round(parts, 1), round(whole / parts, 2)),
        Row("deploy: ramdisk boot", round(own_ramdisk, 1), "s", round(ramdisk, 1)),
        Row("deploy: image over the wire", round(wire, 1), "s"),
        Row("deploy: disk boot", round(own_disk, 1), "s", round(disk, 1)),
        Row("deploy: off between ramdisk and disk", round(again, 1), "s"),
    ]


ROWS: dict[str, Callable[[], list[Row]]] = {"deploy": rows}
