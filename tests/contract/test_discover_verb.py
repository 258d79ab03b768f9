"""`seed discover --one-by-one` as people type it: by HTTP, on a real wire. Needs root."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlmodel import select

import provisioning.bmc
from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from provisioning import plugins
from provisioning.bmc import Access
from provisioning.discovery import Finder
from provisioning.models import Bmc, Discovery
from provisioning.room import Observation
from seed.host import netns
from seed.lab.fleet.running import running
from seed.lab.fleet.spec import Spec
from tests.fakes.api import a_token, some_parts
from tests.fakes.appliance import base_folder, initialised, until
from tests.fakes.serving import api_on_a_port
from tests.fakes.wire import appliance_namespace, client_namespace, ip

FACTORY, PASSWORD = "172.22.1.120", "factory-password"
VERB = [sys.executable, "-m", "seed", "discover", FACTORY, "--one-by-one"]


@pytest.fixture(scope="module")
def wire() -> Iterator[str]:
    with appliance_namespace(f"seed-tv-{os.getpid()}") as namespace:
        yield namespace


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return some_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def env(wire: str, parts: Parts) -> Iterator[dict[str, str]]:
    """What the verb needs of its surroundings; the API behind it on a free port of loopback."""
    with api_on_a_port(create_app(parts, Door.WEB)) as url, base_folder() as base:
        initialised(base, wire)
        token = base / "token"
        token.write_text(a_token(parts, "staff", Role.OPERATOR))
        yield os.environ | {
            "SEED_CONFIG": str(base / "seed.toml"), "SEED_SERVER": url,
            "SEED_TOKEN_FILE": str(token), "COLUMNS": "200", "NO_COLOR": "1",
        }  # fmt: skip


@pytest.fixture(scope="module")
def reconciler(wire: str, parts: Parts) -> Iterator[None]:
    """Does what is asked for, in the wire's namespace."""
    stop = threading.Event()
    access = Access("admin", SecretStr(PASSWORD), "mark")
    finder = Finder(parts.store, plugins.load(provisioning.bmc), lambda _: access, parts.sealer)

    def run() -> None:
        while not stop.wait(0.05):
            with parts.store.read() as session:
                due = session.exec(select(Discovery.id).where(Discovery.state == "requested")).all()
            for one in due:
                netns.call(wire, lambda one=one: finder.run(one))

    thread = threading.Thread(target=run)
    thread.start()
    yield
    stop.set()
    thread.join()


@contextmanager
def plugged_in(wire: str, number: int, starting: Callable[[str], None] = str) -> Iterator[str]:
    """A Redfish BMC at the address that all of its kind come with; ARP it answers first."""
    mac = f"3c:ec:ef:00:00:{number:02x}"
    with client_namespace(wire, f"{wire}-{number}z", "oob0") as there:
        ip("-n", there, "link", "set", "eth0", "address", mac)
        for address in (f"172.22.1.{200 + number}", FACTORY):
            ip("-n", there, "address", "add", f"{address}/24", "dev", "eth0")
        starting(mac)
        ip("-n", there, "link", "set", "eth0", "down")  # until it has its serial number
        spec = Spec(addresses=(FACTORY,), range="198.51.100.0/24", password=SecretStr(PASSWORD))
        with running(spec, there) as fleet:
            fleet.set(FACTORY, serial=f"FACTORY-{number}")
            ip("-n", there, "link", "set", "eth0", "up")
            yield mac


def test_each_is_taken_in_turn(
    wire: str, parts: Parts, env: dict[str, str], reconciler: None, tmp_path: Path
) -> None:
    log = tmp_path / "words"
    with log.open("wb") as out:
        verb = subprocess.Popen(
            [*VERB, "--username", "admin", "--password-stdin"],
            env=env, stdin=subprocess.PIPE, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        assert verb.stdin
        verb.stdin.write(f"{PASSWORD}\n".encode())
        verb.stdin.close()

        def not_yet(mac: str) -> None:
            """It is asked twice while only its ARP answers."""
            asked = log.read_text().count("looking at") + 2
            until(lambda: log.read_text().count("looking at") >= asked, 60, "two sweeps")
            assert f"{mac} is taken" not in log.read_text()

        for number, starting in ((1, str), (2, not_yet)):
            with plugged_in(wire, number, starting) as mac:
                until(lambda m=mac: f"{m} is taken" in log.read_text(), 60, f"the BMC {mac}")
            assert f"FACTORY-{number}" in log.read_text(), log.read_text()
        verb.send_signal(signal.SIGINT)
        assert verb.wait(20) == 130
    finally:
        verb.kill()
        verb.wait(10)
    assert "Traceback" not in log.read_text()
    assert PASSWORD not in log.read_text()
    with parts.store.read() as session:
        assert session.exec(select(Bmc)).one().serial == "FACTORY-2"
        seen = session.exec(select(Observation)).all()
    assert sorted(o.serial for o in seen) == ["FACTORY-1", "FACTORY-2"]


def test_two_at_once_are_refused(wire: str, env: dict[str, str]) -> None:
    with plugged_in(wire, 1) as first, plugged_in(wire, 2) as second:
        said = subprocess.run(VERB, env=env, capture_output=True, text=True, timeout=60)
    assert said.returncode == 1
    assert f"2 BMCs have this one address: {first}, {second}" in said.stderr
    assert "try: Unplug all but one" in said.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        pytest.param(["10.0.0.0/24", "--rate", "nan"], "is no rate", id="no number"),
        pytest.param(["10.0.0.0/24", "--rate", "-1"], "is no rate", id="backwards"),
        pytest.param(["10.0.0.0/24", "--exclude", "10.9.0.0/24"], "excludes nothing", id="else"),
        pytest.param(["10.0.0.0/24", "--exclude", "::/0"], "excludes nothing", id="family"),
        pytest.param(["10.0.0.0/24", "--exclude", "0.0.0.0/0"], "leave no address", id="all"),
        pytest.param(["10.0.0.0/24", "--one-by-one"], "not one IPv4 address", id="a network"),
        pytest.param(["203.0.113.9", "--one-by-one"], "not on a wire", id="elsewhere"),
        pytest.param(["2001:db8::/64"], "more than a /112", id="large"),
    ],
)
def test_what_cannot_be(env: dict[str, str], parts: Parts, words: list[str], sentence: str) -> None:
    argv = [sys.executable, "-m", "seed", "discover", *words]
    with parts.store.read() as session:
        before = len(session.exec(select(Discovery)).all())
    said = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)
    assert said.returncode == 1, said.stderr
    assert sentence in said.stderr
    assert "  try: " in said.stderr
    assert "Traceback" not in said.stderr
    with parts.store.read() as session:
        assert len(session.exec(select(Discovery)).all()) == before
