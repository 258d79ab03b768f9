"""Settings for tests, without a seed.toml."""

from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

from seed.host.setup import _Draft
from seed.settings import OutOfBandWire, ProvisioningWire, Settings, Wire


def some_settings(base: Path, **changes: Any) -> Settings:
    """The lab's three wires, with everything written below `base`."""
    values: dict[str, Any] = {
        "management": Wire(interface="mgmt0", address=IPv4Interface("172.22.2.1/24")),
        "provisioning": ProvisioningWire(
            interface="prov0",
            address=IPv4Interface("172.22.0.1/24"),
            pool_start=IPv4Address("172.22.0.10"),
            pool_end=IPv4Address("172.22.0.205"),
            unknown_start=IPv4Address("172.22.0.206"),
            unknown_end=IPv4Address("172.22.0.254"),
        ),
        "out_of_band": OutOfBandWire(interface="oob0", address=IPv4Interface("172.22.1.1/24")),
        "namespace": "seed-lab",
        "state_dir": base / "state",
        "run_dir": base / "run",
        "log_dir": base / "log",
        "env_dir": base / "envs",
    }
    return _Draft(**(values | changes))
