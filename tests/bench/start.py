"""Rows `ready` and `memory`: an empty folder to a living driver, Seed against Ironic alone."""

import os
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import httpx

from provisioning.store import Store
from seed.host import appliance, netns, supervisor
from seed.host.services import PATH
from tests.bench.measure import ROUNDS, Figure, Row, compared, cpu_here, cpu_of
from tests.fakes.appliance import base_folder, environments, initialised, until
from tests.fakes.wire import appliance_namespace

# Stock settings but for the place of its files, the drivers we use and no login.
IRONIC_CONF = """\
[DEFAULT]
auth_strategy = noauth
rpc_transport = none
host = bench
my_ip = 127.0.0.1
state_path = {base}
enabled_hardware_types = redfish,ipmi
[api]
host_ip = 127.0.0.1
[database]
connection = sqlite:///{base}/ironic.db
[deploy]
http_root = {base}/http
iso_master_path = {base}/iso
[pxe]
tftp_root = {base}/tftp
tftp_master_path = {base}/tftp/master
images_path = {base}/images
instance_master_path = {base}/images/master
[oslo_concurrency]
lock_path = {base}/lock
[agent]
deploy_logs_local_path = {base}/deploy
certificates_path = {base}/certificates
"""
DRIVERS_URL = "http://127.0.0.1:6385/v1/drivers"
Round = tuple[Figure, Figure]
"""Seconds until ready, and MB of PSS then."""


def ours() -> Round:
    """`seed up`; the probe for other DHCP servers costs CPU here, but no time."""
    with base_folder() as base, appliance_namespace(f"seed-bench-{os.getpid()}") as namespace:
        os.environ["SEED_CONFIG"] = str(base / "seed.toml")
        settings = initialised(base, namespace)
        store = Store(settings.database_url)
        before = cpu_here()
        try:
            seconds = appliance.up(settings, prepare_database=store.create)
            root = supervisor.pid(settings)
            cpu = cpu_here() - before + cpu_of(supervisor.tree(root))
            return Figure(seconds, cpu), Figure(supervisor.memory_mb(root))
        finally:
            store.engine.dispose()
            appliance.down(settings)


def peer() -> Round:
    """`ironic-dbsync create_schema`, `ironic`, and the first answer that has both drivers."""
    with base_folder() as base, appliance_namespace(f"seed-bench-{os.getpid()}") as namespace:
        config = base / "ironic.conf"
        config.write_text(IRONIC_CONF.format(base=base))
        for folder in ("http", "tftp"):  # packages of Ironic bring them
            (base / folder).mkdir()
        programs = environments() / "ironic" / "bin"
        before, begin = cpu_here(), time.monotonic()
        run(namespace, base, programs / "ironic-dbsync", config, "create_schema").wait(120)
        server = run(namespace, base, programs / "ironic", config)
        try:
            until(lambda: {"redfish", "ipmi"} <= drivers(namespace), 60, "Ironic's drivers")
            seconds = time.monotonic() - begin
            cpu = cpu_here() - before + cpu_of(supervisor.tree(server.pid))
            return Figure(seconds, cpu), Figure(supervisor.memory_mb(server.pid))
        finally:
            server.terminate()
            server.wait(60)


def run(
    namespace: str, base: Path, program: Path, config: Path, *words: str
) -> subprocess.Popen[bytes]:
    argv = [*netns.prefix(namespace), str(program), "--config-file", str(config), *words]
    with (base / "log").open("ab") as log:
        return subprocess.Popen(argv, cwd=base, env={"PATH": PATH}, stdout=log, stderr=log)


def drivers(namespace: str) -> set[str]:
    def ask() -> set[str]:
        answer = httpx.get(DRIVERS_URL, timeout=3, trust_env=False)
        return {driver["name"] for driver in answer.raise_for_status().json()["drivers"]}

    try:
        return netns.call(namespace, ask)
    except (httpx.HTTPError, ValueError, KeyError):
        return set()


@cache
def rounds() -> list[tuple[Round, Round]]:
    """Both in turn, three times; shared by the two rows."""
    return [(ours(), peer()) for _ in range(ROUNDS)]


def _row(name: str, unit: str, part: int) -> list[Row]:
    return [compared(name, unit, [r[0][part] for r in rounds()], [r[1][part] for r in rounds()])]


ROWS: dict[str, Callable[[], list[Row]]] = {
    "ready": lambda: _row("ready", "s", 0),
    "memory": lambda: _row("memory", "MB PSS", 1),
}
