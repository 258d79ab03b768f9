"""Which nodes of another Ironic are taken over, and why the others are not."""

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlmodel import select

from provisioning import adoption
from provisioning.acceptance import accept
from provisioning.adoption import Foreign, Line
from provisioning.errors import Invalid
from provisioning.models import Bmc, Hold
from provisioning.states import BmcGoal, Login
from provisioning.store import Store
from tests.fakes.store import new_store

MAC = "52:54:00:00:00:01"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path)


def found(store: Store, number: int = 1, **facts: Any) -> None:
    told = {"serial": f"SER{number}", "login": Login.OK, "protocol": "redfish"}
    with store.write() as session:
        session.add(Bmc(**{"address": f"10.0.0.{number}"} | told | facts))


def there(**facts: Any) -> Foreign:
    told = {"uuid": uuid4(), "name": "web-1", "driver": "redfish", "provision_state": "active",
            "bmc_address": "10.0.0.1", "ports": [{"address": MAC}]}  # fmt: skip
    return Foreign.model_validate(told | facts)


def lines(store: Store, *nodes: Foreign) -> list[Line]:
    with store.read() as session:
        return adoption.difference(session, list(nodes))


@pytest.mark.parametrize("state", sorted(adoption.TAKEN))
def test_what_is_at_rest_is_taken(store: Store, state: str) -> None:
    found(store)
    (line,) = lines(store, there(provision_state=state))
    assert (line.action, line.bmc, line.name) == ("take", "10.0.0.1", "web-1")


@pytest.mark.parametrize(
    ("node", "bmc", "why", "remedy"),
    [
        ({"provision_state": "wait call-back"}, {}, "it is wait call-back there", "Wait"),
        ({"provision_state": "deploy failed"}, {}, "it is deploy failed there", "Wait"),
        ({"bmc_address": "10.0.0.9", "ports": []}, {}, "BMC 10.0.0.9 was not found", "10.0.0.9"),
        ({"bmc_address": "", "ports": []}, {}, r"BMC \(not told\) was not found", "seed discover"),
        ({}, {"login": Login.NONE}, "no login to BMC 10.0.0.1 has worked", "--password-stdin"),
        ({}, {"serial": ""}, "does not tell its server's serial", "set it in the BMC"),
        (
            {"name": "Web_1.example"},
            {},
            "its name 'Web_1.example' is no host",
            "baremetal node set",
        ),
    ],
)
def test_what_cannot_be_taken_says_why(
    store: Store, node: dict[str, Any], bmc: dict[str, Any], why: str, remedy: str
) -> None:
    found(store, **bmc)
    (line,) = lines(store, there(**node))
    assert line.action == "cannot"
    with pytest.raises(Invalid, match=why):
        raise Invalid(line.why, "")
    assert remedy in line.remedy


def test_a_bmc_is_found_by_its_servers_nic_where_its_address_is_a_name(store: Store) -> None:
    found(store, macs=[MAC])
    (line,) = lines(store, there(bmc_address="bmc1.example", name=""))
    assert (line.action, line.bmc, line.name) == ("take", "10.0.0.1", "ser1")


def test_two_nodes_with_one_bmc_are_not_guessed(store: Store) -> None:
    found(store)
    both = lines(store, there(), there(name="web-2"))
    assert {line.action for line in both} == {"cannot"}


def test_a_server_that_is_ours_by_another_name_stays_ours(store: Store) -> None:
    found(store)
    with store.write() as session:
        accept(session, session.exec(select(Bmc)).one(), "mine", "baremetal", "me")
    (line,) = lines(store, there())
    assert (line.action, line.why) == ("cannot", "its server was accepted here as mine")


def test_taking_writes_what_our_ironic_shall_be_told_and_no_mask(store: Store) -> None:
    found(store)
    info: dict[str, Any] = {
        "image_source": "http://x/i", "configdrive": "******", "root": {"password": "******"},
        "kernel_append_params": "quiet\nshell",
    }  # fmt: skip
    node = there(instance_info=info, resource_class="gold", extra={"rack": "r1"})
    with store.write() as session:
        adoption.take(session, "bifrost", [node], "ann")
    with store.read() as session:
        bmc = session.exec(select(Bmc)).one()
        assert session.get(Hold, node.uuid) is not None
    assert (bmc.goal, bmc.node_uuid, bmc.node_name, bmc.resource_class, bmc.accepted_by) == (
        BmcGoal.ADOPTED, UUID(str(node.uuid)), "web-1", "gold", "ann"
    )  # fmt: skip
    assert bmc.adoption["instance_info"] == {"image_source": "http://x/i"}
    assert "******" not in str(bmc.adoption)
    assert bmc.macs == [MAC]
    assert [line.action for line in lines(store, node)] == ["ours"]


def test_two_new_nodes_of_one_name_are_not_both_taken(store: Store) -> None:
    found(store, 1)
    found(store, 2)
    nodes = [there(ports=[]), there(bmc_address="10.0.0.2", ports=[])]
    with store.write() as session:
        taken = adoption.take(session, "bifrost", nodes, "ann")
    assert [line.action for line in taken] == ["take", "cannot"]
    assert "the name web-1 belongs to" in taken[1].why
