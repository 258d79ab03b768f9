"""BMCs lease addresses from the real dnsmasq on the out-of-band wire, and are seen as they do."""

import os
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest
from sqlmodel import select

from provisioning.errors import HostError
from provisioning.leases import LeaseWatch
from provisioning.models import Discovery
from provisioning.room import Observation
from seed.host import appliance, checks, netns
from seed.host.paths import Paths
from seed.settings import OutOfBandWire, Settings
from tests.fakes.appliance import STRANGER, base_folder, until
from tests.fakes.settings import some_settings
from tests.fakes.store import new_store
from tests.fakes.wire import appliance_namespace, client_namespace, discover, take

BMC = "52:54:00:bc:00:01"
POOL = (IPv4Address("172.22.1.100"), IPv4Address("172.22.1.109"))


def with_pool(base: Path, namespace: str) -> Settings:
    wire = OutOfBandWire(
        interface="oob0",
        address=IPv4Interface("172.22.1.1/24"),
        pool_start=POOL[0],
        pool_end=POOL[1],
    )
    return some_settings(
        base, namespace=namespace, out_of_band=wire, env_dir=Path(sys.prefix).parent
    )


@pytest.fixture(scope="module")
def running() -> Iterator[Settings]:
    with base_folder() as base, appliance_namespace(f"seed-tl-{os.getpid()}") as namespace:
        settings = with_pool(base, namespace)
        try:
            appliance.up(settings, names=["dnsmasq"])
            yield settings
        finally:
            appliance.down(settings)


def test_a_bmc_that_leases_an_address_is_seen_and_probed(running: Settings, tmp_path: Path) -> None:
    store = new_store(tmp_path)
    watch = LeaseWatch(store, Paths(running).leases, *POOL, "oob0")
    with client_namespace(running.namespace, f"seed-tl-{os.getpid()}-c1", "oob0") as bmc:
        lease = take(bmc, BMC)
    assert lease is not None
    assert POOL[0] <= IPv4Address(lease.address) <= POOL[1]
    assert (lease.file, lease.options["lease_time"]) == ("", 3600)
    until(lambda: watch.look() == 1, 10, "the lease in the file")
    with store.read() as session:
        row = session.exec(select(Observation)).one()
        sweep = session.exec(select(Discovery)).one()
    assert (row.source, row.bmc_mac, row.bmc_address) == ("lease", BMC, lease.address)
    assert sweep.ranges == [lease.address]


@pytest.mark.parametrize("architecture", [0, 7])
def test_a_server_on_the_wire_of_bmcs_boots_nothing(running: Settings, architecture: int) -> None:
    with client_namespace(running.namespace, f"seed-tl-{os.getpid()}-c2", "oob0") as server:
        offer = discover(server, STRANGER, architecture)
    assert offer is not None
    assert offer.file == ""


def test_servers_on_their_own_wire_boot_as_ever(running: Settings) -> None:
    with client_namespace(running.namespace, f"seed-tl-{os.getpid()}-c3", "prov0") as server:
        offer = discover(server, STRANGER, 7)
    assert offer is not None
    assert offer.file == "snponly.efi"
    assert IPv4Address(offer.address) not in range(int(POOL[0]), int(POOL[1]) + 1)


def test_nobody_else_may_answer_on_the_wire_of_bmcs(tmp_path: Path) -> None:
    """Another DHCP server there: `seed up` refuses, and names it."""
    with (
        appliance_namespace(f"seed-tf-{os.getpid()}") as namespace,
        client_namespace(namespace, f"seed-tf-{os.getpid()}-c1", "oob0") as other,
        base_folder() as base,
    ):
        subprocess.run(
            ["ip", "-n", other, "address", "add", "172.22.1.9/24", "dev", "eth0"],
            check=True, timeout=20,
        )  # fmt: skip
        foreign = subprocess.Popen(
            [*netns.prefix(other), "/usr/sbin/dnsmasq", "--keep-in-foreground", "--port=0",
             "--conf-file=/dev/null", "--interface=eth0", "--dhcp-range=172.22.1.50,172.22.1.60",
             f"--dhcp-leasefile={tmp_path}/leases", f"--pid-file={tmp_path}/pid", "--user=root"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            until(
                lambda: discover(namespace, BMC, 0, interface="oob0") is not None, 30, "its offer"
            )
            settings = with_pool(base, namespace)
            finding = checks.finish_probe(settings, checks.start_probe(settings))
            assert not finding.ok
            assert "172.22.1.9 answers on oob0" in finding.sentence
            with pytest.raises(HostError, match=r"172\.22\.1\.9"):
                checks.require(iter([finding]))
            quiet = some_settings(base, namespace=namespace)
            assert checks.finish_probe(quiet, checks.start_probe(quiet)).ok
        finally:
            foreign.terminate()
            foreign.wait(10)
