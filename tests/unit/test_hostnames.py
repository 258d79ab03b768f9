"""BMCs by host name in imported files: one look-up, one sentence, never a wait without an end."""

import json
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlmodel import select

from provisioning import cloud, hostnames, lists
from provisioning.adoption import Foreign
from provisioning.hostnames import Answer, resolved
from provisioning.room import Observation
from provisioning.secrets import Sealer, make_keys
from tests.fakes.store import new_store

ZONE = {
    "ilo1.example.com": ["10.0.1.11"],
    "both.example.com": ["10.0.1.12", "2001:db8::12"],
    "six.example.com": ["2001:db8::13"],
    "two.example.com": ["10.0.1.14", "10.0.1.15"],
    "localhost": ["127.0.0.1"],
    "xn--bcher-kva.example": ["10.0.1.16"],
}


class Dns:
    """getaddrinfo(3) over a zone of our own; counts, and hangs for names that begin so."""

    def __init__(self) -> None:
        self.asked, self.go_on = Counter[str](), threading.Event()

    def __call__(self, name: str, port: object, **_: object) -> list[Any]:
        self.asked[name] += 1
        if name.startswith("slow"):
            self.go_on.wait(30)
        if name not in ZONE:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_UNSPEC, 0, 0, "", (address, 0)) for address in ZONE[name]]


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Any:
    server = Dns()
    monkeypatch.setattr(socket, "getaddrinfo", server)
    yield server
    server.go_on.set()


@pytest.mark.parametrize(
    ("name", "address", "problem"),
    [
        ("ilo1.example.com", "10.0.1.11", ""),
        ("both.example.com", "10.0.1.12", ""),
        ("six.example.com", "2001:db8::13", ""),
        ("xn--bcher-kva.example", "10.0.1.16", ""),
        ("two.example.com", "", "has not one address but 10.0.1.14, 10.0.1.15"),
        ("localhost", "", "has not one address but none that a BMC may have"),
        ("gone.example.com", "", "is not known to DNS"),
        ("see label!", "", "is neither an address nor a host name"),
        ("-x.example.com", "", "is neither an address nor a host name"),
        ("a" * 64, "", "is neither an address nor a host name"),
        ("a." * 130, "", "is neither an address nor a host name"),
        ("", "", "is neither an address nor a host name"),
    ],
)
def test_a_name_is_one_address_or_one_sentence(
    dns: Dns, name: str, address: str, problem: str
) -> None:
    answer = resolved([name, name])[name]
    assert answer.address == address
    assert answer.problem.startswith(problem)
    assert bool(answer.problem) is not bool(address)
    assert max(dns.asked.values(), default=0) <= 1


def test_dns_that_hangs_costs_the_time_that_is_given(dns: Dns) -> None:
    """More names than threads hang; the rest of the list is not waited for either."""
    slow = [f"slow{n}" for n in range(hostnames.AT_ONCE + 5)]
    begin = time.monotonic()
    answers = resolved([*slow, "ilo1.example.com"], timeout=0.3)
    assert time.monotonic() - begin < 5
    assert answers["ilo1.example.com"] == Answer("ilo1.example.com", "10.0.1.11")
    assert all("no answer from DNS in 0 s" in answers[name].problem for name in slow)


def test_nobody_is_asked_for_addresses(dns: Dns) -> None:
    assert resolved([]) == {}
    assert dns.asked == {}


def node(name: str, host: str) -> dict[str, Any]:
    return {
        "name": name, "driver": "redfish",
        "driver_info": {"redfish_address": f"https://{host}:443", "redfish_username": "root",
                        "redfish_password": "secret"},
    }  # fmt: skip


def test_an_import_keeps_all_and_says_what_was_found(dns: Dns, tmp_path: Path) -> None:
    make_keys(tmp_path / "key", tmp_path / "pub")
    store = new_store(tmp_path)
    hosts = {"a": "ILO1.example.com", "b": "gone.example.com", "c": "10.0.1.99"}
    body = json.dumps({"nodes": [node(name, host) for name, host in hosts.items()]}).encode()
    done = lists.Keeper(store, Sealer(tmp_path / "pub"), "me").file("nodes.json", body, None)
    assert (done.servers, done.logins) == (3, 3)
    assert done.hosts[1] == "ilo1.example.com is 10.0.1.11"
    assert done.hosts[0].startswith("gone.example.com is not known to DNS")
    with store.read() as session:
        rows = {row.node_name: row for row in session.exec(select(Observation))}
    assert {n: r.bmc_address for n, r in rows.items()} == {
        "a": "10.0.1.11", "b": "", "c": "10.0.1.99"
    }  # fmt: skip
    assert rows["b"].facts["bmc_host"] == "gone.example.com"
    assert rows["a"].facts["bmc_host"] == "ilo1.example.com"


def test_another_ironics_bmcs_by_host_name(dns: Dns) -> None:
    hosts = ["ilo1.example.com", "gone.example.com", "10.0.1.99", ""]
    nodes = [Foreign(uuid=uuid4(), provision_state="active", bmc_address=host) for host in hosts]
    told = [node.bmc_address for node in cloud._addressed(nodes)]
    assert told == ["10.0.1.11", "gone.example.com", "10.0.1.99", ""]
