"""What ipmi_sim asks about its server: power, boot device, LAN parameters.

ipmi_sim runs it as `python ipmi_control.py DIRECTORY get NAME...`, `... set NAME VALUE...` or
`... check NAME VALUE...`, and reads "NAME:VALUE" lines. Standard library only.

ipmi_sim stands still while this runs, and a client that waits longer than a second repeats its
command: the server would be reset twice. So pressing a button only begins, as on a real BMC.
"""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

BOOT_DEVICES = ("none", "pxe", "default", "bios")
LAN_NAMES = ("ip_addr", "ip_addr_src", "mac_addr", "subnet_mask")
_VIRSH_SECONDS = 30


class Control:
    """One server's power and boot device, through virsh on the lab's own libvirt."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config: dict[str, Any] = json.loads((directory / "control.json").read_text())

    def virsh(self, *argv: str) -> str:
        command = ["virsh", "-q", "-c", self.config["libvirt_uri"], *argv]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_VIRSH_SECONDS, check=True
        )
        return done.stdout.strip()

    @property
    def name(self) -> str:
        return str(self.config["name"])

    def is_on(self) -> bool:
        return self.virsh("domstate", self.name) not in ("shut off", "crashed")

    @property
    def boot_file(self) -> Path:
        return self.directory / "boot.json"

    def boot(self) -> dict[str, str]:
        """`persistent`: "network" or "disk"; `once`: the device asked for, or "none"."""
        try:
            found: dict[str, str] = json.loads(self.boot_file.read_text())
        except (OSError, ValueError):
            return {"persistent": "network", "once": "none"}
        return found

    def set_boot(self, device: str) -> None:
        """IPMI's boot flags. ipmi_sim drops the "persistent" bit, so we choose what is usual:
        pxe counts for one boot; disk (which arrives as "default") stays until changed."""
        boot = self.boot()
        if device == "default":
            boot = {"persistent": "disk", "once": "none"}
        else:
            boot["once"] = device
        fresh = self.boot_file.with_name("boot.new")
        fresh.write_text(json.dumps(boot))
        fresh.replace(self.boot_file)

    def power_on(self) -> None:
        """Start with the boot device asked for; a one-time one is forgotten after that."""
        if self.is_on():
            return
        boot = self.boot()
        first = "network" if boot["once"] == "pxe" else boot["persistent"]
        self.virsh("define", self.config["domain_xml"][first])
        self.virsh("start", self.name)
        if boot["once"] != "none":
            self.set_boot("none")

    def power_off(self) -> None:
        if self.is_on():
            self.virsh("destroy", self.name)

    def set(self, name: str, value: str) -> None:
        """One of ipmi_sim's set commands."""
        if name == "power":
            on = value == "1"
            self.begin(self.power_on if on else self.power_off, meanwhile="0" if on else "1")
        elif name == "boot" and value in BOOT_DEVICES:
            self.set_boot(value)
        elif name == "reset":
            self.begin(self.reset, meanwhile="1")
        elif name == "shutdown":
            self.begin(self.soft_off, meanwhile="1")
        elif name != "identify":
            raise SystemExit(1)

    def begin(self, action: Callable[[], None], meanwhile: str) -> None:
        """Do `action` in the background, after what was begun before.

        `meanwhile` is the power state given out until it is done: libvirt would make us wait.
        """
        lock = (self.directory / "control.lock").open("a")
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(meanwhile)
        lock.flush()
        if os.fork():
            return  # the child's copy of the descriptor keeps the lock
        os.setsid()
        log = os.open(self.directory / "control.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (0, 1, 2):
            os.dup2(log, stream)
        action()

    def power(self) -> str:
        """ "1" if the server is on, "0" if not."""
        with (self.directory / "control.lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                return lock.read(1) or "0"
            return "1" if self.is_on() else "0"

    def reset(self) -> None:
        """Not virsh's reset: QEMU reads a new boot device only when it starts."""
        if self.is_on():
            self.power_off()
            self.power_on()

    def soft_off(self) -> None:
        if self.is_on():
            self.virsh("shutdown", self.name)

    def get(self, name: str) -> str:
        """One of ipmi_sim's get commands."""
        if name == "power":
            return self.power()
        if name == "boot":
            boot = self.boot()
            if boot["once"] != "none":
                return boot["once"]
            return "default" if boot["persistent"] == "disk" else "none"
        lan: dict[str, str] = self.config["lan"]
        if name in lan:
            return lan[name]
        if name.endswith("mac_addr"):
            return "00:00:00:00:00:00"
        if name.endswith("ip_addr"):
            return "0.0.0.0"  # noqa: S104 -- "no gateway"; nothing listens there
        raise SystemExit(1)


def main(argv: list[str]) -> None:
    # ipmi_sim's children inherit its sockets; a long-lived one would keep its port taken.
    os.closerange(3, 256)
    control = Control(Path(argv[1]))
    operation, words = argv[2], argv[3:]
    if operation == "get":
        for name in words:
            print(f"{name}:{control.get(name)}")
    elif operation == "set":
        for name, value in zip(words[::2], words[1::2], strict=True):
            control.set(name, value)
    elif operation != "check":
        raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv)
