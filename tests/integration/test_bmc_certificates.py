"""A Redfish BMC alone, with libvirt's own test server behind it: logins, and what TLS clients see.

The lab's BMC program itself, on an address of a namespace; no server, no hypervisor, no Ironic.
"""

import asyncio
import json
import os
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from pydantic import SecretStr

import provisioning.bmc
from provisioning import authority, discovery, plugins
from provisioning.authority import Authority, fingerprint
from provisioning.bmc import Access, Contact
from provisioning.bmc.redfish import Redfish
from provisioning.discovery import Finder
from provisioning.errors import BmcLoginRefused, BmcRefused, BmcUnreachable
from provisioning.models import Discovery
from provisioning.secrets import Sealer, Unsealer, make_keys
from provisioning.strict_tls import stands_alone
from seed.host import netns
from seed.lab import failed_logins
from seed.lab.bmc import _self_signed
from seed.lab.scenario import BmcSpec
from seed.lab.state import write_secret
from seed.reconciler import open_logins
from tests.fakes.appliance import environments, until
from tests.fakes.store import new_store
from tests.fakes.wire import appliance_namespace, ip

TOP = Path(__file__).resolve().parents[2]
ADDRESS, PASSWORD = "172.22.1.31", "factory-pass"
# The one server of libvirt's test driver.
UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
REDFISH: Redfish = plugins.load(provisioning.bmc)["redfish"]
OLD = Access("admin", SecretStr(PASSWORD))


@pytest.fixture(scope="module")
def wire() -> Iterator[str]:
    with appliance_namespace(f"seed-tb-{os.getpid()}") as namespace:
        ip("-n", namespace, "address", "add", f"{ADDRESS}/32", "dev", "oob0")
        yield namespace


@pytest.fixture(params=["address", "name"])
def factory(request: pytest.FixtureRequest) -> str:
    """What its factory certificate names."""
    return str(request.param)


@pytest.fixture(params=[True])
def service(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=["Lab Systems"])
def manufacturer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bmc(
    wire: str, tmp_path: Path, factory: str, service: bool, manufacturer: str
) -> Iterator[Path]:
    """A BMC that runs; its directory."""
    spec = BmcSpec.model_validate(
        {"protocol": "redfish", "address": ADDRESS, "mac": "52:54:00:22:01:1f",
         "certificate": factory}
    )  # fmt: skip
    _self_signed(spec, tmp_path / "cert.pem", tmp_path / "key.pem")
    config = {
        "address": ADDRESS, "port": 443, "netmask": "255.255.255.0", "mac": spec.mac,
        "username": "admin", "password": PASSWORD, "certificate": f"{tmp_path}/cert.pem",
        "key": f"{tmp_path}/key.pem", "certificate_service": service, "uuid": UUID,
        "chassis_uuid": UUID[::-1], "serial": "T-1", "manufacturer": manufacturer, "model": "T",
        "libvirt_uri": "test:///default", "ovmf_code": "x", "ovmf_vars": "y",
        "directory": str(tmp_path),
    }  # fmt: skip

    write_secret(tmp_path / "config.json", json.dumps(config))
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "seed").symlink_to(TOP / "seed")
    python = environments() / "lab" / "bin" / "python"
    argv = [
        *netns.prefix(wire),
        str(python),
        "-m",
        "seed.lab.redfish_bmc",
        f"{tmp_path}/config.json",
    ]
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "python")}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=env)
    try:
        until((tmp_path / "ready").exists, 60, "the BMC")
        yield tmp_path
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def inside(wire: str) -> Callable[[Callable[[], Any]], Any]:
    return lambda do: netns.call(wire, do)


def contact(inside: Callable[[Callable[[], Any]], Any]) -> Contact:
    found = inside(lambda: asyncio.run(REDFISH.probe(ADDRESS, 10)))
    assert found is not None
    return found


def as_ironic_does(inside: Callable[[Callable[[], Any]], Any], ca_file: Path) -> int:
    """sushy's transport with `verify` set to a file; the status, or an SSLError.

    Before that a client as strict as Python 3.13's are, whatever Python this is.
    """
    url = f"https://{ADDRESS}/redfish/v1/"
    strict = ssl.create_default_context(cafile=str(ca_file))
    strict.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN

    def shake_hands() -> None:
        with socket.create_connection((ADDRESS, 443), timeout=10) as line:
            try:
                strict.wrap_socket(line, server_hostname=ADDRESS).close()
            except ssl.SSLError as err:
                raise requests.exceptions.SSLError(str(err)) from err

    inside(shake_hands)
    return int(inside(lambda: requests.get(url, verify=str(ca_file), timeout=10)).status_code)


