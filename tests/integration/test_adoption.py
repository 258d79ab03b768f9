"""Two real Ironics: the nodes of one are taken over by the other, untouched.

Real Ironic with fake-hardware twice, each in a namespace of its own, and a real reconciler process.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr
from sqlmodel import select

from provisioning import adoption, cloud
from provisioning.acceptance import forget
from provisioning.errors import Invalid
from provisioning.ironic import Ironic
from provisioning.models import Bmc, Credential
from provisioning.states import Login
from seed.host import appliance, netns
from seed.host.paths import Paths
from tests.fakes.crashing import identity_of
from tests.fakes.settings import some_settings
from tests.fakes.wire import appliance_namespace
from tests.integration.test_crashes import Site, a_site

STATES = {1: "active", 2: "available", 3: "manageable"}


@contextmanager
def another_ironic(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Ironic]]:
    """Its namespace, and our own way into it; "bifrost" in clouds.yaml is the other way."""
    with (
        appliance_namespace(f"seed-to-{os.getpid()}") as namespace,
        tempfile.TemporaryDirectory(prefix="seed-other-", dir="/var/tmp") as name,
    ):
        base = Path(name)
        base.chmod(0o755)
        settings = some_settings(base, namespace=namespace, env_dir=Path(sys.prefix).parent)
        appliance.up(settings, names=["ironic"], extra_hardware=["fake-hardware"])
        password = Paths(settings).ironic_password("seed-reconciler").read_text().strip()
        login = {"endpoint": settings.ironic_url, "username": "seed-reconciler"}
        told = {"auth_type": "http_basic", "auth": login | {"password": password},
                "baremetal_endpoint_override": settings.ironic_url}  # fmt: skip
        (base / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"bifrost": told}}))
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(base / "clouds.yaml"))
        try:
            yield (
                namespace,
                Ironic(settings.ironic_url, "seed-reconciler", SecretStr(password)),
            )
        finally:
            appliance.down(settings)


def nodes_there(ironic: Ironic) -> None:
    """One active, one available, one manageable, with what people put there."""
    for number, state in STATES.items():
        uuid = f"10000000-0000-4000-8000-00000000000{number}"
        ironic.create_node(
            uuid=uuid,
            name=f"old-{number}",
            driver="fake-hardware",
            driver_info={"some_password": "hush", "kept": "there"},
            resource_class="gold",
            properties={"cpu_arch": "x86_64", "capabilities": "boot_mode:uefi"},
            extra={"rack": "r1u05"},
            instance_info={"image_source": "http://images/i.qcow2", "image_checksum": "0" * 32},
        )
        ironic.create_port(uuid, identity_of(f"192.0.2.{number}").macs[0])
        ironic.set_traits(uuid, ["CUSTOM_GPU"])
        ironic.provision(uuid, "manage")
        wait(ironic, uuid, "manageable")
        ironic.power(uuid, "power on")
        if state == "active":
            ironic.provision(uuid, "adopt")
        elif state == "available":
            ironic.patch_node(uuid, {"/automated_clean": False})
            ironic.provision(uuid, "provide")
        wait(ironic, uuid, state)


def wait(ironic: Ironic, uuid: str, state: str) -> None:
    from tests.fakes.appliance import until

    until(lambda: ironic.node(uuid).provision_state == state, 60, f"{uuid} {state}")


def found_here(site: Site) -> None:
    """As after a sweep with a login."""
    with site.store.write() as session:
        login = Credential(name="fake", username="u", sealed=b"x")
        session.add(login)
        session.flush()
        for number in STATES:
            address = f"192.0.2.{number}"
            who = identity_of(address)
            session.add(
                Bmc(
                    address=address, protocol="fake", login=Login.OK, credential_id=login.id,
                    serial=who.serial, system_uuid=who.system_uuid, macs=list(who.macs),
                )
            )  # fmt: skip


def raw(site: Site, uuid: str) -> dict[str, Any]:
    return dict(site.inside(lambda: site.ironic._get(f"/nodes/{uuid}")))


def bmc(site: Site, name: str) -> Bmc:
    with site.store.read() as session:
        return session.exec(select(Bmc).where(Bmc.node_name == name)).one()


@pytest.mark.timeout(600)
def test_nodes_are_taken_over_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    with another_ironic(monkeypatch) as (namespace, other), a_site() as site:
        netns.call(namespace, lambda: nodes_there(other))
        there = netns.call(namespace, lambda: cloud.nodes("bifrost"))
        with pytest.raises(Invalid, match="no cloud 'nope' is told in clouds"):
            cloud.nodes("nope")
        assert "hush" not in str(there)
        before = {n.uuid: n for n in netns.call(namespace, other.nodes)}
        with site.store.read() as session:
            lines = adoption.difference(session, there)
        assert {line.action for line in lines} == {"cannot"}, "nobody found their BMCs yet"

        found_here(site)
        with site.store.write() as session:
            lines = adoption.take(session, "bifrost", there, "ann")
        assert {line.action for line in lines} == {"take"}
        site.until("taken over", lambda: site.states() == ["active", "manageable", "manageable"])
        site.until("protected", lambda: "protected" in bmc(site, "old-1").detail)

        for number in STATES:
            uuid = f"10000000-0000-4000-8000-00000000000{number}"
            ours, theirs = raw(site, uuid), before[uuid]
            assert (ours["name"], ours["resource_class"]) == (theirs.name, "gold")
            assert ours["properties"] == theirs.properties
            assert ours["extra"]["rack"] == "r1u05"
            assert ours["extra"]["seed"]["serial"] == f"FAKE-{number}"
            assert ours["traits"] == ["CUSTOM_GPU"]
            assert ours["driver_info"] == {}, "ours is made here, and theirs is masked"
            assert ours["target_power_state"] is None, "no power verb was ever given"
            assert (ours["inspection_finished_at"], ours["clean_step"]) == (None, {})
            ports = site.inside(lambda uuid=uuid: site.ironic.ports(uuid))
            assert list(ports) == list(identity_of(f"192.0.2.{number}").macs)
        active = raw(site, "10000000-0000-4000-8000-000000000001")
        assert (active["protected"], active["protected_reason"]) == (True, "adopted from bifrost")
        assert active["instance_info"]["image_source"] == "http://images/i.qcow2"
        after = {n.uuid: n for n in netns.call(namespace, other.nodes)}
        assert after == before, "nothing was changed there"
        with site.store.read() as session:
            assert {x.action for x in adoption.difference(session, there)} == {"ours"}

        # Forgotten again, protected or not: out of our Ironic, as before.
        with site.store.write() as session:
            row = session.exec(select(Bmc).where(Bmc.node_name == "old-1")).one()
            forget(session, row, "ann")
        site.until("forgotten", lambda: site.states() == ["manageable", "manageable"])
