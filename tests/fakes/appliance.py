"""An appliance of its own for a test: folder, namespace, settings."""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from seed.host import appliance
from seed.settings import Settings

SERVICES = ["ironic", "dnsmasq", "nginx"]
KNOWN, STRANGER = "52:54:00:22:00:01", "52:54:00:22:00:99"


def environments() -> Path:
    """Folder of the environments that this test runs in."""
    return Path(sys.prefix).parent


def until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait for `condition`; return the seconds it took, fail after `seconds`."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, f"{what} not within {seconds} s"
        time.sleep(0.05)
    return time.monotonic() - begin


@contextmanager
def base_folder() -> Iterator[Path]:
    """A folder that the services' users may enter (pytest's own are root's alone)."""
    base = Path(tempfile.mkdtemp(prefix="seed-test-", dir="/var/tmp"))
    base.chmod(0o755)
    try:
        yield base
    finally:
        shutil.rmtree(base)


def initialised(base: Path, namespace: str) -> Settings:
    settings, _ = appliance.init(
        management="mgmt0",
        provisioning="prov0",
        out_of_band="oob0",
        namespace=namespace,
        path=base / "seed.toml",
        state_dir=base / "state",
        run_dir=base / "run",
        log_dir=base / "log",
        env_dir=environments(),
    )
    return settings
