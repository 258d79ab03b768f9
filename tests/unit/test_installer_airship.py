"""Airship's files: documents as drydock takes them, no login in them, what is refused before."""

from dataclasses import replace
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from provisioning.installers import NodeFacts, OvercloudFacts, Wire
from provisioning.installers.airship import PLUGIN
from tests.fakes import drydock_documents as drydock
from tests.unit import overcloud_facts
from tests.unit.overcloud_golden import same

FACTS = {"small": overcloud_facts.small(), "large": overcloud_facts.large()}
SMALL = FACTS["small"]


def tree(facts: OvercloudFacts) -> dict[str, str]:
    return {one.path: one.content.decode() for one in PLUGIN.tree(facts, PLUGIN.secrets(facts))}


def design(facts: OvercloudFacts) -> dict[tuple[str, str], Any]:
    return drydock.read([text for path, text in tree(facts).items() if path.endswith(".yaml")])


def first(facts: OvercloudFacts, **changes: Any) -> OvercloudFacts:
    """The first node is changed."""
    return replace(facts, nodes=(replace(facts.nodes[0], **changes), *facts.nodes[1:]))


def rewired(facts: OvercloudFacts, **wires: Wire) -> OvercloudFacts:
    return first(facts, wires={**facts.nodes[0].wires, **wires})


@pytest.mark.parametrize("size", FACTS)
def test_its_files_are_the_golden_ones(size: str) -> None:
    assert PLUGIN.faults(FACTS[size]) == []
    same("airship", size, PLUGIN.tree(FACTS[size], {}))


@pytest.mark.parametrize("size", FACTS)
def test_drydock_takes_them(size: str) -> None:
    drydock.check(design(FACTS[size]))
    own = replace(FACTS[size], options={"host_profile": "k8-node"})
    told = design(own)
    assert not [name for kind, name in told if kind == "HostProfile"]
    drydock.check(told, frozenset({"k8-node"}))


def test_that_check_is_strict() -> None:
    files = tree(SMALL)
    for path, old, new in (
        ("nodes.yaml", "device_link", "link"),
        ("racks.yaml", "tor_switches", "switches"),
        ("networks.yaml", "vlan: '20'", "vlan: 20"),
        ("networks.yaml", "mode: 802.3ad", "mode: lacp"),
        ("profiles.yaml", "primary_network: api", "oob: {account: root}"),
        ("profiles.yaml", "storagePolicy", "storage"),
    ):
        assert old in files[path]
        with pytest.raises(ValidationError):
            drydock.read([files[path].replace(old, new, 1)])


def test_what_is_on_one_bond_is_on_one_link() -> None:
    told = design(SMALL)
    bond = told["NetworkLink", "api-tunnel-storage"]
    assert bond.bonding.mode == "802.3ad"
    assert (bond.trunking.mode, bond.trunking.default_network, bond.mtu) == ("802.1q", None, 9000)
    out = told["NetworkLink", "external"]
    assert (out.bonding.mode, out.trunking.mode) == ("disabled", "disabled")
    node = told["BaremetalNode", "cloud-control-0"]
    assert node.interfaces["bond0"].slaves == ["up0", "up1"]
    assert {one.network: one.address for one in node.addressing} == {
        "api": "10.20.0.10", "tunnel": "10.30.0.10", "storage": "10.40.0.10",
    }  # fmt: skip


def test_a_link_is_shared_where_any_node_shares_it() -> None:
    """The storage network of one node comes over another NIC: the link's NIC is each node's own."""
    facts = rewired(SMALL, storage=replace(SMALL.nodes[0].wires["storage"], link="out"))
    (fault,) = PLUGIN.faults(facts)
    assert "on bonds of different modes: disabled and 802.3ad" in fault.sentence
    alike = Wire("out.40", "10.40.0.10/24", "out", "", True, ("out",))
    apart = replace(SMALL, nodes=tuple(
        replace(one, wires={**one.wires, "storage": alike} if n == 0 else {
            use: wire for use, wire in one.wires.items() if use != "storage"})
        for n, one in enumerate(SMALL.nodes)
    ))  # fmt: skip
    assert PLUGIN.faults(apart) == []
    drydock.check(design(apart))
    link = design(apart)["NetworkLink", "storage-external"]
    assert (link.trunking.mode, link.trunking.default_network) == ("802.1q", "external")