def an_authority(folder: Path) -> Authority:
    authority.make(folder / "ca.key", folder / "ca.pem")
    return Authority(folder / "ca.key", folder / "ca.pem")


def test_a_certificate_of_ours_replaces_the_factorys(
    bmc: Path, inside: Callable[[Callable[[], Any]], Any], factory: str
) -> None:
    first, ours = contact(inside), an_authority(bmc)
    assert stands_alone(first.certificate, ADDRESS) is (factory == "address")
    if factory == "address":
        assert as_ironic_does(inside, bmc / "cert.pem") == 200
    else:
        with pytest.raises(requests.exceptions.SSLError):
            as_ironic_does(inside, bmc / "cert.pem")
    csr = inside(lambda: REDFISH.request_csr(first, OLD, 60))
    pem = ours.sign(csr, ADDRESS)
    inside(lambda: REDFISH.install_certificate(first, OLD, pem, 30))
    second = contact(inside)
    assert second.fingerprint == fingerprint(pem) != first.fingerprint
    assert ours.signed(second.certificate, ADDRESS)
    assert as_ironic_does(inside, bmc / "ca.pem") == 200
    inside(lambda: REDFISH.check_login(second, OLD, 30))
    with pytest.raises(BmcUnreachable):  # pinned to the old one: no login goes out
        inside(lambda: REDFISH.check_login(first, OLD, 30))
    assert failed_logins.read(bmc / "failed_logins")["count"] == 0


@pytest.mark.parametrize("factory", ["name"], indirect=True)
def test_a_certificate_for_another_key_is_refused(
    bmc: Path, inside: Callable[[Callable[[], Any]], Any]
) -> None:
    first, ours = contact(inside), an_authority(bmc)
    pem = ours.sign(inside(lambda: REDFISH.request_csr(first, OLD, 60)), ADDRESS)
    inside(lambda: REDFISH.request_csr(first, OLD, 60))  # a new key: the older request is void
    with pytest.raises(BmcRefused, match="keeps its certificate"):
        inside(lambda: REDFISH.install_certificate(first, OLD, pem, 30))
    assert contact(inside).fingerprint == first.fingerprint


@pytest.mark.parametrize("factory", ["name"], indirect=True)
@pytest.mark.parametrize("service", [False], indirect=True)
def test_a_bmc_without_the_service_says_so(
    bmc: Path, inside: Callable[[Callable[[], Any]], Any]
) -> None:
    with pytest.raises(BmcRefused, match=r"172\.22\.1\.31 makes no certificate"):
        inside(lambda: REDFISH.request_csr(contact(inside), OLD, 60))


@pytest.mark.parametrize("factory", ["name"], indirect=True)
def test_a_password_is_changed_and_each_refusal_counted(
    bmc: Path, inside: Callable[[Callable[[], Any]], Any]
) -> None:
    found, new = contact(inside), SecretStr("a-new-password-2-try")
    lengths = inside(lambda: REDFISH.password_lengths(found, OLD, 30))
    assert (lengths.least, lengths.most) == (8, 40)
    for wrong in ("short", "x" * 41):
        with pytest.raises(BmcRefused, match="refused the new password"):
            inside(lambda w=wrong: REDFISH.set_password(found, OLD, SecretStr(w), 30))
    inside(lambda: REDFISH.set_password(found, OLD, new, 30))
    inside(lambda: REDFISH.check_login(found, Access("admin", new), 30))
    with pytest.raises(BmcLoginRefused):
        inside(lambda: REDFISH.check_login(found, OLD, 30))
    assert failed_logins.read(bmc / "failed_logins")["count"] == 1, "one request, one refusal"
    assert inside(lambda: REDFISH.maker(found, 10)).startswith("Lab Systems")


@pytest.mark.parametrize("factory", ["name"], indirect=True)
@pytest.mark.parametrize("manufacturer", ["Huawei"], indirect=True)
def test_a_vendors_defaults_are_tried_twice_however_often_one_asks(
    bmc: Path, inside: Callable[[Callable[[], Any]], Any]
) -> None:
    make_keys(bmc / "master.key", bmc / "master.pub")
    unsealer = Unsealer(bmc / "master.key")
    store = new_store(bmc)
    finder = Finder(store, {"redfish": REDFISH}, open_logins(unsealer), Sealer(bmc / "master.pub"))
    for _ in range(3):
        with store.write() as session:
            asked = discovery.request(session, [ADDRESS], None, "me", defaults=True).id
        inside(lambda i=asked: finder.run(i))
        with store.read() as session:
            row = session.get_one(Discovery, asked)
        assert row.found == 1
        assert row.logged_in == 0
        assert "refused" in row.problems[0]["problem"]
    assert failed_logins.read(bmc / "failed_logins")["count"] == 2
