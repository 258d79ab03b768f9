"""What Ironic is told of a node's class, and what of the node is left alone."""

from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioning.dress import capabilities, dress, with_boot_mode, with_capabilities
from provisioning.ironic import Node
from provisioning.models import Bmc
from tests.fakes.ironic import FakeIronic


class Site:
    def __init__(self, **node: Any) -> None:
        self.ironic = FakeIronic()
        self.uuid = uuid4()
        self.ironic.add("r1", self.uuid, **node)

    def dress(self, traits: list[str], **mine: str) -> Node:
        bmc = Bmc(
            address="192.0.2.1", protocol="fake", node_uuid=self.uuid, hardware_class="storage",
            resource_class="storage", classed={"traits": traits, "capabilities": mine},
        )  # fmt: skip
        return dress(self.ironic, bmc, self.ironic.node(self.uuid))  # type: ignore[arg-type]


def test_a_node_gets_what_its_class_says_and_keeps_what_is_not_of_it() -> None:
    site = Site(
        properties={"capabilities": "boot_mode:uefi", "vendor": "Dell"},
        extra={"seed": {"serial": "S1"}},
    )
    node = site.dress(["CUSTOM_B", "CUSTOM_A"], disks="many")
    assert node.resource_class == "storage"
    assert node.traits == ("CUSTOM_A", "CUSTOM_B")
    assert node.properties == {"capabilities": "boot_mode:uefi,disks:many", "vendor": "Dell"}
    assert node.extra["seed"] == {
        "serial": "S1", "class": "storage", "capabilities": ["disks"],
    }  # fmt: skip


def test_another_class_takes_off_what_the_former_one_gave() -> None:
    site = Site(properties={"capabilities": "boot_mode:uefi"})
    site.dress(["CUSTOM_A"], disks="many")
    node = site.dress([], speed="high")
    assert capabilities(node.properties) == {"boot_mode": "uefi", "speed": "high"}
    assert node.traits == ()


def test_a_node_that_is_so_already_is_not_written() -> None:
    site = Site()
    site.dress(["CUSTOM_A"], disks="many")
    writes = site.ironic.writes
    site.dress(["CUSTOM_A"], disks="many")
    assert site.ironic.writes == writes > 0


@pytest.mark.parametrize("state", ["active", "deploying", "cleaning", "clean failed"])
def test_a_node_that_ironic_would_not_change_is_left_for_later(state: str) -> None:
    site = Site(provision_state=state)
    assert site.dress(["CUSTOM_A"]).resource_class == "baremetal"


def test_a_node_of_no_class_keeps_what_it_has() -> None:
    site = Site(traits=("CUSTOM_X",), resource_class="adopted")
    bmc = Bmc(address="192.0.2.1", protocol="fake", node_uuid=site.uuid)
    assert dress(site.ironic, bmc, site.ironic.node(site.uuid)).traits == ("CUSTOM_X",)  # type: ignore[arg-type]


def test_the_boot_mode_is_learnt_beside_what_the_class_gave() -> None:
    node = Site(properties={"capabilities": "boot_mode:bios,disks:many"}).ironic.nodes()[0]
    assert with_boot_mode(node, "") == node.properties
    assert with_boot_mode(node, "uefi")["capabilities"] == "boot_mode:uefi,disks:many"


words = st.text("abcXYZ09_.-", min_size=1)


@given(st.dictionaries(words, words))
def test_capabilities_come_back_as_they_were_written(wanted: dict[str, str]) -> None:
    assert capabilities(with_capabilities({}, wanted)) == wanted