def test_two_uses_of_one_network_are_one_document() -> None:
    networks = {**SMALL.networks, "tunnel": SMALL.networks["api"]}

    def one(node: NodeFacts) -> NodeFacts:
        return replace(node, wires={**node.wires, "tunnel": node.wires["api"]})

    facts = replace(SMALL, networks=networks, nodes=tuple(map(one, SMALL.nodes)))
    assert PLUGIN.faults(facts) == []
    drydock.check(design(facts))


def test_racks_of_one_name_are_told_apart() -> None:
    facts = first(FACTS["large"], row="b")
    racks = [name for kind, name in design(facts) if kind == "Rack"]
    assert racks == ["dc1-b-r1", "r2", "dc1-a-r1"]
    drydock.check(design(facts))


def test_kernel_arguments_are_flags_or_words() -> None:
    facts = first(SMALL, kernel_args=("quiet", "hugepages=16"))
    params = design(facts)["BaremetalNode", "cloud-control-0"].platform.kernel_params
    assert params == {"quiet": True, "hugepages": "16"}


def test_a_credential_is_a_name_of_another_document() -> None:
    facts = replace(SMALL, options={"oob_credential": "ipmi_admin_password"})
    (told,) = yaml.safe_load_all(tree(facts)["profiles.yaml"])
    (one,) = told["metadata"]["substitutions"]
    assert one["src"] == {
        "schema": "deckhand/Passphrase/v1", "name": "ipmi_admin_password", "path": ".",
    }  # fmt: skip
    drydock.check(design(facts))
    assert PLUGIN.secrets(facts) == {}
    for path, text in tree(facts).items():
        if path.endswith(".yaml"):
            assert not {"account", "password", "username"} & {*text.replace(":", " ").split()}, path


UNTAGGED = Wire("bond0", "10.40.0.10/24", "bond0", "", False, ("up0", "up1"), "802.3ad")
FAULTS = [
    (replace(SMALL, options={"x": 1}), "options.x", "not as it must be"),
    (replace(SMALL, options={"host_profile": "a b"}), "options.host_profile", "not as it must be"),
    (replace(SMALL, networks={}), "networks", "it has no network"),
    (
        replace(SMALL, networks={
            **SMALL.networks, "storage": replace(SMALL.networks["storage"], cidr="fd00::/64"),
        }),
        "networks.storage", "drydock's ranges are of IPv4, and storage has fd00::/64",
    ),
    (
        rewired(SMALL, external=replace(SMALL.nodes[0].wires["external"], bond_mode="balance-xor")),
        "networks.external", "no bond of mode balance-xor",
    ),
    (
        rewired(SMALL, storage=UNTAGGED),
        "networks.storage", "storage is tagged on some nodes and not on cloud-control-0",
    ),
    (
        replace(SMALL, nodes=tuple(
            replace(one, wires={**one.wires, "storage": UNTAGGED, "tunnel": UNTAGGED})
            for one in SMALL.nodes
        )),
        "networks.storage", "tunnel and storage share a link without a tag",
    ),
    (first(SMALL, name="a__b"), "name", "no host name such as a__b"),
    (
        first(SMALL, wires={"external": SMALL.nodes[0].wires["external"]}),
        "networks.api", "cloud-control-0 is not in api",
    ),
    (
        first(SMALL, kernel_args=("console=tty0", "console=ttyS0")),
        "control.kernel_args", "one kernel argument console, and cloud-control-0 has more",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "field", "sentence"), FAULTS, ids=lambda one: str(one)[:40])
def test_what_cannot_be_is_said_before(facts: Any, field: str, sentence: str) -> None:
    (fault,) = PLUGIN.faults(facts)
    assert fault.field == field
    assert sentence in fault.sentence
    assert fault.remedy.endswith(".")
